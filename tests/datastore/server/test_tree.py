"""The listings of the server against the recorded answers of the original."""

import os

import pytest
from support.wire import ask, recorded, serve_folder, write_tree

from pipeline.datastore.server import ServerLimits
from pipeline.datastore.server.tree import BROKEN_INCLUDE

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


@pytest.fixture(scope="module")
def unchanged_store(tmp_path_factory):
    return written(tmp_path_factory.mktemp("unchanged"))


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
        (f"/{'n' * 300}/index.txt", "07_product_unknown.txt"),
        (f"/{MD}/{'n' * 300}/index.txt", "07_product_unknown.txt"),
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


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000])
def test_a_listing_in_many_parts_is_the_same(store, chunk_bytes):
    with serve_folder(store, limits=ServerLimits(chunk_bytes=chunk_bytes)) as server:
        assert ask(server, f"/{MD}/index.txt").body == recorded("02_product_index.txt").body
        assert ask(server, f"/{MD}/index.txt", method="HEAD").rest == b""


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


def test_hidden_products_are_served_but_not_listed(store):
    with serve_folder(store, hidden=[MD]) as server:
        assert MD.encode() not in ask(server, "/index.txt").body
        assert b"pstampresults" in ask(server, "/index.txt").body
        assert MD not in ask(server, "/").body.decode()
        assert ask(server, f"/{MD}/index.txt").body == recorded("02_product_index.txt").body


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


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_an_index_that_is_no_file_is_none(store, changing_server, make):
    for folder in (store, store / MD, store / MD / CHIP):
        (folder / "index.txt").unlink()
        make(folder / "index.txt")
    assert ask(changing_server, f"/{MD}/{CHIP}/index.txt").status == 404
    assert ask(changing_server, f"/{MD}/index.txt").body == b"# filesetID|time registered|type|\n\n"
    assert MD.encode() in ask(changing_server, "/index.txt").body


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


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("a+b:c", [b"d"]),
        ("A%2BB%3Ac", [b"d"]),
        ("%61%2Bb%3Ac", [b"d"]),
        ("%20a+b:c%20", [b"d"]),
        ("d", []),
        ("D", []),
        ("a%252Bb:c", None),
        ("a%20b:c", None),
        ("%20", None),
        ("%20%20", None),
        ("+", None),
        ("x", None),
    ],
)
@pytest.mark.parametrize("end", [b"|\n", b"|\n\n", b"|\r\n", b"|", b"", b" "])
def test_any_query_of_a_listing_with_any_end_is_answered(store, changing_server, query, names, end):
    (store / MD / "index.txt").write_bytes(b"# filesetID|time registered|type|\na+b:c|t|X|\nd|t|X" + end)
    body = ask(changing_server, f"/{MD}/index.txt?{query}").body
    if names is None:
        assert body in {b"\n", BROKEN_INCLUDE}
    else:
        assert [line.split(b"|")[0].strip() for line in body.split(b"\n")[1:-2]] == names


@pytest.mark.parametrize(
    "listing", [b"", b"\n", b"a", b"a|", b"|", b"|||||", b"#", b"a|b|\n# filesetID|", b"\0"]
)
def test_a_product_with_a_malformed_listing_leaves_the_others_served(store, changing_server, listing):
    (store / "index.txt").unlink()
    (store / MD / "index.txt").write_bytes(listing)
    assert ask(changing_server, f"/{MD}/index.txt").status == ask(changing_server, f"/{MD}/").status == 200
    rows = ask(changing_server, "/index.txt").body.split(b"\n")[1:-2]
    assert [row.split(b"|")[0].strip() for row in rows] == [b"empty-product", MD.encode(), b"pstampresults"]
    assert all(len(row.split(b"|")) == 6 for row in rows)


@pytest.mark.parametrize(
    ("fileset_type", "product_type"),
    [
        ("IPP-DIST", "ipp-dist"),
        ("PSRESULTS", "psresults"),
        ("psrequest", "psrequest"),
        ("IPP-MOPS", "IPP-MOPS"),
        ("OBJECT", "ipp-misc"),
    ],
)
def test_a_generated_root_has_types_of_products(store, changing_server, fileset_type, product_type):
    (store / "index.txt").unlink()
    listing = f"# filesetID|time registered|type|\na|t|{fileset_type}|\n"
    (store / MD / "index.txt").write_text(listing)
    row = ask(changing_server, "/index.txt").body.split(b"\n")[2]
    assert [cell.strip().decode() for cell in row.split(b"|")] == [MD, "a", "t", product_type, MD, ""]


def test_without_listing_files_the_folders_are_listed(tmp_path):
    store = write_tree(
        tmp_path, {"p/later/index.txt": b"", "p/first/index.txt": b"", "p/.new/index.txt": b"", "q/x/y": b""}
    )
    os.utime(store / "p/first/index.txt", (1_250_000_000, 1_250_000_000))
    os.utime(store / "p/later/index.txt", (1_250_000_001, 1_250_000_001))
    with serve_folder(store) as server:
        assert ask(server, "/p/index.txt").body == (
            b"# filesetID|time registered     |type  |\n"
            b"first      |2009-08-11T14:13:20Z|notset|\n"
            b"later      |2009-08-11T14:13:21Z|notset|\n\n"
        )
        rows = [line.split(b"|")[:4] for line in ask(server, "/index.txt").body.split(b"\n")[1:-2]]
        assert rows == [
            [b"p            ", b"later       ", b"2009-08-11T14:13:21Z", b"ipp-misc "],
            [b"q            ", b"none        ", b"null                ", b"ipp-dist "],
        ]
