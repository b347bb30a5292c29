"""Files as the server sends them: whole, in part, or not again."""

import os
import re

import pytest
import requests
from support.wire import ask, open_request, recorded, write_tree

from pipeline.datastore.server import ServerLimits

CHUNK_BYTES = ServerLimits().chunk_bytes
TGZ = bytes(range(256)) * 40
LARGE = os.urandom(1000) * 3000
FILESET = "md/o1.chip.1.1.1"


def written(folder):
    files = {
        "index.txt": b"# fileID|bytes|md5sum|type|\n",
        "a.tgz": TGZ,
        "b.fits": b"SIMPLE",
        "c.mdc": b"x U8 1\n",
        "d.txt": b"twenty-three bytes long",
        "e.dat": b"",
        "large.tgz": LARGE,
        ".part": b"half",
        "name: a+b.fits": b"odd",
    }
    return write_tree(folder / "store", {f"{FILESET}/{name}": content for name, content in files.items()})


@pytest.fixture
def store(tmp_path):
    return written(tmp_path)


@pytest.fixture(scope="module")
def unchanged_store(tmp_path_factory):
    return written(tmp_path_factory.mktemp("unchanged"))


def repr_of_start(value):
    return repr(value[:24])


def get(server, name="a.tgz", method="GET", **fields):
    return ask(
        server,
        f"/{FILESET}/{name}",
        method=method,
        fields={name.replace("_", "-"): value for name, value in fields.items()},
    )


def test_a_file_has_the_fields_of_the_original(store, changing_server):
    modified = "660f836f8b61e"
    os.utime(store / FILESET / "a.tgz", ns=(0, int(modified, 16) * 1000))
    answer, original = get(changing_server), recorded("21_file_head.txt")
    assert answer.fields["last-modified"] == original.fields["last-modified"]
    assert answer.fields["etag"] == f'"{len(TGZ):x}-{modified}"'
    assert answer.fields["content-length"] == str(len(TGZ))
    assert answer.fields.keys() - {"connection"} == original.fields.keys()
    for name in ("accept-ranges", "content-type"):
        assert answer.fields[name] == original.fields[name]
    assert answer.rest == TGZ


def test_head_gives_the_same_fields_and_no_body(server):
    whole, head = get(server), get(server, method="HEAD")
    assert head.rest == b""
    assert head.fields | {"date": ""} == whole.fields | {"date": ""}


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("b.fits", "image/fits"),
        ("c.mdc", "application/vnd.marlin.drm.mdcf"),
        ("d.txt", "text/plain"),
        ("e.dat", None),
    ],
)
def test_media_types(server, name, media_type):
    assert get(server, name).fields.get("content-type") == media_type


def test_a_text_file_passes_through_the_include_filter(server):
    answer = get(server, "d.txt", Range="bytes=0-3", If_Modified_Since="Mon, 23 Nov 2099 21:24:10 GMT")
    assert (answer.status, answer.body, answer.is_chunked) == (200, b"twenty-three bytes long", True)
    assert not {"etag", "last-modified", "content-length"} & answer.fields.keys()
    head, original = get(server, "d.txt", method="HEAD"), recorded("28b_file_txt_head.txt")
    own = {"date", "server", "connection"}
    assert {k: v for k, v in head.fields.items() if k not in own} == {
        k: v for k, v in original.fields.items() if k not in own
    }
    assert head.rest == b""


def test_a_large_file_arrives_whole(server):
    assert len(LARGE) > 4 * CHUNK_BYTES
    answer = get(server, "large.tgz")
    assert answer.rest == LARGE


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=100-", 100, len(TGZ) - 1),
        (f"bytes=100-{len(TGZ) * 2}", 100, len(TGZ) - 1),
        ("bytes=-5", len(TGZ) - 5, len(TGZ) - 1),
        (f"bytes=-{len(TGZ) * 2}", 0, len(TGZ) - 1),
    ],
)
def test_a_part_of_a_file(server, asked, first, last):
    answer = get(server, Range=asked)
    assert (answer.status, answer.rest) == (206, TGZ[first : last + 1])
    assert answer.fields["content-range"] == f"bytes {first}-{last}/{len(TGZ)}"
    assert answer.fields["content-length"] == str(last + 1 - first)
    assert answer.fields["etag"] == get(server).fields["etag"]


def test_a_large_part_of_a_large_file(server):
    begin = CHUNK_BYTES + 17
    assert get(server, "large.tgz", Range=f"bytes={begin}-").rest == LARGE[begin:]


@pytest.mark.parametrize("asked", [f"bytes={len(TGZ)}-", "bytes=-0"])
def test_a_part_that_does_not_exist(server, asked):
    answer = get(server, Range=asked)
    assert (answer.status, answer.fields["content-range"]) == (416, f"bytes */{len(TGZ)}")
    assert answer.is_whole


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=5-4",
        "bytes=-",
        "bytes=a-b",
        "lines=1-2",
        "bytes=0-1,5-6",
        "bytes=\u0662-",
        pytest.param(f"bytes={'9' * 5000}-", id="beyond all numbers"),
    ],
)
def test_a_range_that_is_none_gives_the_whole_file(server, asked):
    response = requests.get(f"{server.url}/{FILESET}/a.tgz", headers={"Range": asked.encode()})
    assert (response.status_code, response.content) == (200, TGZ)


def test_if_range_gives_a_part_only_of_the_same_file(store, changing_server):
    whole = get(changing_server).fields
    for validator in (whole["etag"], whole["last-modified"]):
        assert get(changing_server, Range="bytes=0-9", If_Range=validator).status == 206
    (store / FILESET / "a.tgz").write_bytes(b"new" + TGZ)
    os.utime(store / FILESET / "a.tgz", (0, 1_000_000_000))
    for validator in (whole["etag"], whole["last-modified"]):
        answer = get(changing_server, Range="bytes=0-9", If_Range=validator)
        assert (answer.status, answer.rest) == (200, b"new" + TGZ)


def test_what_is_known_is_not_sent_again(store, changing_server):
    whole = get(changing_server).fields
    for known in (
        {"If_None_Match": whole["etag"]},
        {"If_None_Match": f'"other", W/{whole["etag"]}'},
        {"If_None_Match": "*"},
        {"If_Modified_Since": whole["last-modified"]},
        {"If_Modified_Since": "Mon, 23 Nov 2099 21:24:10 GMT"},
    ):
        answer = get(changing_server, **known)
        assert (answer.status, answer.rest, answer.fields["etag"]) == (304, b"", whole["etag"]), known
    for other in (
        {"If_None_Match": '"other"'},
        {"If_None_Match": '"other"', "If_Modified_Since": whole["last-modified"]},
        {"If_Modified_Since": "Mon, 23 Nov 1998 21:24:10 GMT"},
        {"If_Modified_Since": "yesterday"},
    ):
        assert get(changing_server, **other).status == 200, other


@pytest.mark.parametrize(
    "path",
    [
        f"/{FILESET}/missing.tgz",
        f"/{FILESET}/.part",
        f"/{FILESET}/a.tgz/",
        f"/{FILESET}/a.tgz/more",
        f"/{FILESET}%2fa.tgz",
        f"/{FILESET}/..%2f..%2f..%2fsecret",
        f"/{FILESET}/../../../secret",
        "/../secret/x/y",
        "/..%2f../secret/x",
        "/%2e%2e/%2e%2e/secret",
        f"/{FILESET}/a%00.tgz",
        f"/{FILESET}/%FF.tgz",
        f"/{FILESET}/index.txt/",
        f"/{FILESET}//a.tgz//",
        "//%2fmd/o1.chip.1.1.1/a.tgz",
        "/md/index.txt/a.tgz",
        f"/{FILESET}/{'x' * 300}",
    ],
)
def test_what_is_not_in_the_tree_is_not_found(store, changing_server, path):
    (store.parent / "secret").write_bytes(b"secret")
    answer = ask(changing_server, path)
    assert (answer.status, answer.rest) == (404, recorded("07_product_unknown.txt").rest)


def test_links_lead_nowhere_outside_the_tree(store, changing_server):
    write_tree(store.parent, {"outside/f/secret.fits": b"secret", "outside/f/index.txt": b"secret"})
    folder = store / FILESET
    (folder / "out.fits").symlink_to(store.parent / "outside/f/secret.fits")
    (folder / "gone.fits").symlink_to(folder / "nothing")
    (folder / "loop.fits").symlink_to(folder / "loop.fits")
    (folder / "inside.fits").symlink_to(folder / "b.fits")
    (store / "leak").symlink_to(store.parent / "outside")
    (store / "md" / "leak").symlink_to(store.parent / "outside/f")
    assert [get(changing_server, f"{name}.fits").status for name in ("out", "gone", "loop", "inside")] == [
        403,
        403,
        403,
        200,
    ]
    for path in ("/leak/f/index.txt", "/md/leak/index.txt", "/leak/", "/md/leak"):
        assert ask(changing_server, path).status == 404, path
    for path in ("/leak/f/secret.fits", "/md/leak/secret.fits"):
        assert ask(changing_server, path).status == 403, path


def test_only_plain_files_are_sent(store, changing_server):
    os.mkfifo(store / FILESET / "pipe.fits")
    (store / FILESET / "folder.fits").mkdir()
    assert get(changing_server, "pipe.fits").status == 404
    assert get(changing_server, "folder.fits").status == 404


def test_repeated_slashes_are_one(server):
    assert get(server, "/a.tgz").rest == TGZ
    assert ask(server, f"///{FILESET.replace('/', '//')}///a.tgz").rest == TGZ


@pytest.mark.parametrize(
    "field", ["Range", "If-Range", "If-Modified-Since", "If-None-Match", "If-Unmodified-Since"]
)
@pytest.mark.parametrize(
    "value",
    [
        "9" * 5000,
        "-" + "9" * 5000,
        f"bytes={'9' * 5000}-",
        f"bytes=-{'9' * 5000}",
        f"bytes=0-{'9' * 5000}",
        f"bytes={'0' * 5000}-{'0' * 5000}",
        f"bytes={','.join(f'{n}-{n}' for n in range(5000))}",
        f"bytes={' ' * 5000}",
        f"Mon, 23 Nov {'9' * 5000} 21:24:10 GMT",
        "Mon, 23 Nov 99999999999999999999 21:24:10 GMT",
        "Mon, 23 Nov 10000 21:24:10 GMT",
        "Mon, 01 Jan 0001 00:00:00 -0000",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        f"Mon, 23 Nov 2009 21:24:10 +{'9' * 5000}",
        "Mon, 23 Nov 2009 99:99:99 GMT",
        "\x80\xff",
    ],
    ids=repr_of_start,
)
def test_numbers_of_any_length_in_a_request_are_no_error(server, caplog, field, value):
    answer = get(server, **{field: value.encode("latin-1").decode("latin-1")})
    assert answer.status in {200, 206, 304, 416}
    assert answer.is_whole
    assert caplog.records == []


def test_names_are_percent_decoded_once(server):
    assert get(server, "name%3A%20a+b.fits").rest == b"odd"
    assert get(server, "name%253A%20a+b.fits").status == 404


@pytest.mark.parametrize("name", ["name:%20a+b.fits", "name%3A%20a%2Bb.fits", "name%3a%20a%2bb.fits"])
def test_plus_and_colon_are_taken_as_they_are_and_percent_encoded(server, name):
    assert get(server, name).rest == b"odd"


def test_the_query_of_a_file_is_ignored(server):
    assert get(server, "a.tgz?compress").rest == TGZ


def test_files_of_a_fileset_without_listing_are_still_served(store, changing_server):
    (store / FILESET / "index.txt").unlink()
    assert ask(changing_server, f"/{FILESET}/index.txt").status == 404
    assert get(changing_server).rest == TGZ


def test_a_new_etag_for_new_content(store, changing_server):
    before = get(changing_server).fields["etag"]
    assert re.fullmatch(r'"[0-9a-f]+-[0-9a-f]+"', before)
    (store / FILESET / "a.tgz").write_bytes(TGZ[::-1])
    after = get(changing_server)
    assert (after.rest, after.fields["etag"] == before) == (TGZ[::-1], False)


def test_a_file_that_shrinks_while_it_is_sent_ends_early(store, changing_server):
    content = bytes(30_000_000)
    (store / FILESET / "shrinks.tgz").write_bytes(content)
    with open_request(changing_server, f"/{FILESET}/shrinks.tgz") as client:
        raw = client.recv(1 << 16)
        (store / FILESET / "shrinks.tgz").write_bytes(b"")
        while piece := client.recv(1 << 20):
            raw += piece
    assert len(raw) < len(content)
