"""One file on its way: which bytes are asked for, which are taken, and what lies there when it ends.

Beside ``test_transfer_faults``: what a true server does to a file that changes, and answers that no server of
ours gives, byte for byte.
"""

import gc
import hashlib
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted_server import Asked, Scripted, answer, in_turn, scripted

from pipeline.datastore.client.http import DataStoreClient
from pipeline.datastore.client.limits import Limits
from pipeline.datastore.client.retry import RetryPolicy
from pipeline.datastore.client.transfer import Transfer, TransferPolicy
from pipeline.datastore.listing import FileRow
from pipeline.errors import ContentMismatch, MirrorError, ServerUnavailable
from pipeline.sample import faults
from pipeline.sample.simulator import Simulator

RESUMABLE_FROM = TransferPolicy().resumable_from
CONTENT = random.Random(7).randbytes(RESUMABLE_FROM + 500_000)
SMALL = b"0123456789"
# So much further no try gets: each one counts.
NEVER = 1 << 60


def row_of(content: bytes, name: str = "f.tgz", md5: bool = True) -> FileRow:
    return FileRow(name, len(content), hashlib.md5(content).hexdigest() if md5 else None, "tgz", {})


ROW = row_of(CONTENT)
WITHOUT_MD5 = row_of(CONTENT, md5=False)


class Fetch:
    """One transfer. ``received`` bytes were taken, ``largest`` is the most that ever lay on the disk."""

    def __init__(
        self,
        url: str,
        partial: Path,
        row: FileRow,
        attempts: int,
        timeout: float,
        progress: int = RetryPolicy.progress_bytes,
    ) -> None:
        self.pauses: list[float] = []
        self.received = self.largest = 0
        self._partial = partial
        policy = RetryPolicy(
            attempts=attempts, first_pause=1, progress_bytes=progress, sleep=self.pauses.append
        )
        self._store = DataStoreClient(url, Limits(connections=1, timeout=timeout), policy)
        url = self._store.file_url("p", "f", row.name)
        self._transfer = Transfer(self._store, self._store.retry_policy, url, row, partial, self._count)

    def _count(self, count: int) -> None:
        self.received += count
        self.largest = max(self.largest, os.path.getsize(self._partial))  # noqa: PTH202

    def run(self) -> None:
        try:
            self._transfer.fetch()
        finally:
            self._store.close()


@pytest.fixture(autouse=True)
def served(store_folder) -> Path:
    """The file as it is served; a test may change it."""
    path = store_folder / "p" / "f" / "f.tgz"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / "x.part"


@pytest.fixture
def note(partial: Path) -> Path:
    return partial.with_suffix(".json")


@pytest.fixture
def fetch(partial):
    """Fetches the file, from a server of ours or a scripted one."""

    def fetch(
        server: Simulator | Scripted, row: FileRow = ROW, attempts: int = 4, timeout: float = 20
    ) -> Fetch:
        fetching = Fetch(server.url, partial, row, attempts, timeout)
        fetching.run()
        return fetching

    return fetch


@pytest.fixture
def fails(partial):
    """Fetches the file in vain; the transfer and its error."""

    def fails(
        server: Simulator | Scripted,
        row: FileRow = ROW,
        attempts: int = 4,
        timeout: float = 20,
        error: type[MirrorError] = ContentMismatch,
        progress: int = RetryPolicy.progress_bytes,
    ) -> tuple[Fetch, str]:
        fetching = Fetch(server.url, partial, row, attempts, timeout, progress)
        with pytest.raises(error) as raised:
            fetching.run()
        assert type(raised.value) is error
        assert str(raised.value).startswith(f"{server.url}/p/f/{row.name}: ")
        return fetching, str(raised.value)

    return fails


def asked(server: Simulator) -> list[tuple[str | None, int | None]]:
    """Range and status of each request."""
    return [(request.range, request.status) for request in server.requests]


@pytest.fixture
def interrupted(server, fails, partial) -> int:
    """A partial file of an earlier run, with its note; how many bytes it has."""
    server.faults.append(faults.hangs_up(after=1_200_000))
    fails(server, attempts=1, error=ServerUnavailable, progress=NEVER)
    server.faults.clear()
    server.clear()
    held = partial.stat().st_size
    assert 0 < held <= 1_200_000
    return held


# Nothing is wrong.


@pytest.mark.parametrize("content", [b"", b"x", SMALL, CONTENT], ids=len)
def test_a_file_arrives(content, server, served, fetch, partial, note):
    served.write_bytes(content)
    fetched = fetch(server, row_of(content))
    assert partial.read_bytes() == content
    assert fetched.received == len(content)
    assert asked(server) == [(None, 200)]
    assert not note.exists()


def test_a_text_file_comes_in_chunks_and_without_validators(server, served, fetch, fails, partial, note):
    served.with_suffix(".txt").write_bytes(CONTENT)
    row = row_of(CONTENT, "f.txt")
    fetch(server, row)
    assert partial.read_bytes() == CONTENT
    server.clear()
    server.faults.append(faults.hangs_up(after=1_200_000, times=3))
    fails(server, row, attempts=2, error=ServerUnavailable, progress=NEVER)
    fetch(server, row)
    assert partial.read_bytes() == CONTENT
    assert [status for _, status in asked(server)] == [200] * 4


def test_without_an_md5_the_size_decides(server, served, fetch, fails, partial):
    served.write_bytes(bytes(len(CONTENT)))
    fetch(server, WITHOUT_MD5)
    assert partial.read_bytes() == bytes(len(CONTENT))
    served.write_bytes(CONTENT[:-1])
    _, said = fails(server, WITHOUT_MD5)
    assert f"expected {len(CONTENT)} bytes as listed, the server offers {len(CONTENT) - 1}" in said
    assert not partial.exists()


# Going on where it stopped.


def test_each_try_goes_on_where_the_last_one_stopped(server, fetch, partial, note):
    server.faults.append(faults.hangs_up(after=400_000, times=3))
    fetched = fetch(server, attempts=5)
    assert partial.read_bytes() == CONTENT
    assert fetched.received == len(CONTENT)
    starts = [int(request.range[6:-1]) if request.range else 0 for request in server.requests]
    assert starts == sorted(set(starts))
    assert [request.status for request in server.requests] == [200, 206, 206, 206]
    assert not note.exists()


@pytest.mark.parametrize(
    "fault", [faults.resets, faults.stalls, faults.hangs_up], ids=lambda fault: fault.__name__
)
def test_a_later_run_fetches_the_rest_and_no_more(fault, server, fetch, fails, partial, note):
    server.faults.append(fault(after=1_200_000))
    failed, _ = fails(server, attempts=1, timeout=1, error=ServerUnavailable, progress=NEVER)
    held = partial.stat().st_size
    assert note.exists()
    server.faults.clear()
    server.clear()
    fetched = fetch(server)
    assert partial.read_bytes() == CONTENT
    assert held <= failed.received <= 1_200_000
    assert fetched.received == server.requests[0].bytes_sent == len(CONTENT) - held
    # A reset also takes away what had come and was not read yet: all of it, perhaps.
    assert asked(server) == [(f"bytes={held}-", 206)] if held else [(None, 200)]


def test_no_validator_is_compared_as_those_of_two_front_ends_differ(
    interrupted, server, served, fetch, partial
):
    os.utime(served, ns=(1, 1))
    fetched = fetch(server)
    assert asked(server) == [(f"bytes={interrupted}-", 206)]
    assert fetched.received == len(CONTENT) - interrupted
    assert partial.read_bytes() == CONTENT


def test_a_file_that_changed_between_two_tries(server, served, fetch, partial, tmp_path):
    def changes(asked: Asked) -> bytes:
        if "range" not in asked.fields:
            return answer(body=old[:700_000], Content_Length=str(len(old)), Connection="close")
        return answer(body=CONTENT)

    old = bytes(len(CONTENT))
    with scripted(changes) as lying:
        fetched = fetch(lying)
    assert partial.read_bytes() == CONTENT
    assert fetched.received == 700_000 + len(CONTENT)


def test_a_file_that_changed_to_another_than_listed(interrupted, server, served, fails, partial, note):
    served.write_bytes(bytes(len(CONTENT)))
    failed, said = fails(server)
    assert f"expected md5 {ROW.md5} as listed, got " in said
    assert [status for _, status in asked(server)] == [206, 200]
    assert failed.received == 2 * len(CONTENT) - interrupted
    assert not partial.exists()
    assert not note.exists()


def test_a_damaged_partial_file_is_found_out_by_the_md5(interrupted, server, served, fetch, partial):
    damaged = bytearray(partial.read_bytes())
    damaged[0] ^= 1
    partial.write_bytes(damaged)
    server.faults.append(faults.changes_etag())
    fetch(server)
    assert partial.read_bytes() == CONTENT


def test_the_partial_file_of_another_registration_is_not_used(interrupted, server, served, fetch, partial):
    changed = CONTENT[::-1]
    state = served.stat()
    served.write_bytes(changed)
    os.utime(served, ns=(state.st_atime_ns, state.st_mtime_ns))  # the ETag is the same
    fetched = fetch(server, row_of(changed))
    assert asked(server) == [(None, 200)]
    assert partial.read_bytes() == changed
    assert fetched.received == len(changed)


@pytest.mark.parametrize("length", [1, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 1, 3 * len(CONTENT)])
def test_a_partial_file_of_any_length_without_a_record_is_thrown_away(length, server, fetch, partial):
    partial.write_bytes(bytes(length))
    fetched = fetch(server)
    assert asked(server) == [(None, 200)]
    assert fetched.received == len(CONTENT)
    assert partial.read_bytes() == CONTENT


@pytest.mark.parametrize("length", [0, len(CONTENT), len(CONTENT) + 1])
def test_a_partial_file_with_nothing_left_to_fetch(length, interrupted, server, fetch, partial):
    partial.write_bytes(bytes(length))
    fetch(server)
    assert asked(server) == [(None, 200)]
    assert partial.read_bytes() == CONTENT


GOOD_NOTE = {"bytes": ROW.bytes, "md5": ROW.md5}
DAMAGED_NOTES = {
    "empty": b"",
    "zeros": bytes(100),
    "cut": json.dumps(GOOD_NOTE).encode()[:-5],
    "binary": b"\xff\xfe\x00",
    "null": b"null",
    "list": b"[1]",
    "text": b'"bytes"',
    "no size": json.dumps({k: v for k, v in GOOD_NOTE.items() if k != "bytes"}).encode(),
    "another size": json.dumps(GOOD_NOTE | {"bytes": 5}).encode(),
    "another md5": json.dumps(GOOD_NOTE | {"md5": "0" * 32}).encode(),
}


@pytest.mark.parametrize("damage", DAMAGED_NOTES)
def test_a_damaged_resume_record_means_to_start_afresh(damage, interrupted, server, fetch, partial, note):
    note.write_bytes(DAMAGED_NOTES[damage])
    fetched = fetch(server)
    assert asked(server) == [(None, 200)]
    assert fetched.received == len(CONTENT)
    assert partial.read_bytes() == CONTENT
    assert not note.exists()


def test_without_an_md5_nothing_is_taken_up_again(server, fetch, fails, partial, note):
    server.faults.append(faults.hangs_up(after=1_200_000, times=3))
    fails(server, WITHOUT_MD5, attempts=2, error=ServerUnavailable)
    assert not note.exists()
    note.write_text(json.dumps(GOOD_NOTE | {"md5": None}))
    fetch(server, WITHOUT_MD5)
    assert partial.read_bytes() == CONTENT
    assert {range_ for range_, _ in asked(server)} == {None}


def test_a_small_file_gets_no_resume_record(server, served, fetch, fails, partial, note):
    content = CONTENT[: RESUMABLE_FROM - 1]
    served.write_bytes(content)
    server.faults.append(faults.hangs_up(after=500_000, times=1))
    fails(server, row_of(content), attempts=1, error=ServerUnavailable)
    assert not note.exists()
    fetch(server, row_of(content))
    assert asked(server) == [(None, 200)] * 2
    assert partial.read_bytes() == content


@pytest.mark.parametrize(
    "validators",
    [{}, {"Last_Modified": "Mon, 23 Nov 2009 10:00:00 GMT"}, {"ETag": 'W/"weak"'}, {"ETag": '"strong"'}],
    ids=["none", "Last-Modified", "weak", "strong"],
)
def test_with_any_validator_or_none_a_file_is_gone_on_with(validators, fetch, partial):
    def answers(asked: Asked) -> bytes:
        if "range" in asked.fields:
            held = int(asked.fields["range"].removeprefix("bytes=").removesuffix("-"))
            return the_rest(held, CONTENT[held:], **validators)
        length = str(len(CONTENT))
        return answer(body=CONTENT[:700_000], Content_Length=length, Connection="close", **validators)

    with scripted(answers) as server:
        fetched = fetch(server)
    assert [request.fields.get("range") for request in server.asked] == [None, "bytes=700000-"]
    assert all("if-range" not in request.fields for request in server.asked)
    assert (partial.read_bytes(), fetched.received) == (CONTENT, len(CONTENT))


@pytest.mark.parametrize("fault", [faults.hangs_up, faults.resets], ids=lambda fault: fault.__name__)
def test_a_try_that_brought_bytes_does_not_use_up_an_attempt(fault, server, fetch, partial):
    server.faults.extend([faults.changes_etag(), fault(after=200_000)])
    fetched = fetch(server, attempts=2)
    assert partial.read_bytes() == CONTENT
    assert len(server.requests) > len(CONTENT) // 200_000
    assert {round(pause) for pause in fetched.pauses} <= {1, 2}


@pytest.mark.parametrize("step", [1, 1000])
def test_a_server_that_sends_little_with_each_try_ends(step, fails):
    def answers(asked: Asked) -> bytes:
        held = int(asked.fields.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        fields = {"Content_Length": str(len(CONTENT) - held), "Connection": "close"}
        body = CONTENT[held : held + step]
        return the_rest(held, body, **fields) if held else answer(body=body, **fields)

    with scripted(answers) as server:
        failed, _ = fails(server, attempts=5, error=ServerUnavailable)
    assert (len(server.asked), failed.received) == (5, 5 * step)


def test_a_server_without_ranges_that_is_cut_each_time_ends(server, fails):
    server.faults.extend([faults.ignores_range(), faults.hangs_up(after=1_000_000)])
    fails(server, attempts=4, error=ServerUnavailable)
    assert len(server.requests) == 4 + 1


# Answers to a Range that are not what was asked for.

WRONG_RANGES = {
    "none": "",
    "from the start": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}",
    "one later": "bytes {next}-{last}/{size}",
    "one short": "bytes {held}-{before}/{size}",
    "of another size": "bytes {held}-{last}/{more}",
    "of unknown size": "bytes {held}-{last}/*",
    "unsatisfied": "bytes */{size}",
    "in lines": "lines {held}-{last}/{size}",
    "nonsense": "x",
}


@pytest.mark.parametrize("wrong", WRONG_RANGES)
def test_a_part_that_is_not_the_rest_is_not_taken(wrong, interrupted, fetch, partial):
    size = len(CONTENT)
    numbers = {"held": interrupted, "next": interrupted + 1, "last": size - 1, "before": size - 2}
    content_range = WRONG_RANGES[wrong].format(**numbers, size=size, more=size + 1)
    part = answer("206 Partial Content", bytes(size - interrupted), Content_Range=content_range)
    with scripted(in_turn(part, answer(body=CONTENT))) as lying:
        fetched = fetch(lying)
    assert partial.read_bytes() == CONTENT
    assert fetched.received == size
    assert [request.fields.get("range") for request in lying.asked] == [f"bytes={interrupted}-", None]


def the_rest(held: int, body: bytes, **fields: str) -> bytes:
    """A 206 that says it holds the rest."""
    return answer(
        "206 Partial Content", body, Content_Range=f"bytes {held}-{len(CONTENT) - 1}/{len(CONTENT)}", **fields
    )


def test_a_rest_that_is_too_long(interrupted, fetch, partial):
    too_long = the_rest(interrupted, CONTENT[interrupted:] + b"more")
    with scripted(in_turn(too_long, answer(body=CONTENT))) as lying:
        fetched = fetch(lying)
    assert partial.read_bytes() == CONTENT
    assert fetched.largest <= len(CONTENT)
    assert [request.fields.get("range") for request in lying.asked] == [f"bytes={interrupted}-", None]


def test_a_rest_that_is_too_short_is_gone_on_with(interrupted, fetch, partial):
    def answers(asked: Asked) -> bytes:
        held = int(asked.fields["range"].removeprefix("bytes=").removesuffix("-"))
        return the_rest(held, CONTENT[held : held + 100_000])

    with scripted(answers) as lying:
        fetched = Fetch(lying.url, partial, ROW, attempts=2, timeout=20)
        with pytest.raises(ContentMismatch, match=f"expected {len(CONTENT)} bytes as listed, got "):
            fetched.run()
    assert fetched.received == 200_000
    assert partial.read_bytes() == CONTENT[: interrupted + 200_000]


def test_a_rest_with_wrong_bytes_is_fetched_whole_in_the_same_run(interrupted, fetch, partial):
    wrong = the_rest(interrupted, bytes(len(CONTENT) - interrupted))
    with scripted(in_turn(wrong, answer(body=CONTENT))) as lying:
        fetched = fetch(lying)
    assert partial.read_bytes() == CONTENT
    assert fetched.received == 2 * len(CONTENT) - interrupted
    assert [request.fields.get("range") for request in lying.asked] == [f"bytes={interrupted}-", None]


def test_a_wrong_rest_after_a_lost_connection_is_worth_another_try(fetch, partial):
    cut = answer(body=CONTENT[:-9], Content_Length=str(len(CONTENT)), Connection="close")
    wrong = the_rest(len(CONTENT) - 9, bytes(9))
    with scripted(in_turn(cut, wrong, answer(body=CONTENT))) as lying:
        fetched = fetch(lying)
    assert partial.read_bytes() == CONTENT
    assert fetched.received == 2 * len(CONTENT)
    assert (len(lying.asked), len(fetched.pauses)) == (3, 2)


def test_a_file_that_shrank_under_its_partial_file(interrupted, fails, partial, note):
    def answers(asked: Asked) -> bytes:
        if "range" in asked.fields:
            return answer("416 Range Not Satisfiable", Content_Range="bytes */10")
        return answer(body=SMALL)

    with scripted(answers) as lying:
        failed, said = fails(lying)
    assert f"expected {len(CONTENT)} bytes as listed, the server offers 10" in said
    assert (failed.received, len(lying.asked)) == (0, 2)
    assert not partial.exists()
    assert not note.exists()


def test_a_part_that_was_not_asked_for(fetch, fails, partial):
    whole = answer("206 Partial Content", SMALL, Content_Range="bytes 0-9/10")
    with scripted(lambda asked: whole) as lying:
        fetch(lying, row_of(SMALL))
    assert partial.read_bytes() == SMALL
    part = answer("206 Partial Content", SMALL[5:], Content_Range="bytes 5-9/10")
    with scripted(lambda asked: part) as lying:
        failed, said = fails(lying, row_of(SMALL))
    assert "expected bytes 0 to 9 of 10, got Content-Range 'bytes 5-9/10'" in said
    assert (failed.received, partial.exists()) == (0, False)


# Too many bytes, too few, or others.


@pytest.mark.parametrize(
    "fault", [faults.never_ends, faults.runs_over, faults.misstates_length], ids=lambda fault: fault.__name__
)
def test_never_more_than_the_listed_bytes_lie_on_the_disk(fault, server, partial):
    server.faults.append(fault())
    fetched = Fetch(server.url, partial, ROW, attempts=4, timeout=20)
    try:
        fetched.run()
    except ContentMismatch:
        assert not partial.exists()
    else:
        assert partial.read_bytes() == CONTENT
    assert fetched.largest <= len(CONTENT)
    assert fetched.received <= 2 * len(CONTENT)


@pytest.mark.parametrize("extra", [b"x", bytes(100_000)], ids=len)
@pytest.mark.parametrize("row", [ROW, WITHOUT_MD5], ids=["md5", "no md5"])
def test_a_body_of_no_stated_length_that_is_too_long(extra, row, fails, partial):
    said_to_end = answer(body=CONTENT + extra, Content_Length="", Connection="close")
    with scripted(lambda asked: said_to_end) as lying:
        failed, said = fails(lying, row)
    assert f"expected {len(CONTENT)} bytes as listed, got more" in said
    assert len(lying.asked) == 2
    assert failed.largest <= len(CONTENT)
    assert not partial.exists()


def test_a_body_of_no_stated_length_that_is_too_short(fails, partial):
    with scripted(lambda asked: answer(body=CONTENT[:-1], Content_Length="", Connection="close")) as lying:
        _, said = fails(lying)
    assert f"expected {len(CONTENT)} bytes as listed, got {len(CONTENT) - 1}" in said
    assert len(lying.asked) == 2


@pytest.mark.parametrize("by", [-1, +1, +(10**12)])
def test_a_length_that_is_not_the_listed_one_is_refused_before_any_byte(by, fails, partial):
    with scripted(lambda asked: answer(body=CONTENT, Content_Length=str(len(CONTENT) + by))) as lying:
        failed, said = fails(lying)
    assert f"expected {len(CONTENT)} bytes as listed, the server offers {len(CONTENT) + by}" in said
    assert (failed.received, len(lying.asked)) == (0, 2)
    assert not partial.exists()


@pytest.mark.parametrize("length", ["²", "-5", "ten", "1e6", "9" * 5000, "0x10"])
def test_a_length_that_is_no_number_is_passed_over(length, fetch, partial):
    said = answer(body=SMALL, Content_Length=length, Connection="close")
    with scripted(lambda asked: said) as lying:
        fetch(lying, row_of(SMALL))
    assert partial.read_bytes() == SMALL


@pytest.mark.parametrize("position", [0, 1_000_000, len(CONTENT) - 1])
def test_one_wrong_byte_anywhere(position, server, served, fails, partial, note):
    wrong = bytearray(CONTENT)
    wrong[position] ^= 0x10
    served.write_bytes(wrong)
    failed, said = fails(server)
    assert f"expected md5 {ROW.md5} as listed, got {hashlib.md5(wrong).hexdigest()}" in said
    assert asked(server) == [(None, 200)] * 2
    assert failed.received == 2 * len(CONTENT)
    assert not partial.exists()
    assert not note.exists()


def test_a_file_that_is_sent_compressed(server, fails, partial):
    server.faults.append(faults.compresses())
    failed, said = fails(server)
    assert "(sent with Content-Encoding gzip)" in said
    assert failed.received == 0
    assert not partial.exists()


def test_a_bundle_that_is_only_said_to_be_compressed_is_taken_as_it_is(fetch, partial):
    with scripted(lambda asked: answer(body=CONTENT, Content_Encoding="x-gzip")) as odd:
        fetch(odd)
    assert partial.read_bytes() == CONTENT


# Refusals, and pauses.


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_a_storm_of_errors_passes(status, server, fetch, partial):
    server.faults.append(faults.fails(status, target="files", times=3))
    fetched = fetch(server)
    assert partial.read_bytes() == CONTENT
    assert [code for _, code in asked(server)] == [status] * 3 + [200]
    assert fetched.received == len(CONTENT)
    assert len(fetched.pauses) == 3


def test_a_server_that_is_busy_says_for_how_long(fetch, partial):
    busy = [answer("429 Too Many Requests", Retry_After=seconds) for seconds in ("3", "0", "4000")]
    with scripted(in_turn(*busy, answer(body=CONTENT))) as server:
        fetched = fetch(server)
    assert fetched.pauses == [3, 0, 300]
    assert partial.read_bytes() == CONTENT


def test_errors_in_the_middle_do_not_cost_what_is_here(interrupted, server, fetch, partial):
    server.faults.append(faults.fails(503, target="files", times=2))
    fetched = fetch(server)
    assert [code for _, code in asked(server)] == [503, 503, 206]
    assert fetched.received == len(CONTENT) - interrupted
    assert partial.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refused_file_is_not_asked_for_again(status, interrupted, server, fails, partial):
    server.faults.append(faults.fails(status, target="files"))
    failed, said = fails(server)
    assert f"expected the file 'f.tgz', got {status} " in said
    assert len(server.requests) == 1
    assert (failed.received, failed.pauses) == (0, [])
    assert partial.stat().st_size == interrupted


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "201 Created"])
def test_other_answers_are_no_file(status, fails):
    with scripted(lambda asked: answer(status, Connection="close")) as lying:
        _, said = fails(lying, row_of(b""))
    assert f"expected the file 'f.tgz', got {status}" in said


def test_a_fault_of_this_machine_is_not_taken_for_one_of_the_server(server, partial):
    fetching = Fetch(server.url, partial.parent / "no folder" / "x.part", ROW, attempts=4, timeout=20)
    with pytest.raises(FileNotFoundError):
        fetching.run()
    assert (server.requests, fetching.pauses) == ([], [])


HEADERS = st.dictionaries(
    st.sampled_from(
        ["Content_Length", "Content_Range", "ETag", "Content_Encoding", "Retry_After", "Location"]
    ),
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=12)
    | st.sampled_from(["10", "0", "11", "bytes 0-9/10", "bytes 5-9/10", '"e"', "gzip", "/x", "http://["]),
    max_size=3,
)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["200 OK", "206 Partial Content", "302 Found", "416 No", "503 Busy", "404 No", "999 ?"]),
    HEADERS,
    st.sampled_from([b"", SMALL, SMALL[5:], SMALL + b"x", b"9876543210"]),
)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_whatever_the_server_says_the_file_is_the_listed_one_or_not_there(
    tmp_path_factory, status, headers, body
):
    partial = tmp_path_factory.mktemp("any", numbered=True) / "x.part"
    with scripted(lambda asked: answer(status, body, Connection="close", **headers)) as lying:
        fetching = Fetch(lying.url, partial, row_of(SMALL), attempts=2, timeout=5)
        try:
            fetching.run()
        except (ContentMismatch, ServerUnavailable):
            assert not partial.exists() or partial.stat().st_size < len(SMALL)
        else:
            assert partial.read_bytes() == SMALL
    assert fetching.largest <= len(SMALL)
    gc.collect(0)
