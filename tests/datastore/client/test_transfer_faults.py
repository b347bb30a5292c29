"""One file from a server that misbehaves: what is here afterwards, and what was asked for."""

import hashlib
import random
from pathlib import Path

import pytest

from pipeline.datastore.client.http import DataStoreClient
from pipeline.datastore.client.limits import Limits
from pipeline.datastore.client.retry import RetryPolicy
from pipeline.datastore.client.transfer import Transfer
from pipeline.datastore.listing import FileRow
from pipeline.errors import ContentMismatch, MirrorError, ServerUnavailable
from pipeline.sample import faults
from pipeline.sample.simulator import Simulator, simulate

CONTENT = random.Random(1).randbytes(3_000_000)
ROW = FileRow("f.tgz", len(CONTENT), hashlib.md5(CONTENT).hexdigest(), "tgz", {})


@pytest.fixture
def server(tmp_path: Path):
    folder = tmp_path / "store" / "p" / "f"
    folder.mkdir(parents=True)
    (folder / "f.tgz").write_bytes(CONTENT)
    (folder / "index.txt").write_text(f"# fileID|bytes|md5sum|type|\nf.tgz|{ROW.bytes}|{ROW.md5}|tgz|\n")
    with simulate(tmp_path / "store") as running:
        yield running


class Fetch:
    """A transfer of the one file; remembers its pauses and the bytes it received."""

    def __init__(
        self,
        server: Simulator,
        partial: Path,
        row: FileRow = ROW,
        attempts: int = 4,
        progress: int = RetryPolicy.progress_bytes,
    ) -> None:
        self.pauses: list[float] = []
        self.received = 0
        policy = RetryPolicy(attempts, 1.0, progress_bytes=progress, sleep=self.pauses.append)
        self.store = DataStoreClient(server.url, Limits(connections=2, timeout=1), policy)
        url = self.store.file_url("p", "f", "f.tgz")
        self.transfer = Transfer(self.store, self.store.retry_policy, url, row, partial, self._count)

    def _count(self, count: int) -> None:
        self.received += count

    def __call__(self) -> None:
        try:
            self.transfer.fetch()
        finally:
            self.store.close()


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / "x.part"


RECOVERABLE = {
    "5xx storm": lambda: faults.fails(503, target="files", times=3),
    "short body": lambda: faults.hangs_up(after=1_500_000, times=1),
    "reset": lambda: faults.resets(after=1_500_000, times=1),
    "stall": lambda: faults.stalls(after=1_500_000, times=1),
    "flipped byte": lambda: faults.flips_byte(times=1),
    "endless body": lambda: faults.never_ends(times=1),
    "wrong Content-Length": lambda: faults.misstates_length(-1, times=1),
    "Content-Encoding": lambda: faults.compresses(times=1),
}


@pytest.mark.parametrize("name", RECOVERABLE)
def test_a_passing_trouble_is_overcome(name, server, partial):
    server.faults.append(RECOVERABLE[name]())
    Fetch(server, partial)()
    assert partial.read_bytes() == CONTENT
    assert not partial.with_suffix(".json").exists()


LASTING = {
    "5xx storm": (lambda: faults.fails(503, target="files"), ServerUnavailable, 4),
    "404": (lambda: faults.fails(404, target="files"), ContentMismatch, 1),
    "403": (lambda: faults.fails(403, target="files"), ContentMismatch, 1),
    "reset": (lambda: faults.resets(after=100), ServerUnavailable, 4),
    "flipped byte": (lambda: faults.flips_byte(), ContentMismatch, 2),
    "endless body": (lambda: faults.never_ends(), ContentMismatch, 2),
    "wrong Content-Length": (lambda: faults.misstates_length(-1), ContentMismatch, 2),
    "Content-Encoding": (lambda: faults.compresses(), ContentMismatch, 2),
    "redirect loop": (lambda: faults.redirects(target="files"), ServerUnavailable, 6),
    "another host": (lambda: faults.redirects("http://127.0.0.2:9/x", target="files"), ServerUnavailable, 1),
    "another scheme": (lambda: faults.redirects("ftp://127.0.0.1/x", target="files"), ServerUnavailable, 1),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_trouble_fails_with_its_reason(name, server, partial):
    fault, error, requests = LASTING[name]
    server.faults.append(fault())
    fetch = Fetch(server, partial)
    with pytest.raises(error) as raised:
        fetch()
    assert server.url in str(raised.value)
    assert len(server.requests) == requests
    assert not partial.exists() or partial.read_bytes() != CONTENT


def test_never_more_than_the_listed_bytes_are_written(server, partial):
    server.faults.append(faults.never_ends())
    fetch = Fetch(server, partial)
    with pytest.raises(MirrorError):
        fetch()
    assert fetch.received <= 2 * ROW.bytes


def test_what_was_received_is_not_fetched_again(server, partial):
    server.faults.append(faults.hangs_up(after=2_000_000, times=1))
    fetch = Fetch(server, partial)
    fetch()
    first, second = server.requests
    assert (first.range, second.status) == (None, 206)
    held = int(second.range.removeprefix("bytes=").removesuffix("-"))
    assert 0 < held <= 2_000_000
    assert second.bytes_sent == ROW.bytes - held
    assert fetch.received == ROW.bytes


def interrupted(server: Simulator, partial: Path) -> None:
    """Leave a partial file as a run that ended early does."""
    server.faults.append(faults.hangs_up(after=2_000_000))
    with pytest.raises(ServerUnavailable):
        Fetch(server, partial, attempts=1, progress=1 << 60)()
    server.faults.clear()
    server.clear()
    assert 0 < partial.stat().st_size < ROW.bytes


def test_a_later_run_goes_on(server, partial):
    interrupted(server, partial)
    Fetch(server, partial)()
    assert [request.status for request in server.requests] == [206]
    assert partial.read_bytes() == CONTENT


def test_a_file_that_changed_in_between_starts_afresh(server, partial, tmp_path):
    interrupted(server, partial)
    changed = bytes(reversed(CONTENT))
    (tmp_path / "store" / "p" / "f" / "f.tgz").write_bytes(changed)
    row = FileRow("f.tgz", len(changed), hashlib.md5(changed).hexdigest(), "tgz", {})
    Fetch(server, partial, row)()
    assert [(request.range, request.status) for request in server.requests] == [(None, 200)]
    assert partial.read_bytes() == changed


def test_a_server_that_sends_the_whole_file_is_taken_at_its_word(server, partial):
    interrupted(server, partial)
    server.faults.append(faults.ignores_range())
    Fetch(server, partial)()
    assert [request.status for request in server.requests] == [200]
    assert partial.read_bytes() == CONTENT


def test_a_wrong_content_range_starts_afresh(server, partial):
    interrupted(server, partial)
    server.faults.append(faults.shifts_content_range(times=1))
    Fetch(server, partial)()
    assert [request.status for request in server.requests] == [206, 200]
    assert partial.read_bytes() == CONTENT


def test_a_damaged_partial_file_is_found_out(server, partial):
    interrupted(server, partial)
    damaged = bytearray(partial.read_bytes())
    damaged[1000] ^= 1
    partial.write_bytes(bytes(damaged))
    Fetch(server, partial)()
    assert [request.status for request in server.requests] == [206, 200]
    assert partial.read_bytes() == CONTENT


def test_without_md5_a_partial_file_of_an_earlier_run_is_not_trusted(server, partial):
    partial.write_bytes(b"x" * 1_000_000)
    Fetch(server, partial, FileRow("f.tgz", ROW.bytes, None, "tgz", {}))()
    assert [request.range for request in server.requests] == [None]
    assert partial.read_bytes() == CONTENT


@pytest.mark.parametrize(("asked", "waited"), [("17", 17), ("99999", 300)])
def test_retry_after_replaces_the_growing_pause(asked, waited, server, partial):
    server.faults.append(faults.fails(429, retry_after=asked, target="files", times=1))
    fetch = Fetch(server, partial)
    fetch()
    assert fetch.pauses == [waited]


def test_pauses_grow(server, partial):
    server.faults.append(faults.fails(503, target="files"))
    fetch = Fetch(server, partial)
    with pytest.raises(ServerUnavailable):
        fetch()
    assert len(fetch.pauses) == 3
    for pause, middle in zip(fetch.pauses, (1, 2, 4), strict=True):
        assert 0.8 * middle <= pause <= 1.2 * middle
