"""A mirror served on: what it lists, and in which order."""

import os
import shutil
import time

import pytest
from support.arrivals import Holding, row
from support.wire import ask, write_tree

from pipeline.datastore.server import DataStoreApp, serve
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker
from pipeline.serving import MirrorTree

ONE, TWO, THREE = row("one", 0), row("two", 1), row("three", 2)


def serve_mirror_at(root, **policy):
    return serve(DataStoreApp(MirrorTree(Layout(root), **policy)))


@pytest.fixture
def holding(tmp_path) -> Holding:
    """A mirror with three filesets, in the order of the listing."""
    holding = Holding(Layout(tmp_path / "mirror"))
    holding.know(ONE, TWO, THREE)
    holding.arrivals.settle("p")
    for number, each in enumerate([ONE, TWO, THREE]):
        holding.arrive(each, b"x" * number)
    return holding


@pytest.fixture
def mirror(holding):
    return holding.layout.root


def names_listed(server, path="/p/index.txt"):
    return [line.split(b"|")[0].strip().decode() for line in ask(server, path).body.split(b"\n")[1:-2]]


def withdraw(holding: Holding, name: str) -> None:
    write_marker(holding.layout.marker(MarkerKind.WITHDRAWN, "p", name), {"product": "p", "fileset": name})


def long_ago(holding: Holding) -> None:
    """All files have the same times as before, whatever was changed."""
    for path in holding.layout.root.rglob("*"):
        os.utime(path, (1, 1))


def test_a_mirror_lists_what_it_holds_whole(mirror):
    with serve_mirror_at(mirror) as server:
        assert ask(server, "/p/index.txt").body == (
            b"# filesetID|time registered     |type    |stage|\n"
            b"one        |2009-08-11T00:00:00Z|IPP-DIST|chip |\n"
            b"two        |2009-08-11T00:00:01Z|IPP-DIST|chip |\n"
            b"three      |2009-08-11T00:00:02Z|IPP-DIST|chip |\n\n"
        )
        (mirror / "store/p/two/a.fits").unlink()
        (mirror / "store/p/three/index.txt").unlink()
        assert names_listed(server) == ["one"]
        assert ask(server, "/p/one/a.fits").status == 200


def test_of_an_incomplete_fileset_nothing_is_served(mirror):
    """Its pages and files are answered as those of one that is unknown."""
    lost = mirror / "store/p/two/a.fits"
    (lost.parent / "fileset.note").write_bytes(b"what is left out")
    paths = ("", "/", "/index.txt", "/fileset.note", "/a.fits")
    with serve_mirror_at(mirror) as server:
        assert [ask(server, f"/p/two{path}").status for path in paths[2:]] == [200] * 3
        content = lost.read_bytes()
        lost.unlink()
        unknown = [ask(server, f"/p/unknown{path}") for path in paths]
        answers = [ask(server, f"/p/two{path}") for path in paths]
        assert [each.status for each in answers] == [404] * len(paths)
        assert [each.body for each in answers] == [each.body.replace(b"unknown", b"two") for each in unknown]
        assert names_listed(server) == ["one", "three"]
        lost.write_bytes(content)
        assert [ask(server, f"/p/two{path}").status for path in paths[2:]] == [200] * 3


def test_a_row_that_is_being_added_is_not_served(mirror):
    for path in (mirror / "state/p/listing.txt", mirror / "state/p/arrivals.txt"):
        with open(path, "ab") as file:
            file.write(b"two|2009-0")
    with serve_mirror_at(mirror) as server:
        assert names_listed(server) == ["one", "two", "three"]
        assert names_listed(server, "/p/index.txt?two") == ["three"]


def test_names_that_begin_with_a_dot_are_served(holding, mirror):
    hidden = row(".hidden", 3)
    holding.know(ONE, TWO, THREE, hidden)
    holding.arrive(hidden)
    (mirror / "store/p/.hidden/.file").write_bytes(b"content")
    shutil.copytree(mirror / "store/p", mirror / "store/.p")
    with serve_mirror_at(mirror) as server:
        assert names_listed(server) == ["one", "two", "three", ".hidden"]
        assert ask(server, "/p/.hidden/.file").body == b"content"
        assert names_listed(server, "/index.txt") == [".p", "p"]
        for path in ("/p/../index.txt", "/p/%2e%2e/p/one/a.fits", "/%2e/p/index.txt", "/p/one/%2e%2e"):
            assert ask(server, path).status == 404


def test_a_mirror_that_has_nothing_yet_lists_nothing(tmp_path):
    with serve_mirror_at(tmp_path) as server:
        assert names_listed(server, "/index.txt") == []
        assert ask(server, "/p/index.txt").status == 404


def test_what_arrives_late_is_newer_than_what_readers_have_seen(holding):
    late = row("late", 0)
    holding.know(late, ONE, TWO, THREE)
    with serve_mirror_at(holding.layout.root) as server:
        assert names_listed(server, "/p/index.txt?three") == []
        holding.arrive(late)
        assert names_listed(server, "/p/index.txt?three") == ["late"]
        assert names_listed(server) == ["one", "two", "three", "late"]


def test_an_order_of_arrival_does_not_depend_on_times_of_folders(holding, tmp_path):
    shutil.copytree(holding.layout.root, tmp_path / "copy", copy_function=shutil.copy)
    for name in ("three", "one"):
        (tmp_path / "copy/store/p" / name).chmod(0o700)
        os.utime(tmp_path / "copy/store/p" / name)
    with serve_mirror_at(tmp_path / "copy") as server:
        assert names_listed(server) == ["one", "two", "three"]
        assert names_listed(server, "/p/index.txt?one") == ["two", "three"]


def test_a_pending_registration_is_not_served_before_its_files(holding):
    again = row("one", 9)
    holding.know(TWO, THREE, again)
    holding.unmark("one")
    with serve_mirror_at(holding.layout.root) as server:
        assert names_listed(server) == ["one", "two", "three"]
        assert b"one        |2009-08-11T00:00:00Z|" in ask(server, "/p/index.txt").body
        holding.arrive(again, b"new")
        assert names_listed(server) == ["two", "three", "one"]
        assert b"one        |2009-08-11T00:00:09Z|" in ask(server, "/p/index.txt?three").body


def test_what_is_withdrawn_upstream_is_not_listed(holding):
    with serve_mirror_at(holding.layout.root) as server:
        withdraw(holding, "two")
        assert names_listed(server) == ["one", "three"]
        assert names_listed(server, "/p/index.txt?one") == ["three"]
        assert ask(server, "/p/index.txt?two").body == b"\n"
        assert ask(server, "/p/two/a.fits").status == 200


@pytest.mark.parametrize("damage", ["deleted", "emptied", "byte flipped", "zeros"])
def test_without_a_sound_order_of_arrival_every_question_gets_the_whole_list(damage, holding):
    path = holding.layout.arrivals("p")
    content = path.read_bytes()
    damaged = {
        "emptied": b"",
        "byte flipped": content.replace(b"|chip|2|", b"|chap|2|"),
        "zeros": content[:200] + bytes(100) + content[300:],
    }
    if damage == "deleted":
        path.unlink()
    else:
        assert damaged[damage] != content
        path.write_bytes(damaged[damage])
    holding.know(THREE, ONE, TWO)
    with serve_mirror_at(holding.layout.root) as server:
        for question in ("", "?one", "?two", "?three"):
            assert names_listed(server, f"/p/index.txt{question}") == ["three", "one", "two"]
        assert ask(server, "/p/index.txt?four").body == b"\n"
        holding.unmark("one")
        assert names_listed(server) == ["three", "two"], "its row may be that of a later registration"
    assert path.exists() == (damage != "deleted"), "the server writes nothing"


def test_the_listing_is_kept_until_something_changes(holding):
    mirror = holding.layout.root
    long_ago(holding)
    with serve_mirror_at(mirror, settled_after=0) as server:
        assert names_listed(server) == ["one", "two", "three"]
        (mirror / "store/p/two/a.fits").unlink()
        assert names_listed(server) == ["one", "two", "three"], "no folder is examined"
        os.utime(mirror / "store/p")
        assert names_listed(server) == ["one", "three"]
        long_ago(holding)
        assert names_listed(server) == ["one", "three"]
        withdraw(holding, "one")
        assert names_listed(server) == ["three"]
        long_ago(holding)
        assert names_listed(server) == ["three"]
        holding.arrive(row("four", 3))
        assert names_listed(server) == ["three", "four"]


def test_two_changes_in_one_tick_of_any_clock_are_both_seen(holding):
    """Files have the time of a file server whose clock is years behind, before and after the change."""
    long_ago(holding)
    with serve_mirror_at(holding.layout.root) as server:
        assert names_listed(server) == ["one", "two", "three"]
        withdraw(holding, "one")
        long_ago(holding)
        assert names_listed(server) == ["two", "three"]
        withdraw(holding, "two")
        long_ago(holding)
        assert names_listed(server) == ["three"]


def test_the_listing_is_kept_once_it_was_read_after_that_time(holding):
    with serve_mirror_at(holding.layout.root, settled_after=0.02) as server:
        assert names_listed(server) == ["one", "two", "three"]
        time.sleep(0.02)
        assert names_listed(server) == ["one", "two", "three"]
        (holding.layout.root / "store/p/two/a.fits").unlink()
        assert names_listed(server) == ["one", "two", "three"], "nothing shows the change"


def test_the_root_of_a_mirror_describes_products_as_its_source_does(mirror):
    shutil.copytree(mirror / "store/p/one", mirror / "store/q/x")
    listing = b"# filesetID|time registered|type|\nx|2010-01-01T00:00:00Z|PSRESULTS|\n"
    write_tree(mirror, {"state/q/listing.txt": listing})
    write_marker(Layout(mirror).marker(MarkerKind.DOWNLOADED, "q", "x"), {})
    with serve_mirror_at(mirror) as server:
        assert ask(server, "/index.txt").body == (
            b"# productID  |Most recent |Time registered     |type     |Description                     |\n"
            b"p            |three       |2009-08-11T00:00:02Z|ipp-dist |p                               |\n"
            b"q            |x           |2010-01-01T00:00:00Z|psresults|q                               |\n\n"
        )
        (mirror / "state/root.txt").write_bytes(
            b"# productID|Most recent|Time registered|type|Description|\n"
            b"q|y|2011-01-01T00:00:00Z|psresults|Stamps|\n"
            b"absent|none|2011-01-01T00:00:00Z|dump|Not held here|\n"
        )
        assert ask(server, "/index.txt").body == (
            b"# productID  |Most recent |Time registered     |type     |Description                     |\n"
            b"q            |x           |2010-01-01T00:00:00Z|psresults|Stamps                          |\n"
            b"p            |three       |2009-08-11T00:00:02Z|ipp-dist |p                               |\n\n"
        )


def test_hidden_products_are_served_but_not_listed(mirror):
    with serve(DataStoreApp(MirrorTree(Layout(mirror), hidden=["p"]))) as server:
        assert names_listed(server, "/index.txt") == []
        assert names_listed(server) == ["one", "two", "three"]


def test_a_folder_that_no_product_can_be_is_not_served(mirror):
    shutil.copytree(mirror / "store/p", mirror / f"store/b{chr(233)}")
    with serve_mirror_at(mirror) as server:
        assert ask(server, "/b%C3%A9/index.txt").status == 404
        assert names_listed(server, "/index.txt") == ["p"]


def test_a_product_that_was_discovered_is_listed_without_a_fileset(mirror):
    root = b"# productID|Most recent|Time registered|type|Description|\nr|none|2011-01-01T00:00:00Z|dump|R|\n"
    write_tree(mirror, {"state/r/discovered.json": b"{}", "state/s/other": b"", "state/root.txt": root})
    with serve_mirror_at(mirror) as server:
        rows = ask(server, "/index.txt").body.split(b"\n")[1:-2]
        assert [row.split(b"|")[0].strip() for row in rows] == [b"r", b"p"]
        assert [cell.strip() for cell in rows[0].split(b"|")] == [
            *(b"r", b"none", b"2011-01-01T00:00:00Z", b"dump", b"R", b"")
        ]
        assert ask(server, "/r/index.txt").body == b"# filesetID|time registered|type|\n\n"
        assert ask(server, "/r/index.txt?x").body == b"\n"
        assert ask(server, "/s/index.txt").status == 404
