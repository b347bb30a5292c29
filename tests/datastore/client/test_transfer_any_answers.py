"""Several files over kept connections, whatever the server answers: each is the listed one, or fails."""

import hashlib
import random
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scripted_server import Answers, Asked, answer, scripted

from pipeline.datastore.client.fetch_pool import FetchPool
from pipeline.datastore.client.http import DataStoreClient
from pipeline.datastore.client.limits import Limits
from pipeline.datastore.client.retry import RetryPolicy, retry
from pipeline.datastore.client.transfer import Transfer
from pipeline.datastore.listing import FileRow
from pipeline.errors import ContentMismatch, ServerUnavailable

TIMEOUT_SECONDS = 60
NAMES = [f"o5 +%7e;{number}.tgz" for number in range(3)] + [f"o5.{number}.mdc" for number in range(5)]
CONTENT = {
    name: random.Random(name).randbytes(700_000 if name.endswith(".tgz") else 20_000) for name in NAMES
}

ROWS = {
    name: FileRow(name, len(content), hashlib.md5(content).hexdigest(), "tgz", {})
    for name, content in CONTENT.items()
}


def content_of(asked: Asked) -> bytes:
    return CONTENT[unquote(asked.target).rsplit("/", 1)[1]]


class Client:
    """A client of a scripted server, and the threads that fetch."""

    def __init__(self, url: str, folder: Path, connections: int, timeout: float) -> None:
        policy = RetryPolicy(attempts=2, first_pause=1, sleep=lambda _: None)
        self.store = DataStoreClient(url, Limits(connections=connections, timeout=timeout), policy)
        self.pool = FetchPool(connections)
        self._folder = folder

    def fetch(self, row: FileRow) -> bytes:
        store, partial = self.store, self._folder / f"{row.name}.part"
        url = store.file_url("p", "f", row.name)
        Transfer(store, store.retry_policy, url, row, partial, lambda _: None).fetch()
        return partial.read_bytes()


@contextmanager
def connected(answers: Answers, folder: Path, connections: int = 1, timeout: float = 20) -> Iterator[Client]:
    with scripted(answers) as server:
        client = Client(server.url, folder, connections, timeout)
        try:
            yield client
        finally:
            client.pool.close()
            client.store.close()


FILES = {f"{number}.tgz": bytes([number]) * 5_000 for number in range(5)}
# An answer to nothing, which would do for each of the files: they have no md5.
EXTRA = answer(body=b"x" * 5_000)


def file_answer(target: str) -> bytes:
    return answer(body=FILES[target.rsplit("/", 1)[1]])


def row_without_md5(name: str) -> FileRow:
    return FileRow(name, len(FILES[name]), None, "tgz", {})


def test_an_answer_to_nothing_that_comes_with_a_file_is_not_taken_for_the_next(tmp_path):
    with connected(lambda asked: file_answer(asked.target) + EXTRA, tmp_path) as client:
        for name, content in FILES.items():
            assert client.fetch(row_without_md5(name)) == content


def test_an_answer_to_nothing_that_comes_after_a_file_is_not_taken_for_the_next(tmp_path):
    fetched, sent = threading.Semaphore(0), threading.Semaphore(0)

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(file_answer(line.split()[1].decode()))
                assert fetched.acquire(timeout=TIMEOUT_SECONDS)
                self.wfile.write(EXTRA)
                sent.release()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Connection) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        client = Client(f"http://127.0.0.1:{server.server_address[1]}/ds", tmp_path, 1, TIMEOUT_SECONDS)
        try:
            for name, content in FILES.items():
                assert client.fetch(row_without_md5(name)) == content
                fetched.release()
                assert sent.acquire(timeout=TIMEOUT_SECONDS)
        finally:
            client.store.close()
            server.shutdown()


BAD: dict[str, Callable[[bytes, Asked], bytes]] = {
    "flipped": lambda whole, _: whole[:-1] + bytes([whole[-1] ^ 1]),
    "none": lambda whole, _: b"",
    "rubbish": lambda whole, _: b"HTTP/1.1 ???\r\n\r\n",
    "404": lambda whole, _: answer("404 Not Found"),
    "503": lambda whole, _: answer("503 Service Unavailable"),
    "ends": lambda whole, _: whole.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1),
    "too long": lambda whole, _: whole + answer(body=b"an answer to nothing"),
    "too short": lambda whole, _: whole[:-10],
    "moved": lambda _, asked: answer("302 Found", Location=asked.target),
    "another's": lambda whole, _: answer(body=random.Random(1).randbytes(len(whole))),
}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(st.sampled_from([None, None, *BAD]), max_size=15),
    names=st.permutations(NAMES),
    connections=st.integers(1, 3),
)
def test_whatever_comes_each_file_is_the_listed_one_or_fails(script, names, connections, tmp_path):
    lock = threading.Lock()
    together = threading.Barrier(connections)

    def answers(asked: Asked) -> bytes:
        with lock:
            bad = script.pop() if script else None
        whole = answer(body=content_of(asked))
        return BAD[bad](whole, asked) if bad else whole

    def use_one() -> int:
        with client.store.get(client.store.file_url("p", "f", NAMES[0])):
            return together.wait(TIMEOUT_SECONDS)

    # Nothing else ends an answer that is too short, on a connection that is kept.
    with connected(answers, tmp_path, connections, timeout=0.3) as client:
        files = {name: client.pool.submit(client.fetch, ROWS[name]) for name in names}
        for name, file in files.items():
            error = file.exception(TIMEOUT_SECONDS)
            assert isinstance(error, (ContentMismatch, ServerUnavailable)) or file.result() == CONTENT[name]
        # No connection is lost by what went wrong: all of them can be used at once.
        script.clear()
        patient = RetryPolicy(attempts=100, first_pause=0)
        turns = [client.pool.submit(retry, patient, use_one) for _ in range(connections)]
        assert {turn.result(TIMEOUT_SECONDS) for turn in turns} == set(range(connections))
