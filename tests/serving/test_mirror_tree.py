"""A mirror served on: what it lists, and in which order."""

import os

import pytest
from support.wire import ask, write_tree

from pipeline.datastore.server import DataStoreApp, serve
from pipeline.mirror.state.layout import Layout
from pipeline.serving import MirrorTree


def serve_mirror_at(root):
    return serve(DataStoreApp(MirrorTree(Layout(root))))


def fileset(name: str, content: bytes) -> dict[str, bytes]:
    rows = b"".join(b"%s.fits|%d||x|\n" % (file, len(content)) for file in (b"a", b"b"))
    listing = b"# fileID|bytes|md5sum|type|\n" + rows
    return {f"{name}/a.fits": content, f"{name}/b.fits": content, f"{name}/index.txt": listing}


@pytest.fixture
def mirror(tmp_path):
    files = {"state/p/listing.txt": b"# filesetID|time registered|type|stage|\n"}
    for number, name in enumerate(["one", "two", "three"]):
        files["state/p/listing.txt"] += b"%s|2009-08-11T00:00:0%dZ|IPP-DIST|chip|\n" % (name.encode(), number)
        files |= {f"store/p/{path}": content for path, content in fileset(name, b"x" * number).items()}
    return write_tree(tmp_path / "mirror", files)


def names_listed(server, path="/p/index.txt"):
    return [line.split(b"|")[0].strip().decode() for line in ask(server, path).body.split(b"\n")[1:-2]]


def test_a_mirror_lists_what_it_holds_whole(mirror):
    with serve_mirror_at(mirror) as server:
        assert names_listed(server) == ["one", "two", "three"]
        (mirror / "store/p/two/a.fits").unlink()
        (mirror / "store/p/three/index.txt").unlink()
        assert names_listed(server) == ["one"]
        assert (
            ask(server, "/p/index.txt").body.split(b"\n")[1]
            == b"one        |2009-08-11T00:00:00Z|IPP-DIST|chip |"
        )
        assert ask(server, "/p/one/a.fits").status == 200


def test_a_row_that_is_being_added_to_the_listing_of_a_mirror_is_not_served(mirror):
    with open(mirror / "state/p/listing.txt", "ab") as file:
        file.write(b"two")
    with serve_mirror_at(mirror) as server:
        assert names_listed(server) == ["one", "two", "three"]
        assert names_listed(server, "/p/index.txt?two") == ["three"]


def test_a_mirror_that_has_nothing_yet_lists_nothing(tmp_path):
    with serve_mirror_at(tmp_path) as server:
        assert names_listed(server, "/index.txt") == []
        assert ask(server, "/p/index.txt").status == 404


def test_what_arrives_late_in_a_mirror_is_newer_than_what_its_readers_have_seen(mirror):
    late = mirror / "late"
    os.rename(mirror / "store/p/one", late)
    with serve_mirror_at(mirror) as server:
        assert names_listed(server) == ["two", "three"]
        assert names_listed(server, "/p/index.txt?three") == []
        os.rename(late, mirror / "store/p/one")
        assert names_listed(server, "/p/index.txt?three") == ["one"]
        assert names_listed(server) == ["two", "three", "one"]


def test_the_root_of_a_mirror_describes_products_as_its_source_does(mirror):
    write_tree(mirror, {f"store/q/{name}": content for name, content in fileset("x", b"").items()})
    write_tree(
        mirror,
        {"state/q/listing.txt": b"# filesetID|time registered|type|\nx|2010-01-01T00:00:00Z|PSRESULTS|\n"},
    )
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
    write_tree(mirror, {f"store/b{chr(233)}/{name}": content for name, content in fileset("x", b"").items()})
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
