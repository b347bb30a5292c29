"""Limits of one server: least speed, deadline of a listing, bytes beside the body, and the end of a run."""

import itertools
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.scripted_server import answer, in_turn, scripted
from support.upstream import File, Upstream
from support.wire import until

from pipeline.datastore.client.http import DataStoreClient
from pipeline.datastore.client.limits import Limits
from pipeline.datastore.client.retry import RetryableError, RetryPolicy, retry
from pipeline.errors import ServerUnavailable
from pipeline.sample import faults
from pipeline.sample.faults import Fault

LISTING = b"# productID|Most recent|Time registered|type|Description|\np|none|null|t|d|\n"
CONTENT = bytes(range(256)) * 400
CHUNKED = answer(Transfer_Encoding="chunked", Content_Length="")
TIMEOUT_SECONDS = 60


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory) -> Path:
    upstream = Upstream(tmp_path_factory.mktemp("limits") / "upstream")
    upstream.add("p", "f", [File("x.fits", CONTENT)])
    return upstream.folder


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def connect(stopping):
    opened: list[DataStoreClient] = []

    def connect(url: str, attempts: int = 2, **limits: float) -> DataStoreClient:
        policy = RetryPolicy(attempts=attempts, first_pause=1, sleep=lambda _: None)
        client = DataStoreClient(url, Limits(**{"connections": 1, "timeout": 20} | limits), policy, stopping)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


def fetch(client: DataStoreClient) -> bytes:
    """The file, as a transfer reads it."""
    with client.get(client.file_url("p", "f", "x.fits")) as response:
        return b"".join(iter(lambda: response.read(1 << 18), b""))


def drip(*pieces: bytes, seconds: float = 0.02) -> Iterator[bytes]:
    """The pieces, each after a pause, the last one again and again."""
    for piece in itertools.chain(pieces, itertools.repeat(pieces[-1])):
        yield piece
        time.sleep(seconds)


SLOW: dict[str, Callable[[], Fault]] = {
    "body": lambda: faults.throttles(100, target="everything"),
    "interim responses": lambda: faults.sends_interim(0.05),
    "trailers": lambda: faults.sends_trailers(0.05, target="everything"),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_response_that_trickles_is_aborted(name, server, connect):
    server.faults.append(SLOW[name]())
    client = connect(server.url, timeout=0.5, least_speed=3000)
    with pytest.raises(
        ServerUnavailable,
        match=r"index\.txt: response of 127.* aborted: \d+ bytes in [\d.]+ s, expected 3000 bytes/s\. The",
    ):
        client.products()
    if name != "trailers":  # which come after all of the file, and that is fast enough
        with pytest.raises(
            RetryableError, match=r"x\.fits: response of 127.* aborted: \d+ bytes in [\d.]+ s"
        ):
            fetch(client)
    assert {request.target for request in server.requests[:2]} == {"/ds/index.txt"}


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD, b"X: y\r\n"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED + b"1;", b"x"),
        (CHUNKED + b"0\r\n", b"X: y\r\n"),
    ],
    ids=["head", "chunks", "chunk extension", "trailers"],
)
def test_every_part_of_a_response_may_trickle_also_through_tls(pieces, connect, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with (
        scripted(lambda _: drip(*pieces), tls=context) as server,
        pytest.raises(ServerUnavailable, match=r"aborted: \d+ bytes in [\d.]+ s, expected 5000 bytes/s"),
    ):
        connect(server.url, attempts=1, timeout=0.5, least_speed=5000).products()
    assert len(server.asked) == 1


@pytest.mark.parametrize("url", ["http://store.example/ds", "https://store.example/ds"])
def test_a_proxy_that_trickles(url, connect, monkeypatch):
    with scripted(lambda _: drip(HEAD, b"X: y\r\n")) as proxy:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/ds"))
        with pytest.raises(
            ServerUnavailable, match=r"response of (the proxy|store\.example) aborted: \d+ bytes in"
        ):
            connect(url, attempts=1, timeout=0.5, least_speed=5000).products()
    assert len(proxy.asked) == 1


# On a busy machine the server itself may be silent for so long: then the next try shows it.
PATIENT = RetryPolicy(attempts=20, first_pause=0)


def test_a_slow_line_is_no_trickle(server, connect):
    server.faults.append(faults.throttles(100_000))
    client = connect(server.url, timeout=0.5, least_speed=2000)
    assert retry(PATIENT, lambda: fetch(client)) == CONTENT


def test_the_time_that_the_reader_takes_does_not_count(server, connect):
    client = connect(server.url, timeout=0.2, least_speed=400_000)

    def read_slowly() -> bytes:
        content = b""
        with client.get(client.file_url("p", "f", "x.fits")) as response:
            while chunk := response.read(10_000):
                content += chunk
                time.sleep(0.03)
        return content

    assert retry(PATIENT, read_slowly) == CONTENT


ASKS = """
import sys
from pipeline.datastore.client.http import DataStoreClient
from pipeline.datastore.client.limits import Limits
from pipeline.datastore.client.retry import RetryPolicy
client = DataStoreClient(sys.argv[1], Limits(connections=1, timeout=1.5), RetryPolicy(1, 0))
print(len(client.products()))
client.close()
"""


def test_the_time_for_which_the_process_is_stopped_is_no_silence_of_the_server():
    """As by Ctrl-Z, or where a machine stands still: what the server sends is late by no fault of its own."""
    goes_on = threading.Event()

    def held_up(_asked) -> Iterator[bytes]:
        whole = answer(body=LISTING)
        yield whole[:-40]
        goes_on.wait(TIMEOUT_SECONDS)
        # Later than the process sees that nothing came while it was stopped.
        time.sleep(0.1)
        yield whole[-40:]

    with scripted(held_up) as server:
        command = [sys.executable, "-c", ASKS, server.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            until(lambda: server.asked)
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.6)
            process.send_signal(signal.SIGCONT)
            goes_on.set()
            assert process.communicate(timeout=TIMEOUT_SECONDS)[0] == "1\n"


def test_a_listing_has_a_deadline(server, connect):
    server.faults.append(faults.throttles(200, target="everything"))
    with pytest.raises(ServerUnavailable, match=r"expected a listing within 0\.1 s, got \d+ bytes of one"):
        connect(server.url, listing_seconds=0.1, least_speed=1).products()
    assert len(server.requests) == 1


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
ENDLESS = {
    "100 responses": (b"HTTP/1.1 100 Continue\r\n\r\n",),
    "103 responses": (INTERIM,),
    "a status line": (b"HTTP/1.1 200 ", b"K" * 1000),
    "fields": (HEAD, b"X: " + b"y" * 10_000 + b"\r\n"),
    "a chunk extension": (CHUNKED + b"1;", b"x" * 1000),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n" * 100),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_is_beside_the_body_is_bounded(name, connect):
    with (
        scripted(lambda _: drip(*ENDLESS[name], seconds=0)) as server,
        pytest.raises(
            ServerUnavailable, match=r"more than 65536 bytes beside the body|no valid HTTP response from 127"
        ),
    ):
        connect(server.url).products()
    assert len(server.asked) == 2


def test_interim_responses_are_skipped(connect):
    said = INTERIM + b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n"
    with scripted(in_turn(said + answer(body=LISTING), answer("404 Not Found"))) as server:
        client = connect(server.url)
        assert [row.name for row in client.products()] == ["p"]
        with pytest.raises(ServerUnavailable, match="got 404"):
            client.products()
    assert server.connections == 1


# The end of a run.


def ended(work: Callable[[], object], started: Callable[[], object], stopping: threading.Event) -> str:
    """The reason for which the work ends, when the run stops after its start."""
    reasons: list[str] = []

    def run() -> None:
        with pytest.raises(ServerUnavailable) as raised:
            work()
        reasons.append(str(raised.value))

    thread = threading.Thread(target=run)
    thread.start()
    while not started():
        time.sleep(0.005)
    assert not reasons
    stopping.set()
    thread.join(TIMEOUT_SECONDS)
    return reasons[0]


@pytest.mark.parametrize(
    "fault",
    [faults.delays(60), faults.stalls(after=20, target="everything"), *(make() for make in SLOW.values())],
    ids=["no head", "no more", *SLOW],
)
def test_a_stop_ends_what_the_server_delays(fault, server, connect, stopping):
    server.faults.append(fault)
    client = connect(server.url, attempts=4, timeout=60, stopping_timeout=0.1)
    reason = ended(client.products, lambda: server.requests, stopping)
    assert "/ds/index.txt: response of 127.0.0.1:" in reason
    with pytest.raises(ServerUnavailable, match="not requested, as the run stops"):
        fetch(client)
    assert len(server.requests) == 1


def test_a_stop_does_not_end_a_fast_transfer(server, connect, stopping):
    stopping.set()
    server.faults.append(faults.throttles(100_000))
    client = connect(server.url, stopping_timeout=0.5)
    assert fetch(client) == CONTENT
    assert [row.name for row in client.products()] == ["p"]
