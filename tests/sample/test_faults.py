"""Each bad fault, seen on the wire."""

import gzip
import inspect
import time

import pytest
import requests
from support.wire import TIMEOUT_SECONDS, ask, open_request, recorded, write_tree

from pipeline.errors import SettingsError
from pipeline.sample import faults
from pipeline.sample.simulator import simulate

ROOT = b"# productID|Most recent|Time registered|type|Description|\nmd|o2|2009-08-11T00:00:00Z|ipp-dist|MD|\n"
PRODUCT = b"# filesetID|time registered|type|\no1|2009-08-11T00:00:00Z|X|\no2|2009-08-11T00:00:00Z|X|\n"
FILESET = b"# fileID|bytes|md5sum|type|\na.tgz|10000||tgz|\n"
CONTENT = b"0123456789" * 1000
LARGE = b"0123456789" * 200_000


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    store = write_tree(
        tmp_path_factory.mktemp("faults"),
        {
            "index.txt": ROOT,
            "md/index.txt": PRODUCT,
            "md/o1/index.txt": FILESET,
            "md/o1/a.tgz": CONTENT,
            "md/o1/large.tgz": LARGE,
            "md/o2/index.txt": FILESET,
            "md/o2/a.tgz": CONTENT,
        },
    )
    with simulate(store) as server:
        yield server


@pytest.fixture
def server(running):
    running.faults.clear()
    running.clear()
    return running


def file(server, name="a.tgz", **asked):
    return ask(server, f"/md/o1/{name}", **asked)


def test_the_database_is_down(server):
    server.faults.append(faults.database_down())
    original = recorded("62_dbdown_product.txt")
    for path in ("/index.txt", "/md/index.txt", "/md/index.txt?o1", "/md/o1/index.txt"):
        answer = ask(server, path)
        assert (answer.status, answer.body, answer.is_chunked) == (200, original.body, True)
        assert answer.fields["content-type"] == original.fields["content-type"]
    assert file(server).body == CONTENT


@pytest.mark.parametrize(
    ("fault", "media_type", "body"),
    [
        (faults.broken_include(), "text/plain", recorded("39e_since_slash.txt").body),
        (faults.empty_body(), "text/plain", b""),
        (faults.says(b"\0\xff"), "text/plain", b"\0\xff"),
        (faults.login_page(), "text/html", None),
    ],
)
def test_a_listing_that_is_none(server, fault, media_type, body):
    server.faults.append(fault)
    answer = ask(server, "/md/index.txt")
    assert (answer.status, answer.is_whole, answer.fields["content-type"]) == (200, True, media_type)
    assert b"<form>" in answer.body if body is None else answer.body == body


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_an_error_with_the_time_to_try_again(server, status):
    server.faults.append(faults.fails(status, retry_after="7", target=faults.FILES))
    answer = file(server)
    assert (answer.status, answer.fields["retry-after"], answer.is_whole) == (status, "7", True)
    assert ask(server, "/md/index.txt").status == 200


@pytest.mark.parametrize("to", ["https://127.0.0.1:1/ds/index.txt", "http://other.host/", "ftp://x/"])
def test_redirects_lead_away(server, to):
    server.faults.append(faults.redirects(to))
    answer = ask(server, "/index.txt")
    assert (answer.status, answer.fields["location"]) == (302, to)


def test_redirects_lead_in_a_circle(server):
    server.faults.append(faults.redirects())
    with pytest.raises(requests.TooManyRedirects):
        requests.get(f"{server.url}/index.txt")
    assert {request.target for request in server.requests} == {"/ds/index.txt"}


def test_the_newest_fileset_is_hidden(server):
    server.faults.append(faults.hides_newest())
    header = b"# filesetID|time registered     |type|\n"
    assert ask(server, "/md/index.txt").body == header + b"o1         |2009-08-11T00:00:00Z|X   |\n\n"
    assert ask(server, "/md/index.txt?o1").body == header + b"\n"
    assert b"|o2 " in ask(server, "/index.txt").body
    assert ask(server, "/md/o2/index.txt").body == FILESET


def test_a_listing_is_cut_in_the_middle_of_a_row(server):
    whole = ask(server, "/md/index.txt").body
    server.faults.append(faults.cuts_row())
    answer = ask(server, "/md/index.txt")
    assert answer.is_whole
    assert whole.startswith(answer.body)
    assert answer.body.count(b"\n") == whole.count(b"\n") - 2
    assert not answer.body.endswith((b"|", b"\n"))


def test_a_listing_is_cut_off_without_its_last_chunk(server):
    whole = ask(server, "/md/index.txt").body
    server.faults.append(faults.hangs_up(target=faults.LISTINGS))
    answer = ask(server, "/md/index.txt")
    assert (answer.is_chunked, answer.is_whole, answer.end) == (True, False, "closed")
    assert whole.startswith(answer.body)
    assert 0 < len(answer.body) < len(whole)


@pytest.mark.parametrize("after", [0, 1, 5000, len(CONTENT) - 1])
def test_a_file_is_cut_off(server, after):
    server.faults.append(faults.hangs_up(after=after))
    answer = file(server)
    assert (answer.status, answer.fields["content-length"], answer.end) == (200, str(len(CONTENT)), "closed")
    assert answer.rest == CONTENT[:after]


def test_a_large_file_is_cut_off_far_into_it(server):
    server.faults.append(faults.hangs_up(after=1_234_567))
    assert file(server, "large.tgz").rest == LARGE[:1_234_567]


def test_a_connection_is_reset(server):
    server.faults.append(faults.resets(after=100))
    answer = file(server)
    assert (answer.status, answer.end) == (200, "reset")
    assert CONTENT[:100].startswith(answer.rest)


def test_a_file_stalls_for_ever(server):
    server.faults.append(faults.stalls(after=100))
    answer = file(server, timeout=1.5)
    assert (answer.rest, answer.end) == (CONTENT[:100], "silent")


def test_a_file_stalls_and_goes_on(server):
    server.faults.append(faults.stalls(1, after=100))
    with open_request(server, "/md/o1/a.tgz") as client:
        came = b""
        while not came.endswith(b"\r\n\r\n" + CONTENT[:100]):
            came += client.recv(1 << 16)
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(TIMEOUT_SECONDS)
        while piece := client.recv(1 << 16):
            came += piece
    assert came.endswith(b"\r\n\r\n" + CONTENT)


def test_stopping_does_not_wait_for_a_client_that_hangs(server):
    server.faults.append(faults.stalls(after=100))
    with open_request(server, "/md/o1/a.tgz") as client:
        assert client.recv(1)
        server.stop()
        while client.recv(1 << 16):
            pass
    server.start()
    server.faults.clear()
    assert file(server).rest == CONTENT


@pytest.mark.parametrize("by", [-1, -9_999, -20_000, 100])
def test_content_length_is_wrong(server, by):
    server.faults.append(faults.misstates_length(by))
    answer = file(server)
    assert answer.fields["content-length"] == str(max(len(CONTENT) + by, 0))
    assert (answer.rest, answer.end) == (CONTENT, "closed")


def test_content_length_is_wrong_for_many_chunks(server):
    server.faults.append(faults.misstates_length(-1_500_000))
    assert file(server, "large.tgz").rest == LARGE


@pytest.mark.parametrize("fault", [faults.misstates_length(-5), faults.runs_over()])
def test_an_answer_without_a_length_cannot_run_over_it(server, fault):
    whole = ask(server, "/md/index.txt")
    fault.target = faults.LISTINGS
    server.faults.append(fault)
    assert ask(server, "/md/index.txt").rest == whole.rest


def test_a_body_runs_over_its_length(server):
    server.faults.append(faults.runs_over(b"and more"))
    answer = file(server)
    assert answer.fields["content-length"] == str(len(CONTENT))
    assert answer.rest == CONTENT + b"and more"


def test_a_body_never_ends(server):
    server.faults.append(faults.never_ends())
    answer = file(server, at_most=3_000_000)
    assert (answer.is_chunked, answer.body.startswith(CONTENT)) == (True, True)
    assert set(answer.body[len(CONTENT) :]) == {0}


def test_one_byte_is_flipped(server):
    server.faults.append(faults.flips_byte())
    for asked, true in ((None, CONTENT), ({"Range": "bytes=100-299"}, CONTENT[100:300])):
        answer = file(server, fields=asked)
        wrong = [
            at for at, (sent, stored) in enumerate(zip(answer.rest, true, strict=True)) if sent != stored
        ]
        assert wrong == [len(true) // 2]
        assert answer.rest[wrong[0]] == true[wrong[0]] ^ 0xFF


def test_a_file_comes_compressed(server):
    server.faults.append(faults.compresses())
    answer = file(server)
    assert (answer.fields["content-encoding"], answer.is_whole) == ("gzip", True)
    assert gzip.decompress(answer.rest) == CONTENT
    assert file(server, method="HEAD").rest == b""


def test_range_is_ignored(server):
    server.faults.append(faults.ignores_range())
    answer = file(server, fields={"Range": "bytes=5-"})
    assert (answer.status, answer.rest) == (200, CONTENT)


def test_content_range_is_wrong(server):
    server.faults.append(faults.shifts_content_range(3))
    answer = file(server, fields={"Range": "bytes=5-9"})
    assert (answer.status, answer.rest) == (206, CONTENT[5:10])
    assert answer.fields["content-range"] == f"bytes 8-9/{len(CONTENT)}"
    assert file(server, fields={"Range": "bytes=99999-"}).fields["content-range"] == f"bytes */{len(CONTENT)}"
    assert "content-range" not in file(server).fields


def test_the_etag_changes_each_time(server):
    server.faults.append(faults.changes_etag())
    assert [file(server).fields["etag"] for _ in range(3)] == ['"1"', '"2"', '"3"']


def test_answers_are_late(server):
    server.faults.append(faults.delays(0.3, target="md/o1/*", times=1))
    began = time.monotonic()
    file(server)
    assert time.monotonic() - began >= 0.3


def test_a_connection_is_slow(server):
    server.faults.append(faults.throttles(40_000))
    began = time.monotonic()
    assert file(server).rest == CONTENT
    assert time.monotonic() - began >= 0.2


def test_a_response_never_begins(server):
    server.faults.append(faults.sends_interim(0, status="102 Processing"))
    answer = file(server, at_most=100_000)
    assert (answer.status, answer.fields) == (102, {"x": "y"})
    assert answer.rest.startswith(b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\nHTTP/1.1 102 ")


def test_trailers_without_end(server):
    server.faults.append(faults.sends_trailers(0))
    answer = ask(server, "/md/index.txt", at_most=100_000)
    assert answer.is_chunked
    body, _, trailers = answer.rest.partition(b"\r\n0\r\n")
    assert body.endswith(b"|\n\n")
    assert trailers.startswith(b"X: y\r\n" * 100)


def test_a_fault_can_end_after_some_requests(server):
    failing = faults.fails(503, target=faults.FILES, times=2)
    server.faults.append(failing)
    ask(server, "/md/index.txt")
    assert [file(server).status for _ in range(4)] == [503, 503, 200, 200]
    assert failing.used == 2


def test_faults_join(server):
    server.faults.extend([faults.flips_byte(), faults.hangs_up(after=6_000)])
    answer = file(server)
    assert answer.rest == CONTENT[:5_000] + bytes([CONTENT[5_000] ^ 0xFF]) + CONTENT[5_001:6_000]


def test_an_edit_of_ones_own(server):
    server.faults.append(faults.edits(lambda listing: listing.replace(b"o1", b"../o1"), target="*/index.txt"))
    assert b"\n../o1 " in ask(server, "/md/index.txt").body
    assert ask(server, "/md/o1/index.txt").body == FILESET


@pytest.mark.parametrize(
    ("target", "matched"),
    [
        ("listings", {"index.txt", "md/index.txt", "md/o1/index.txt"}),
        ("files", {"md/o1/a.tgz"}),
        ("everything", {"", "index.txt", "md/index.txt", "md/o1/index.txt", "md/o1/a.tgz"}),
        ("*/index.txt", {"md/index.txt"}),
        ("md/*/*.tgz", {"md/o1/a.tgz"}),
        ("md/o2/a.tgz", set()),
        ("MD/*", set()),
    ],
)
def test_targets(target, matched):
    fault = faults.says(b"", target=target)
    assert {
        path
        for path in ("", "index.txt", "md/index.txt", "md/o1/index.txt", "md/o1/a.tgz")
        if fault.matches(path)
    } == matched
    assert fault.used == len(matched)


@pytest.mark.parametrize("name", sorted(faults.NAMED))
def test_each_fault_has_a_name(server, name):
    usual, elsewhere = faults.named(name), faults.named(f"{name}=md/o2/a.tgz")
    assert (usual.times, elsewhere.target) == (None, "md/o2/a.tgz")
    true = ask(server, "/md/o2/a.tgz", fields={"Range": "bytes=5-"})
    server.faults.append(elsewhere)
    most = 100 if name in {"trickles", "sends-interim", "sends-trailers"} else 1_000_000
    answer = ask(server, "/md/o2/a.tgz", fields={"Range": "bytes=5-"}, timeout=2.5, at_most=most)
    assert elsewhere.used == 1
    ignored = {"date", "connection"}
    if name not in {"delays", "throttles", "cuts-row", "hides-newest"}:
        assert (answer.status, answer.rest, answer.end) != (true.status, true.rest, true.end) or {
            k: v for k, v in answer.fields.items() if k not in ignored
        } != {k: v for k, v in true.fields.items() if k not in ignored}


def test_every_public_fault_can_be_asked_for_by_name():
    makers = {
        function
        for name, function in inspect.getmembers(faults, inspect.isfunction)
        if not name.startswith("_")
        and function.__module__ == faults.__name__
        and function.__annotations__.get("return") is faults.Fault
    }
    unnamed = makers - set(faults.NAMED.values()) - {faults.named}
    assert unnamed == {faults.says, faults.fails, faults.edits}


def test_an_unknown_fault_is_refused():
    with pytest.raises(SettingsError, match="got 'politeness'"):
        faults.named("politeness")
