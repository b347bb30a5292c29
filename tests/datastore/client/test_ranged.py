"""Transfers in byte ranges: requests and connections, faults of the server, what is fetched again."""

import asyncio
import gc
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial as partly
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from support.scripted_server import Asked, Scripted, answer, scripted

from pipeline.datastore.client.fetch_pool import FetchPool
from pipeline.datastore.client.fetcher import NoAnswer
from pipeline.datastore.client.http import DataStoreClient
from pipeline.datastore.client.limits import Limits
from pipeline.datastore.client.ranged import RangePolicy
from pipeline.datastore.client.ranged import fetch as fetch_in_ranges
from pipeline.datastore.client.retry import RetryPolicy
from pipeline.datastore.client.transfer import Transfer
from pipeline.datastore.listing import FileRow
from pipeline.errors import ContentMismatch, MirrorError, ServerUnavailable
from pipeline.sample import faults
from pipeline.sample.faults import Fault
from pipeline.sample.simulator import Simulator

pytestmark = pytest.mark.usefixtures("unconnected")

MB = 1 << 20
COUNT = 4
CONTENT = random.Random(11).randbytes(18 * MB + 12_345)
SIZE = len(CONTENT)
RANGE = -(-SIZE // COUNT)
TIMEOUT_SECONDS = 60
# So much further no try gets: each one counts.
NEVER = 1 << 60


def row_of(content: bytes, name: str = "f.tgz") -> FileRow:
    return FileRow(name, len(content), hashlib.md5(content).hexdigest(), "tgz", {})


ROW = row_of(CONTENT)
# A file of this size comes in as many equal ranges as there are connections.
EQUAL = RangePolicy(small=8 * MB)


@dataclass
class Later(Fault):
    """A fault that begins after so many requests that match."""

    skip: int = 1

    @classmethod
    def of(cls, fault: Fault, skip: int = 1) -> "Later":
        return cls(fault.act, fault.target, fault.times, skip=skip)

    def matches(self, path: str) -> bool:
        if path.endswith("index.txt"):
            return False
        self.skip -= 1
        return self.skip < 0 and super().matches(path)


class Fetch:
    """A large file fetched by several connections. ``received`` bytes were taken in all."""

    def __init__(
        self,
        url: str,
        part: Path,
        row: FileRow = ROW,
        *,
        count: int = COUNT,
        attempts: int = 4,
        timeout: float = 20,
        sleep: Callable[[float], object] = lambda _: None,
        ranges: RangePolicy = EQUAL,
        progress: int = RetryPolicy.progress_bytes,
    ) -> None:
        self.pauses: list[float] = []
        self.received = 0
        self.part = part
        self.pool = FetchPool(count)
        self._ranges = ranges
        self._lock = threading.Lock()
        policy = RetryPolicy(
            attempts=attempts,
            first_pause=1,
            progress_bytes=progress,
            sleep=lambda pause: (self.pauses.append(pause), sleep(pause)),
        )
        self._store = DataStoreClient(url, Limits(connections=count, timeout=timeout), policy)
        url = self._store.file_url("p", "f", row.name)
        self._transfer = Transfer(self._store, policy, url, row, part, self.count)

    def count(self, count: int) -> None:
        with self._lock:
            self.received += count
            assert not self.part.exists() or self.part.stat().st_size <= self._transfer.row.bytes

    def submit(self) -> Future[None]:
        return self.pool.submit(fetch_in_ranges, self._transfer, self.pool, self._ranges)

    def close(self) -> None:
        self.pool.close()
        self._store.close()

    def run(self) -> "Fetch":
        try:
            self.submit().result()
        finally:
            self.close()
        return self


@pytest.fixture(autouse=True)
def served(store_folder) -> Path:
    path = store_folder / "p" / "f" / "f.tgz"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "x.part"


@pytest.fixture
def record(part: Path) -> Path:
    return part.with_suffix(".json")


@pytest.fixture
def fetch(part):
    return lambda server, row=ROW, **more: Fetch(server.url, part, row, **more).run()


@pytest.fixture
def fails(part):
    """Fetches in vain; the transfer and its error."""

    def fails(server, row=ROW, error: type[MirrorError] = ContentMismatch, **more) -> tuple[Fetch, str]:
        fetching = Fetch(server.url, part, row, **more)
        with pytest.raises(error) as raised:
            fetching.run()
        assert type(raised.value) is error
        assert str(raised.value).startswith(f"{server.url}/p/f/{row.name}: ")
        return fetching, str(raised.value)

    return fails


def asked(server: Simulator) -> list[tuple[str | None, int | None]]:
    return [(request.range, request.status) for request in server.requests]


def bounds(range_: str) -> tuple[int, int]:
    """The first byte of a Range, and the one behind its last."""
    first, last = range_.removeprefix("bytes=").split("-")
    return int(first), int(last) + 1


def ranges(server: Simulator) -> list[tuple[int, int]]:
    return sorted(bounds(request.range) for request in server.requests)


def sent(server: Simulator) -> int:
    return sum(request.bytes_sent for request in server.requests)


def adjoin(parts: list[tuple[int, int]], start: int, end: int) -> bool:
    """Return True if the ranges, in order, make up these bytes."""
    edges = [start, *(edge for part in parts for edge in part), end]
    return edges[::2] == edges[1::2]


def ends_when_there_are(count: int, server: Simulator) -> Fault:
    """No answer ends before so many have been under way at once."""

    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        async def held(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                while server.peak_in_progress < count:
                    await asyncio.sleep(0.005)
            await send(message)

        await app(scope, receive, held)

    return Fault(act, faults.FILES)


# Nothing is wrong.


def test_all_connections_fetch_one_file(server, fetch, part, record):
    server.faults.append(ends_when_there_are(COUNT, server))
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received == sent(server) == SIZE
    assert adjoin(ranges(server), 0, SIZE)
    assert [end - start for start, end in ranges(server)[:-1]] == [RANGE] * (COUNT - 1)
    assert asked(server)[0] == (f"bytes=0-{RANGE - 1}", 206)
    assert server.peak_connections == server.peak_in_progress == COUNT
    assert [path.name for path in part.parent.iterdir()] == ["x.part"]


@pytest.mark.parametrize("count", [2, 3, 16])
def test_any_number_of_connections(count, server, fetch, part):
    fetched = fetch(server, count=count)
    assert part.read_bytes() == CONTENT
    assert fetched.received == sent(server) == SIZE
    assert adjoin(ranges(server), 0, SIZE)
    assert server.peak_connections <= count


@pytest.mark.parametrize("size", [EQUAL.from_bytes - 1, 5, 0])
def test_a_file_that_is_not_large_is_asked_for_as_a_whole(size, server, served, fetch, part):
    served.write_bytes(CONTENT[:size])
    fetch(server, row_of(CONTENT[:size]))
    assert asked(server) == [(None, 200)]
    assert part.read_bytes() == CONTENT[:size]


def test_the_least_size_that_is_split(server, served, fetch, part):
    served.write_bytes(CONTENT[: EQUAL.from_bytes])
    fetch(server, row_of(CONTENT[: EQUAL.from_bytes]))
    assert len(server.requests) == COUNT
    assert part.read_bytes() == CONTENT[: EQUAL.from_bytes]


def test_one_connection_needs_no_ranges(server, fetch, part):
    fetch(server, count=1)
    assert asked(server) == [(None, 200)]
    assert part.read_bytes() == CONTENT


def test_without_an_md5_nothing_is_split(server, fetch, part):
    fetch(server, FileRow("f.tgz", SIZE, None, "tgz", {}))
    assert asked(server) == [(None, 200)]
    assert part.read_bytes() == CONTENT


def test_while_others_wait_a_file_keeps_to_its_connection(server, part):
    fetching = Fetch(server.url, part)
    release = threading.Event()
    for _ in range(2 * COUNT):
        fetching.pool.submit(release.wait, TIMEOUT_SECONDS)
    for _ in range(COUNT - 1):
        fetching.pool.submit(int)
    done = fetching.submit()
    blocked = fetching.pool.submit(release.wait, TIMEOUT_SECONDS)
    assert fetching.pool.idle == 0
    release.set()
    done.result(TIMEOUT_SECONDS)
    blocked.result(TIMEOUT_SECONDS)
    fetching.close()
    assert part.read_bytes() == CONTENT
    assert adjoin(ranges(server), 0, SIZE)


def test_alone_among_busy_connections_a_file_comes_in_few_ranges(server, part):
    fetching = Fetch(server.url, part)
    release = threading.Event()
    busy = [fetching.pool.submit(release.wait, TIMEOUT_SECONDS) for _ in range(COUNT - 1)]
    fetching.submit().result()
    release.set()
    assert all(each.result() for each in busy)
    fetching.close()
    assert part.read_bytes() == CONTENT
    assert len(server.requests) <= 3
    assert server.peak_connections == 1


def test_several_large_files_and_many_small_ones(server, served, tmp_path):
    names = ["f.tgz", *(f"large{number}" for number in range(2)), *(f"small{number}" for number in range(40))]
    contents = {}
    for number, name in enumerate(names):
        size = 17 * MB + number if name.startswith("large") else 50_000 + number
        contents[name] = CONTENT if name == "f.tgz" else CONTENT[number : number + size]
        served.with_name(name).write_bytes(contents[name])
    policy = RetryPolicy(attempts=4, first_pause=1, sleep=lambda _: None)
    store = DataStoreClient(server.url, Limits(connections=3, timeout=60), policy)
    pool = FetchPool(3)
    futures = []
    for name, content in contents.items():
        url = store.file_url("p", "f", name)
        transfer = Transfer(
            store, policy, url, row_of(content, name), tmp_path / f"{name}.part", lambda _: None
        )
        futures.append(pool.submit(fetch_in_ranges, transfer, pool, RangePolicy()))
    for future in futures:
        future.result(TIMEOUT_SECONDS)
    pool.close()
    store.close()
    for name, content in contents.items():
        assert (tmp_path / f"{name}.part").read_bytes() == content
    assert sent(server) == sum(map(len, contents.values()))
    assert server.peak_connections == 3
    times = Counter(request.target.rpartition("/")[2] for request in server.requests)
    assert all(times[name] == 1 for name in names if name.startswith("small"))


# Servers without ranges.


def test_a_server_without_ranges_is_asked_once(server, fetch, part):
    server.faults.append(faults.ignores_range())
    fetched = fetch(server)
    assert asked(server) == [(f"bytes=0-{RANGE - 1}", 200)]
    assert fetched.received == sent(server) == SIZE
    assert part.read_bytes() == CONTENT


def test_a_file_without_ranges_that_stops_halfway_is_gone_on_with(server, fetch, part):
    server.faults.append(faults.ignores_range(times=1))
    server.faults.append(faults.hangs_up(after=10 * MB, times=1))
    fetched = fetch(server)
    assert fetched.received == SIZE
    first, second = asked(server)
    assert first == (f"bytes=0-{RANGE - 1}", 200)
    assert second[0].endswith("-")
    assert 0 < int(second[0][6:-1]) <= 10 * MB
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", [lambda: "", lambda: 'W/"weak"', lambda: f'"{random.random()}"'])
def test_no_validator_is_needed_or_compared(etag, fetch, part):
    def answers(asked: Asked) -> bytes:
        first, end = bounds(asked.fields["range"])
        content_range = f"bytes {first}-{end - 1}/{SIZE}"
        return answer("206 Partial Content", CONTENT[first:end], ETag=etag(), Content_Range=content_range)

    with scripted(answers) as server:
        fetched = fetch(server)
    assert (part.read_bytes(), fetched.received) == (CONTENT, SIZE)
    assert len(server.asked) == COUNT
    assert all("if-range" not in request.fields for request in server.asked)


ODD: dict[str, Callable[[], Fault]] = {
    "range ignored": lambda: faults.ignores_range(),
    "range shifted": lambda: faults.shifts_content_range(),
    "length misstated": lambda: faults.misstates_length(-1),
    "length overstated": lambda: faults.misstates_length(+1),
}


@pytest.mark.parametrize("skip", [0, 1, COUNT - 1])
@pytest.mark.parametrize("name", ODD)
def test_anything_but_the_range_means_one_connection(name, skip, server, fetch, part, record):
    server.faults.append(faults.delays(0.05))
    odd = Later.of(ODD[name](), skip)
    odd.times = 1
    server.faults.append(odd)
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received <= 2 * SIZE
    whole = [status for range_, status in asked(server) if range_ is None]
    if name != "range ignored" or skip:
        assert whole == [200]
    assert not record.exists()
    assert server.peak_connections <= COUNT + 1


def test_a_file_that_is_replaced_meanwhile_comes_as_the_new_one(fetch, part):
    old, new = bytes(SIZE), CONTENT

    def answers(asked: Asked) -> bytes:
        if "range" not in asked.fields:
            return answer(body=new)
        first, end = bounds(asked.fields["range"])
        content = old if first == 0 else new
        content_range = f"bytes {first}-{end - 1}/{SIZE}"
        return answer("206 Partial Content", content[first:end], Content_Range=content_range)

    with scripted(answers) as server:
        fetch(server)
    assert part.read_bytes() == new
    assert server.asked[-1].fields.get("range") is None


def test_a_range_that_brings_more_than_it_should(server, fetch, part):
    runs_over = Later.of(faults.runs_over(b"more", times=1), 1)
    server.faults.append(runs_over)
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received == SIZE


def test_ranges_without_a_length(fetch, part):
    """Chunked, or ended by the end of the connection: the listing says how much there is."""
    extra = [b"", b"", b"x"]

    def answers(asked: Asked) -> bytes:
        if "range" not in asked.fields:
            return answer(body=CONTENT)
        first, end = bounds(asked.fields["range"])
        more = extra.pop(0) if extra else b""
        return answer(
            "206 Partial Content",
            CONTENT[first:end] + more,
            Content_Range=f"bytes {first}-{end - 1}/{SIZE}",
            Content_Length="",
            Connection="close",
        )

    with scripted(answers) as server:
        fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert "range" not in server.asked[-1].fields
    assert fetched.received <= 2 * SIZE


# Troubles that pass.


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("fault", [faults.hangs_up, faults.resets, faults.stalls], ids=lambda h: h.__name__)
def test_a_range_that_is_cut_short_is_gone_on_with(fault, skip, server, fetch, part, record):
    server.faults.append(Later.of(fault(after=2 * MB, times=2), skip))
    fetched = fetch(server, timeout=1)
    assert part.read_bytes() == CONTENT
    assert fetched.received == SIZE
    assert len(fetched.pauses) == 2
    assert len(server.requests) == COUNT + 2
    if fault is not faults.resets:
        assert all(end - start < RANGE for start, end in ranges(server) if start % RANGE)
    assert {status for _, status in asked(server)} == {206}
    assert not record.exists()


def test_a_range_that_ends_early_without_a_word(fetch, fails, part):
    """As with whole files: twice in a run, not more."""

    def cut(times: int, asked: Asked) -> bytes:
        first, end = bounds(asked.fields["range"])
        cut_short = first >= 2 * RANGE and len([1 for each in state if each]) < times
        state.append(cut_short)
        body = CONTENT[first : first + MB] if cut_short else CONTENT[first:end]
        content_range = f"bytes {first}-{end - 1}/{SIZE}"
        fields = {"Content_Range": content_range, "Content_Length": ""}
        return answer("206 Partial Content", body, Connection="close", **fields)

    state: list[bool] = []
    with scripted(partly(cut, 1)) as server:
        fetched = fetch(server)
    assert (part.read_bytes(), fetched.received) == (CONTENT, SIZE)
    part.unlink()
    state.clear()
    with scripted(partly(cut, 1000)) as server:
        _, said = fails(server)
    assert "expected bytes up to " in said


@pytest.mark.parametrize("ranges_first", [True, False])
def test_over_a_line_that_is_cut_again_and_again_a_file_arrives(ranges_first, server, fetch, part):
    if not ranges_first:
        server.faults.append(faults.ignores_range(times=1))
    server.faults.extend([faults.changes_etag(), faults.hangs_up(after=2 * MB)])
    fetched = fetch(server, attempts=2)
    assert (part.read_bytes(), fetched.received) == (CONTENT, SIZE)
    assert len(server.requests) > 8


@pytest.mark.parametrize("skip", [0, 2])
def test_a_storm_of_errors_passes(skip, server, fetch, part):
    server.faults.append(Later.of(faults.fails(503, target="files", times=3), skip))
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received == SIZE
    assert Counter(status for _, status in asked(server)) == {503: 3, 206: COUNT}


def test_a_flipped_byte_in_one_range_is_found_out(server, fetch, part, record):
    server.faults.append(Later.of(faults.flips_byte(times=1), 2))
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received == 2 * SIZE
    assert [range_ is None for range_, _ in asked(server)] == [False] * COUNT + [True]
    assert len(fetched.pauses) == 1
    assert not record.exists()


# Troubles that last.


def test_a_wrong_byte_is_fetched_twice_and_fails(server, served, fails, part, record):
    wrong = bytearray(CONTENT)
    wrong[SIZE // 2] ^= 1
    served.write_bytes(wrong)
    failed, said = fails(server)
    assert f"expected md5 {ROW.md5} as listed, got {hashlib.md5(wrong).hexdigest()}" in said
    assert failed.received == sent(server) == 2 * SIZE
    assert [range_ is None for range_, _ in asked(server)] == [False] * COUNT + [True]
    assert list(part.parent.iterdir()) == []


@pytest.mark.parametrize("by", [-1, +1])
def test_another_size_than_listed_is_refused_before_any_byte(by, server, served, fails, part):
    served.write_bytes(CONTENT[:by] if by < 0 else CONTENT + b"x")
    failed, said = fails(server)
    assert f"expected {SIZE} bytes as listed, the server offers {SIZE + by}" in said
    assert failed.received == 0
    assert [range_ is None for range_, _ in asked(server)] == [False, True, True]
    assert not part.exists()


@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_file_is_not_asked_for_again(status, server, fails, part):
    server.faults.append(faults.fails(status, target="files"))
    failed, said = fails(server)
    assert f"expected the file 'f.tgz', got {status} " in said
    assert (len(server.requests), failed.pauses, part.exists()) == (1, [], False)


def test_a_server_that_is_never_well_is_asked_as_often_as_for_any_file(server, fails):
    server.faults.append(faults.fails(503, target="files"))
    fails(server, error=NoAnswer)
    assert len(server.requests) == 4


def test_a_range_that_is_refused_ends_the_file_and_nothing_is_lost(server, fails, fetch, part, record):
    server.faults.append(Later.of(faults.fails(404, target="files", times=1), COUNT - 1))
    failed, said = fails(server)
    assert "expected the file 'f.tgz', got 404 " in said
    held = [tuple(edges) for edges in json.loads(record.read_bytes())["pieces"]]
    assert sum(end - start for start, end in held) == failed.received
    server.clear()
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received == SIZE - failed.received


def test_what_goes_wrong_on_this_machine_is_told_as_it_is(server, part):
    class Full(Fetch):
        def count(self, count: int) -> None:
            super().count(count)
            if self.received > 10 * MB:
                raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        Full(server.url, part).run()
    assert len(server.requests) <= COUNT + 1


# Going on where another run stopped.


@pytest.fixture
def interrupted(server, fails, record) -> list[tuple[int, int]]:
    """A part of an earlier run, in which no range came whole, with its record; what it holds."""
    server.faults.append(faults.hangs_up(after=3 * MB, times=COUNT))
    server.faults.append(Later.of(faults.fails(404, target="files"), COUNT))
    every_range_stopped = threading.Barrier(COUNT, timeout=TIMEOUT_SECONDS)
    failed, _ = fails(server, sleep=lambda _: every_range_stopped.wait())
    server.faults.clear()
    server.clear()
    held = [tuple(edges) for edges in json.loads(record.read_bytes())["pieces"]]
    assert failed.received == sum(end - start for start, end in held)
    assert [start for start, _ in held] == [0, RANGE, 2 * RANGE, 3 * RANGE]
    assert all(0 < end - start <= 3 * MB for start, end in held)
    return held


def test_only_what_is_missing_comes_again(interrupted, server, fetch, part, record):
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received == sent(server) == SIZE - sum(end - start for start, end in interrupted)
    assert adjoin(sorted(interrupted + ranges(server)), 0, SIZE)
    assert {status for _, status in asked(server)} == {206}
    assert not record.exists()


def test_a_part_goes_on_over_fewer_connections(interrupted, server, fetch, part):
    fetched = fetch(server, count=2)
    assert part.read_bytes() == CONTENT
    assert fetched.received == SIZE - sum(end - start for start, end in interrupted)


def test_a_part_with_ranges_starts_afresh_over_one_connection(interrupted, server, fetch, part):
    """A file with gaps is never taken for the beginning of the file."""
    fetched = fetch(server, count=1)
    assert asked(server) == [(None, 200)]
    assert fetched.received == SIZE
    assert part.read_bytes() == CONTENT


def test_a_damaged_part_is_found_out(interrupted, server, fetch, part):
    damaged = bytearray(part.read_bytes())
    damaged[interrupted[-1][0]] ^= 1
    part.write_bytes(damaged)
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert asked(server)[-1] == (None, 200)
    assert fetched.received == 2 * SIZE - sum(end - start for start, end in interrupted)


@pytest.mark.parametrize("length", [0, 1, SIZE // 2])
def test_a_part_that_was_cut_is_not_trusted(length, interrupted, server, fetch, part):
    part.write_bytes(part.read_bytes()[:length])
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received == SIZE


@pytest.mark.parametrize("pieces", [None, [[5, 1]], [[0, SIZE + 1]], [[0, 5], [4, 9]], "all"])
def test_a_damaged_record_means_to_start_afresh(pieces, interrupted, server, fetch, part, record):
    record.write_text(json.dumps(json.loads(record.read_bytes()) | {"pieces": pieces}))
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received == SIZE


def test_a_record_that_claims_too_much_costs_no_more_than_a_fetch(interrupted, server, fetch, part, record):
    record.write_text(json.dumps(json.loads(record.read_bytes()) | {"pieces": [[0, SIZE]]}))
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received == SIZE
    assert asked(server) == [(None, 200)]


@pytest.mark.parametrize("length", [5, SIZE, SIZE + 5])
def test_a_part_of_which_the_record_knows_nothing_is_fetched_in_ranges(length, server, fetch, part, record):
    part.write_bytes(bytes(length))
    record.write_text(json.dumps({"bytes": SIZE, "md5": ROW.md5, "pieces": []}))
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received == SIZE
    assert {status for _, status in asked(server)} == {206}


@pytest.mark.parametrize("length", [5, SIZE, SIZE + 5])
def test_a_part_without_a_record_is_fetched_in_ranges(length, server, fetch, part):
    part.write_bytes(bytes(length))
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received == SIZE
    assert {status for _, status in asked(server)} == {206}


def test_a_part_that_is_whole_is_only_checked(server, fetch, part, record, served):
    part.write_bytes(CONTENT)
    facts = {"bytes": SIZE, "md5": ROW.md5, "pieces": [[0, SIZE]]}
    record.write_text(json.dumps(facts))
    fetched = fetch(server)
    assert (server.requests, fetched.received, part.read_bytes()) == ([], 0, CONTENT)
    assert not record.exists()


def test_a_part_from_the_start_of_one_connection_is_gone_on_with_by_all(server, fails, fetch, part, record):
    server.faults.append(faults.hangs_up(after=9 * MB))
    fails(server, count=1, attempts=1, progress=NEVER, error=ServerUnavailable)
    assert "pieces" not in json.loads(record.read_bytes())
    held = part.stat().st_size
    server.faults.clear()
    server.clear()
    fetched = fetch(server)
    assert part.read_bytes() == CONTENT
    assert fetched.received == SIZE - held
    assert adjoin(ranges(server), held, SIZE)
    assert len(server.requests) > 1


# Whatever a server says.

LITTLE_RANGES = RangePolicy(from_bytes=1000, small=200, smallest=100, recorded_every=150)
LITTLE = random.Random(5).randbytes(5000)


def truly(asked: Asked) -> bytes:
    if "range" not in asked.fields or asked.fields["range"].endswith("-"):
        return answer(body=LITTLE)
    first, end = bounds(asked.fields["range"])
    fields = {"Content_Range": f"bytes {first}-{end - 1}/{len(LITTLE)}"}
    return answer("206 Partial Content", LITTLE[first:end], **fields)


def edited(edit: Callable[[bytes, bytes], tuple[bytes, bytes]]) -> Callable[[Asked], bytes]:
    def answers(asked: Asked) -> bytes:
        head, _, body = truly(asked).partition(b"\r\n\r\n")
        head, body = edit(head, body)
        return head + b"\r\n\r\n" + body

    return answers


CLOSE = b"\r\nConnection: close"
LIES: list[Callable[[Asked], bytes]] = [
    truly,
    lambda asked: answer(body=LITTLE),
    lambda asked: answer(body=LITTLE[::-1]),
    lambda asked: answer("503 Busy"),
    lambda asked: answer("416 No", Content_Range="bytes */7"),
    lambda asked: answer("404 No"),
    lambda asked: b"nonsense\r\nConnection: close\r\n\r\n",
    edited(lambda head, body: (head + CLOSE, body[: len(body) // 2])),
    edited(lambda head, body: (head + CLOSE, body + b"more")),
    edited(lambda head, body: (head, bytes(len(body)))),
    edited(lambda head, body: (head.replace(b"Content-Range: bytes ", b"Content-Range: bytes 1"), body)),
    edited(lambda head, body: (head.replace(b"Content-Length", b"X") + CLOSE, body)),
    edited(lambda head, body: (head.replace(b"Content-Length", b"X") + CLOSE, body[:-1])),
    edited(lambda head, body: (head.replace(b"Content-Length", b"X") + CLOSE, body + b"x")),
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(LIES), max_size=12), st.integers(2, 5))
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_whatever_the_server_says_the_file_is_the_listed_one_or_fails(tmp_path_factory, lies, count):
    part = tmp_path_factory.mktemp("any", numbered=True) / "x.part"
    left = list(lies)
    row = row_of(LITTLE)

    def answers(asked: Asked) -> bytes:
        return left.pop(0)(asked) if left else truly(asked)

    with scripted(answers) as server:
        for _ in range(3):
            fetching = Fetch(server.url, part, row, count=count, attempts=3, timeout=5, ranges=LITTLE_RANGES)
            try:
                fetching.run()
            except (ContentMismatch, ServerUnavailable):
                continue
            assert part.read_bytes() == LITTLE
            assert not part.with_suffix(".json").exists()
            break
        else:
            assert lies
    gc.collect(0)
    assert isinstance(server, Scripted)
