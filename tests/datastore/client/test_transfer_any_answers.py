"""Several files over kept connections, whatever the server answers: each is the listed one, or fails."""

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scripted_server import Answers, Asked, answer, scripted

from pipeline.datastore.client.fetch_pool import FetchPool
from pipeline.datastore.client.http import DataStoreClient, Limits
from pipeline.datastore.client.retry import RetryPolicy, retry
from pipeline.datastore.client.transfer import Transfer
from pipeline.datastore.listing import FileRow
from pipeline.errors import ContentMismatch, ServerUnavailable

TIMEOUT_SECONDS = 60
NAMES = [f"o5 +%7e;{number}.tgz" for number in range(3)] + [f"o5.{number}.mdc" for number in range(5)]
CONTENT = {
    name: random.Random(name).randbytes(700_000 if name.endswith(".tgz") else 20_000) for name in NAMES
}


def content_of(asked: Asked) -> bytes:
    return CONTENT[unquote(asked.target).rsplit("/", 1)[1]]


class Client:
    """A client of a scripted server, and the threads that fetch."""

    def __init__(self, url: str, folder: Path, connections: int, timeout: float) -> None:
        policy = RetryPolicy(attempts=2, sleep=lambda _: None)
        self.store = DataStoreClient(url, Limits(connections=connections, timeout=timeout), policy)
        self.pool = FetchPool(connections)
        self._folder = folder

    def fetch(self, name: str, md5: bool = True) -> bytes:
        """The file, as its row lists it."""
        content = CONTENT[name]
        row = FileRow(name, len(content), hashlib.md5(content).hexdigest() if md5 else None, "tgz", {})
        partial = self._folder / f"{name}.part"
        Transfer(
            self.store,
            self.store.retry_policy,
            self.store.file_url("p", "f", name),
            row,
            partial,
            lambda _: None,
        ).fetch()
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


@pytest.mark.parametrize("size", [100, 5_000, 1_000_000], ids=["short", "longer", "longer than any buffer"])
def test_an_answer_to_nothing_is_not_the_content_of_the_next_file(size, tmp_path):
    """Nor is its rest, for files without an md5 against which to verify."""
    extra = answer(body=b"x" * size)
    with connected(lambda asked: answer(body=content_of(asked)) + extra, tmp_path) as client:
        for name in NAMES:
            assert client.fetch(name, md5=False) == CONTENT[name]


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


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        files = {name: client.pool.submit(client.fetch, name) for name in names}
        for name, file in files.items():
            error = file.exception(TIMEOUT_SECONDS)
            assert isinstance(error, (ContentMismatch, ServerUnavailable)) or file.result() == CONTENT[name]
        # No connection is lost by what went wrong: all of them can be used at once.
        script.clear()
        patient = RetryPolicy(attempts=100, first_pause=0)
        turns = [client.pool.submit(retry, patient, use_one) for _ in range(connections)]
        assert {turn.result(TIMEOUT_SECONDS) for turn in turns} == set(range(connections))
