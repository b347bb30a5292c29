"""The listings of the server against the recorded answers of the original."""

import os

import pytest
import requests
from support.wire import ask, recorded, write_tree

from pipeline.datastore.server.app import create_app, serve

MD = "md-all-rel-200907"
NEWEST = "o4741g0237o.warp.7001.35.1"
CHIP = "o4741g0234o.chip.14517.31.1"


def unpadded(listing: bytes) -> bytes:
    """The listing with no blanks around its fields: what the server has to lay out."""
    lines = [line for line in listing.split(b"\n") if line]
    return b"".join(b"|".join(field.strip() for field in line.split(b"|")) + b"\n" for line in lines)


def written(folder):
    return write_tree(
        folder / "store",
        {
            "index.txt": unpadded(recorded("01_root_index.txt").body),
            f"{MD}/index.txt": unpadded(recorded("02_product_index.txt").body),
            f"{MD}/{CHIP}/index.txt": recorded("08_fileset_index.txt").body,
            f"{MD}/{CHIP}/notes.txt": b"seen",
            "empty-product/index.txt": unpadded(recorded("06_product_empty.txt").body),
            "empty-product/empty/index.txt": recorded("11_fileset_empty.txt").body,
            "pstampresults/web_1001/index.txt": recorded("09_fileset_mixed_pstamp_1001.txt").body,
        },
    )


@pytest.fixture
def store(tmp_path):
    return written(tmp_path)


@pytest.fixture
def changing_server(store):
    with serve(create_app(store)) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serve(create_app(written(tmp_path_factory.mktemp("unchanged")))) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "recording"),
    [
        ("/index.txt", "01_root_index.txt"),
        (f"/{MD}/index.txt", "02_product_index.txt"),
        (f"/{MD}/index.txt?{NEWEST}", "04_product_since_newest.txt"),
        (f"/{MD}/index.txt?no.such.fileset", "05_product_since_unknown.txt"),
        (f"/{MD}/index.txt?{NEWEST[:-2]}", "05_product_since_unknown.txt"),
        (f"/{MD}/index.txt?{NEWEST[1:]}", "05_product_since_unknown.txt"),
        ("/empty-product/index.txt", "06_product_empty.txt"),
        ("/no-such-product/index.txt", "07_product_unknown.txt"),
        (f"/{MD}/no.such.fileset/index.txt", "07_product_unknown.txt"),
        (f"/{MD}/{CHIP}/index.txt", "08_fileset_index.txt"),
        ("/pstampresults/web_1001/index.txt", "09_fileset_mixed_pstamp_1001.txt"),
        ("/empty-product/empty/index.txt", "11_fileset_empty.txt"),
        (f"/{MD}/index.txt?a/b", "39e_since_slash.txt"),
        (f"/{MD}/index.txt?a%2Fb", "39e_since_slash.txt"),
        (f"/{MD}/index.txt?a;rm", "39e_since_slash.txt"),
    ],
)
def test_a_listing_is_the_original_byte_for_byte(server, path, recording):
    answer = ask(server, path)
    original = recorded(recording)
    assert (answer.status, answer.body, answer.is_whole) == (original.status, original.body, True)
    assert described(answer) == described(original)


def described(answer):
    return {
        name: answer.fields[name] for name in answer.fields if name not in {"date", "server", "connection"}
    }


def test_since_lists_what_was_registered_after_the_fileset(server):
    after = ask(server, f"/{MD}/index.txt?o4741g0235o.chip.14518.32.1")
    assert after.body == recorded("03_product_since_known.txt").body
    assert ask(server, f"/{MD}/index.txt?o4741g0235o.c%68ip.14518.32%2e1").body == after.body


def test_columns_are_as_wide_as_the_rows_that_are_shown(server):
    answer = ask(server, f"/{MD}/index.txt?o4741g0239o.chip.14520.37.1")
    assert answer.body.splitlines()[0] == (
        b"# filesetID               |time registered     |type    |target_id|stage|stage_id|exp_name   "
        b"|data_group   |filter |"
    )


def test_conditions_and_ranges_on_a_listing_are_ignored(server):
    conditions = {
        "Range": "bytes=0-3",
        "If-Modified-Since": "Mon, 23 Nov 2099 21:24:10 GMT",
        "If-None-Match": "*",
    }
    answer = ask(server, "/index.txt", fields=conditions)
    assert (answer.status, answer.body) == (200, recorded("01_root_index.txt").body)


def test_a_listing_asked_for_by_head_has_no_body(server):
    answer = ask(server, "/index.txt", method="HEAD")
    assert (answer.status, answer.rest, answer.fields["content-type"]) == (200, b"", "text/plain")


def test_only_reading_is_allowed(server):
    answer = ask(server, "/index.txt", method="DELETE")
    assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD")


def test_hidden_products_are_served_but_not_listed(store):
    with serve(create_app(store, hidden=[MD])) as server:
        assert MD.encode() not in ask(server, "/index.txt").body
        assert b"pstampresults" in ask(server, "/index.txt").body
        assert MD not in ask(server, "/").body.decode()
        assert ask(server, f"/{MD}/index.txt").body == recorded("02_product_index.txt").body


@pytest.mark.parametrize(("prefix", "outside"), [("", "/ds/index.txt"), ("/ipp049/ds", "/index.txt")])
def test_the_store_is_below_its_prefix_and_nowhere_else(store, prefix, outside):
    with serve(create_app(store, prefix=prefix)) as server:
        assert server.url.endswith(prefix)
        assert ask(server, "/index.txt").body == recorded("01_root_index.txt").body
        assert requests.get(server.url.removesuffix(prefix) + outside).status_code == 404


def test_a_listing_is_read_afresh_when_it_changes(store, changing_server):
    before = ask(changing_server, f"/{MD}/index.txt").body
    with open(store / MD / "index.txt", "ab") as listing:
        listing.write(b"stack.2.2.1|2026-11-24T00:00:00Z|IPP-DIST|\n")
    assert ask(changing_server, f"/{MD}/index.txt").body == before[:-1] + (
        b"stack.2.2.1                 |2026-11-24T00:00:00Z|IPP-DIST|\n\n"
    )
    replacement = store / MD / "replacement"
    replacement.write_bytes(b"# filesetID|time registered|type|\n")
    os.replace(replacement, store / MD / "index.txt")
    assert ask(changing_server, f"/{MD}/index.txt").body == b"# filesetID|time registered|type|\n\n"
    (store / "empty-product" / "empty" / "index.txt").unlink()
    assert ask(changing_server, "/empty-product/empty/index.txt").status == 404


def test_columns_that_change_within_a_product_get_a_line_of_their_own(store, changing_server):
    (store / MD / "index.txt").write_bytes(
        b"# filesetID|time registered|type|\na|t|IPP-DIST|\nbb|t|X|\n"
        b"# filesetID|time registered|type|stage|\nccc|t|X|chip|\n"
    )
    assert ask(changing_server, f"/{MD}/index.txt?a").body == (
        b"# filesetID|time registered|type|\n"
        b"bb         |t              |X   |\n"
        b"# filesetID|time registered|type|stage|\n"
        b"ccc        |t              |X   |chip |\n\n"
    )
    assert ask(changing_server, f"/{MD}/index.txt?bb").body == (
        b"# filesetID|time registered|type|stage|\nccc        |t              |X   |chip |\n\n"
    )
    assert ask(changing_server, f"/{MD}/index.txt?ccc").body == b"# filesetID|time registered|type|stage|\n\n"


def test_without_listing_files_the_folders_are_listed(tmp_path):
    store = write_tree(
        tmp_path, {"p/later/index.txt": b"", "p/first/index.txt": b"", "p/.new/index.txt": b"", "q/x/y": b""}
    )
    os.utime(store / "p/first/index.txt", (1_250_000_000, 1_250_000_000))
    os.utime(store / "p/later/index.txt", (1_250_000_001, 1_250_000_001))
    with serve(create_app(store)) as server:
        assert ask(server, "/p/index.txt").body == (
            b"# filesetID|time registered     |type  |\n"
            b"first      |2009-08-11T14:13:20Z|notset|\n"
            b"later      |2009-08-11T14:13:21Z|notset|\n\n"
        )
        rows = [line.split(b"|")[:4] for line in ask(server, "/index.txt").body.split(b"\n")[1:-2]]
        assert rows == [
            [b"p            ", b"later       ", b"2009-08-11T14:13:21Z", b"notset   "],
            [b"q            ", b"none        ", b"null                ", b"ipp-dist "],
        ]


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
    with serve(create_app(mirror=mirror)) as server:
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
    with serve(create_app(mirror=mirror)) as server:
        assert names_listed(server) == ["one", "two", "three"]
        assert names_listed(server, "/p/index.txt?two") == ["three"]


def test_a_mirror_that_has_nothing_yet_lists_nothing(tmp_path):
    with serve(create_app(mirror=tmp_path)) as server:
        assert names_listed(server, "/index.txt") == []
        assert ask(server, "/p/index.txt").status == 404


def test_what_arrives_late_in_a_mirror_is_newer_than_what_its_readers_have_seen(mirror):
    late = mirror / "late"
    os.rename(mirror / "store/p/one", late)
    with serve(create_app(mirror=mirror)) as server:
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
    with serve(create_app(mirror=mirror)) as server:
        assert ask(server, "/index.txt").body == (
            b"# productID  |Most recent |Time registered     |type     |Description                     |\n"
            b"p            |three       |2009-08-11T00:00:02Z|IPP-DIST |p                               |\n"
            b"q            |x           |2010-01-01T00:00:00Z|PSRESULTS|q                               |\n\n"
        )
        (mirror / "state/root.txt").write_bytes(
            b"# productID|Most recent|Time registered|type|Description|\n"
            b"q|y|2011-01-01T00:00:00Z|psresults|Stamps|\n"
            b"absent|none|2011-01-01T00:00:00Z|dump|Not held here|\n"
        )
        assert ask(server, "/index.txt").body == (
            b"# productID  |Most recent |Time registered     |type     |Description                     |\n"
            b"q            |x           |2010-01-01T00:00:00Z|psresults|Stamps                          |\n"
            b"p            |three       |2009-08-11T00:00:02Z|IPP-DIST |p                               |\n\n"
        )


@pytest.mark.parametrize("both", [True, False])
def test_one_tree_is_served_and_not_two(tmp_path, both):
    with pytest.raises(ValueError, match="only one of them"):
        create_app(tmp_path, mirror=tmp_path) if both else create_app()
