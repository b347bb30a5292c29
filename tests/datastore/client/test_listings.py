"""Asking for listings: what is sent, which answers are tried again and after which pauses, what is raised."""

import gc
import gzip
import time
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.running import free_port
from support.scripted_server import answer, in_turn, scripted
from support.upstream import File, Upstream
from support.wire import recorded

from pipeline import __version__
from pipeline.datastore.client.http import DataStoreClient
from pipeline.datastore.client.limits import Limits
from pipeline.datastore.client.listings import UnknownFileset
from pipeline.datastore.client.retry import RetryPolicy
from pipeline.errors import ContentMismatch, ServerUnavailable
from pipeline.sample import faults
from pipeline.sample.simulator import simulate

ROOT = recorded("01_root_index.txt").body
PRODUCT = "md-all-rel-200907"


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Upstream:
    """A tree that no test changes."""
    upstream = Upstream(tmp_path_factory.mktemp("listings") / "upstream")
    upstream.add(PRODUCT, "o1.chip.1.1.1", [File("a.fits", b"A" * 1000), File("b.txt", b"B", "text")])
    upstream.add(PRODUCT, "o1.chip.2.2.1", [File("c.fits", b"C")], stage="warp")
    upstream.add("a b", "x y+z:1", [File("p q.fits", b"content")])
    upstream.add("a b", "x y+z:2", [File("r.fits", b"content")])
    upstream.add("odd", "f", [File("a.fits", b"A", listed={"bytes": "many"})])
    return upstream


@pytest.fixture(scope="module")
def store_folder(release) -> Path:
    return release.folder


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that were made, in seconds; none of them is waited for."""
    return []


@pytest.fixture
def connect(pauses):
    """Makes clients that remember their pauses."""
    opened: list[DataStoreClient] = []

    def connect(url: str, attempts: int = 4, timeout: float = 20) -> DataStoreClient:
        policy = RetryPolicy(attempts=attempts, first_pause=1, sleep=pauses.append)
        opened.append(DataStoreClient(url, Limits(connections=2, timeout=timeout), policy))
        return opened[-1]

    yield connect
    for store in opened:
        store.close()


@pytest.fixture
def store(server, connect) -> DataStoreClient:
    return connect(server.url)


def targets(server) -> list[str]:
    return [request.target for request in server.requests]


def test_the_three_levels(store, release, server):
    assert [row.name for row in store.products()] == [PRODUCT, "a b", "odd"]
    assert [row.name for row in store.filesets(PRODUCT)] == ["o1.chip.1.1.1", "o1.chip.2.2.1"]
    body, files = store.files(PRODUCT, "o1.chip.1.1.1")
    assert body == release.path(PRODUCT, "o1.chip.1.1.1", "index.txt").read_bytes()
    assert [(row.name, row.bytes) for row in files] == [("a.fits", 1000), ("b.txt", 1)]
    assert targets(server) == [
        "/ds/index.txt",
        f"/ds/{PRODUCT}/index.txt",
        f"/ds/{PRODUCT}/o1.chip.1.1.1/index.txt",
    ]


def test_a_slash_at_the_end_of_the_address_makes_no_difference(server, connect):
    assert connect(server.url + "/").products() == connect(server.url).products()
    assert targets(server) == ["/ds/index.txt"] * 2


def test_a_distribution_fileset_without_files_is_no_answer(connect, pauses):
    with scripted(in_turn(answer(body=b"# fileID|bytes|md5sum|type|\n"))) as running:
        store = connect(running.url)
        assert store.files(PRODUCT, "f")[1] == []
        with pytest.raises(ServerUnavailable, match="got a listing without files"):
            store.files(PRODUCT, "f", may_be_empty=False)
    assert len(pauses) == 3


def test_what_came_since(store, server):
    assert [row.name for row in store.filesets(PRODUCT, since="o1.chip.1.1.1")] == ["o1.chip.2.2.1"]
    assert store.filesets(PRODUCT, since="o1.chip.2.2.1") == []
    assert targets(server)[0] == f"/ds/{PRODUCT}/index.txt?o1.chip.1.1.1"


def test_a_fileset_that_the_server_no_longer_knows(store, server, pauses):
    with pytest.raises(UnknownFileset, match=r"does not list fileset 'o1\.chip\.0\.0\.1'") as raised:
        store.filesets(PRODUCT, since="o1.chip.0.0.1")
    assert isinstance(raised.value, ServerUnavailable)
    assert (len(server.requests), pauses) == (1, [])


@pytest.mark.parametrize(
    "fault",
    [faults.database_down, faults.broken_include, faults.login_page],
    ids=lambda fault: fault.__name__,
)
def test_an_error_page_does_not_mean_that_a_fileset_is_unknown(fault, store, server, pauses):
    server.faults.append(fault())
    with pytest.raises(ServerUnavailable) as raised:
        store.filesets(PRODUCT, since="o1.chip.1.1.1")
    assert not isinstance(raised.value, UnknownFileset)
    assert (len(server.requests), len(pauses)) == (4, 3)


def test_an_empty_body_is_no_listing_when_nothing_was_asked_after(store, server):
    server.faults.append(faults.empty_body())
    with pytest.raises(ServerUnavailable, match="got an empty body") as raised:
        store.filesets(PRODUCT)
    assert not isinstance(raised.value, UnknownFileset)


def test_only_a_blank_in_a_name_is_encoded(store, server):
    assert [row.name for row in store.filesets("a b", since="x y+z:1")] == ["x y+z:2"]
    assert store.files("a b", "x y+z:1")[1][0].name == "p q.fits"
    with store.get(store.file_url("a b", "x y+z:1", "p q.fits")) as response:
        assert response.read(99) == b"content"
    assert targets(server) == [
        "/ds/a%20b/index.txt?x%20y+z:1",
        "/ds/a%20b/x%20y+z:1/index.txt",
        "/ds/a%20b/x%20y+z:1/p%20q.fits",
    ]


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_the_query_reaches_the_server_as_it_was_and_with_nothing_a_shell_would_read(name):
    with scripted(lambda asked: answer(body=b"# filesetID|time registered|type|\n")) as server:
        store = DataStoreClient(server.url, Limits(1, 60), RetryPolicy(4, 1))
        store.filesets("p", since=name)
        store.close()
    path, _, query = server.asked[0].target.partition("?")
    assert (path, unquote(query)) == ("/ds/p/index.txt", name)
    assert query.translate(dict.fromkeys(map(ord, "-_.~%+:"))).isalnum() or not query.strip("-_.~%+:")
    assert query.isascii()


def test_a_hidden_product_is_served_by_its_name(release, connect):
    with simulate(release.folder, hidden=[PRODUCT]) as server:
        store = connect(server.url)
        assert [row.name for row in store.products()] == ["a b", "odd"]
        assert len(store.filesets(PRODUCT)) == 2


def test_the_program_gives_its_name_and_takes_no_compression(connect):
    with scripted(lambda asked: answer(body=ROOT)) as server:
        connect(server.url).products()
    fields = server.asked[0].fields
    assert fields["user-agent"] == f"ipp-mirror/{__version__}"
    assert fields["accept-encoding"] == "identity"


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate, gzip", "unknown"])
def test_a_listing_that_comes_compressed_all_the_same_is_not_inflated(encoding, connect):
    bomb = gzip.compress(ROOT + bytes(5_000_000))
    with (
        scripted(lambda asked: answer(body=bomb, Content_Encoding=encoding)) as server,
        pytest.raises(ServerUnavailable, match="expected a listing without Content-Encoding, got '"),
    ):
        connect(server.url).products()
    assert len(server.asked) == 4


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_a_listing_without_an_encoding_may_say_so(encoding, connect):
    with scripted(lambda asked: answer(body=ROOT, Content_Encoding=encoding)) as server:
        assert len(connect(server.url).products()) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_statuses_that_are_final(status, store, server, pauses):
    server.faults.append(faults.fails(status))
    with pytest.raises(ServerUnavailable, match=f"{PRODUCT}/index.txt: expected a listing, got {status} "):
        store.filesets(PRODUCT)
    assert (len(server.requests), pauses) == (1, [])


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_statuses_that_are_worth_another_try(status, store, server, pauses):
    server.faults.append(faults.fails(status, times=2))
    assert len(store.products()) == 3
    assert (len(server.requests), len(pauses)) == (3, 2)
    server.faults.append(faults.fails(status))
    with pytest.raises(ServerUnavailable, match=f"expected a listing, got {status} "):
        store.products()
    assert (len(server.requests), len(pauses)) == (3 + 4, 2 + 3)


@pytest.mark.parametrize(
    "status", ["201 Created", "206 Partial Content", "204 No Content", "304 Not Modified"]
)
def test_only_200_is_a_listing(status, connect):
    with (
        scripted(lambda asked: answer(status, ROOT, Connection="close")) as server,
        pytest.raises(ServerUnavailable, match=f"expected a listing, got {status}"),
    ):
        connect(server.url).products()
    assert len(server.asked) == 1


@pytest.mark.parametrize("attempts", [1, 2, 7])
def test_pauses_double(attempts, release, server, connect, pauses):
    server.faults.append(faults.fails(500))
    with pytest.raises(ServerUnavailable):
        connect(server.url, attempts=attempts).products()
    assert len(server.requests) == attempts
    assert len(pauses) == attempts - 1
    for number, pause in enumerate(pauses):
        assert 0.8 * 2**number <= pause <= 1.2 * 2**number


def test_no_pause_is_longer_than_the_longest(server):
    server.faults.append(faults.fails(500))
    pauses: list[float] = []
    policy = RetryPolicy(attempts=12, first_pause=3, longest_pause=20, sleep=pauses.append)
    store = DataStoreClient(server.url, Limits(1, 60), policy)
    with pytest.raises(ServerUnavailable):
        store.products()
    store.close()
    assert max(pauses) == 20
    assert pauses[-1] == 20


def asked_to_wait(connect, pauses, retry_after: str, status: str = "503 Busy") -> float:
    """The pause that is made after an answer with that Retry-After."""
    with scripted(in_turn(answer(status, Retry_After=retry_after), answer(body=ROOT))) as server:
        assert len(connect(server.url).products()) == 6
    (pause,) = pauses
    return pause


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Busy", "500 Oops"])
def test_retry_after_in_seconds(status, connect, pauses):
    assert asked_to_wait(connect, pauses, "17", status) == 17


@pytest.mark.parametrize(("retry_after", "pause"), [("0", 0), ("300", 300), ("301", 300), ("9" * 400, 300)])
def test_retry_after_is_limited(retry_after, pause, connect, pauses):
    assert asked_to_wait(connect, pauses, retry_after) == pause


def test_retry_after_as_a_date(connect, pauses):
    pause = asked_to_wait(connect, pauses, formatdate(time.time() + 100, usegmt=True))
    assert 50 < pause <= 100


@pytest.mark.parametrize(("distance", "pause"), [(-3600, 0), (+86_400, 300)])
def test_retry_after_as_a_date_in_the_past_or_far_ahead(distance, pause, connect, pauses):
    assert asked_to_wait(connect, pauses, formatdate(time.time() + distance, usegmt=True)) == pause


@pytest.mark.parametrize(
    "retry_after",
    [
        "soon",
        "-5",
        "1.5",
        "1e3",
        "²",
        "Mon, 23 Nov 99999999999999999999 10:00:00 GMT",
        "Mon, 23 Nov 2026 10:00:00 +99999999999999",
        "Mon, 99 Foo 2026",
    ],
)
def test_a_retry_after_that_makes_no_sense_is_passed_over(retry_after, connect, pauses):
    assert 0.8 <= asked_to_wait(connect, pauses, retry_after) <= 1.2


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=40))
def test_no_retry_after_breaks_the_client(retry_after):
    pauses: list[float] = []
    with scripted(in_turn(answer("503 Busy", Retry_After=retry_after), answer(body=ROOT))) as server:
        store = DataStoreClient(server.url, Limits(16, 60), RetryPolicy(4, 1, sleep=pauses.append))
        assert len(store.products()) == 6
        store.close()
    assert 0 <= pauses[0] <= 300


@pytest.mark.parametrize(
    "fault",
    [
        lambda times: faults.hangs_up(after=0, target="listings", times=times),
        lambda times: faults.hangs_up(after=40, target="listings", times=times),
        lambda times: faults.resets(after=40, target="listings", times=times),
        lambda times: faults.cuts_row(times=times),
        lambda times: faults.empty_body(times=times),
        lambda times: faults.edits(lambda body: body + b"\xff\n", times=times),
    ],
    ids=["no body", "truncated", "reset", "row cut", "empty", "rubbish"],
)
def test_a_damaged_listing_is_asked_for_again(fault, store, server, pauses):
    server.faults.append(fault(2))
    assert [row.name for row in store.filesets(PRODUCT)] == ["o1.chip.1.1.1", "o1.chip.2.2.1"]
    assert (len(server.requests), len(pauses)) == (3, 2)
    server.faults.append(fault(None))
    with pytest.raises(ServerUnavailable, match=f"{PRODUCT}/index.txt"):
        store.filesets(PRODUCT)
    assert (len(server.requests), len(pauses)) == (3 + 4, 2 + 3)


def test_a_chunked_listing_that_ends_at_a_row_but_without_its_last_chunk(store, server):
    body = store.files(PRODUCT, "o1.chip.1.1.1")[0]
    at_a_row = body.index(b"\n", body.index(b"a.fits")) + 1
    server.faults.append(faults.hangs_up(after=at_a_row, target="*/*/index.txt"))
    with pytest.raises(
        ServerUnavailable, match=r"index\.txt: connection closed by 127\.0\.0\.1:\d+ before the end\."
    ):
        store.files(PRODUCT, "o1.chip.1.1.1")


def test_rows_that_make_no_sense_are_not_asked_for_again(store, server, pauses):
    with pytest.raises(ContentMismatch, match=r"expected a size in bytes .* for file 'a\.fits', got 'many'"):
        store.files("odd", "f")
    assert (len(server.requests), pauses) == (1, [])


def test_a_listing_without_end(server):
    store = DataStoreClient(server.url, Limits(1, 60, listing_bytes=5_000_000), RetryPolicy(4, 1))
    server.faults.append(faults.never_ends(target="listings"))
    with pytest.raises(ServerUnavailable, match="expected a listing, got more than 5000000 bytes"):
        store.products()
    store.close()
    assert len(server.requests) == 1


def test_a_listing_that_stops_coming(server, connect, pauses):
    server.faults.append(faults.stalls(after=30, target="listings", times=1))
    assert len(connect(server.url, timeout=1).products()) == 3
    assert (len(server.requests), len(pauses)) == (2, 1)
    server.faults.append(faults.stalls(after=0, target="listings"))
    with pytest.raises(ServerUnavailable, match=r"no more bytes from 127\.0\.0\.1:\d+ within 0\.5 s"):
        connect(server.url, timeout=0.5, attempts=2).products()
    assert len(server.requests) == 4


def test_an_answer_that_does_not_begin(server, connect):
    server.faults.append(faults.delays(30))
    with pytest.raises(ServerUnavailable, match=r"no response from 127\.0\.0\.1:\d+ within [\d.]+ s"):
        connect(server.url, timeout=0.2, attempts=2).products()
    assert len(server.requests) == 2


def test_nobody_there(connect, pauses):
    url = f"http://127.0.0.1:{free_port()}/ds"
    with pytest.raises(ServerUnavailable, match=f"{url}/index.txt: connection refused by 127"):
        connect(url).products()
    assert len(pauses) == 3


OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
NO_ANSWERS = {
    "blank": b"\r\n\r\n",
    "no status": b"HTTP/1.1 abc\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "many fields": OK + b"X: y\r\n" * 200 + b"\r\n",
    "a long field": OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "a wrong chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "a long chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 70_000,
    "noise": b"\x00\xff" * 1000,
}


@pytest.mark.parametrize("name", NO_ANSWERS)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_what_is_no_answer(name, connect):
    with (
        scripted(lambda asked: NO_ANSWERS[name]) as server,
        pytest.raises(
            ServerUnavailable,
            match=r"index\.txt: (no (valid HTTP )?response from 127|connection closed by|expected an?|"
            r"response of .* aborted)",
        ),
    ):
        connect(server.url, timeout=0.5, attempts=2).products()
    assert len(server.asked) == 2
    gc.collect()  # urllib3 leaves the connection of "two lengths" to the collector
