"""A part that is read while it comes: whoever reads it has the bytes that were verified, or is told."""

import hashlib
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.scripted_server import Answers, Asked, answer, scripted

from pipeline.datastore import split
from pipeline.datastore.client import DataStore, Patience
from pipeline.datastore.connections import Connections
from pipeline.datastore.growing import GivenUp, Growing, GrowingFile
from pipeline.datastore.listing import FileRow
from pipeline.datastore.transfer import Transfer
from pipeline.errors import ContentMismatch

PATIENCE_SECONDS = 60
# The last bytes are few: they stay in a buffer of this program if they are let.
SIZE = (17 << 20) + 1234
CONTENT = random.Random(3).randbytes(SIZE)
OTHER = random.Random(4).randbytes(SIZE)
ROW = FileRow("f.tgz", SIZE, hashlib.md5(CONTENT).hexdigest(), "tgz", {})
HALF = SIZE // 2


class Reader(threading.Thread):
    """Reads a part to its end, if it is let. ``read`` is what it has; ``error`` what ended it before."""

    def __init__(self, part: Path) -> None:
        super().__init__()
        self.growing = Growing()
        self.read = bytearray()
        self.error: BaseException | None = None
        self._file = GrowingFile(self.growing, SIZE, part, part.with_name("final"))

    def run(self) -> None:
        try:
            with self._file as file:
                while chunk := file.read(1 << 16):
                    self.read += chunk
        except GivenUp as error:
            self.error = error

    def has_read(self, count: int) -> None:
        """Wait until it has so many bytes."""
        pause = threading.Event()
        while len(self.read) < count:
            assert self.is_alive()
            pause.wait(0.005)

    def end(self) -> bool:
        """Whether it read to the end; all is told by now."""
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive()
        return self.error is None


def piece(asked: Asked, content: bytes, etag: str = '"e"') -> bytes:
    """The answer of a server that has pieces."""
    if "range" not in asked.fields:
        return answer(body=content, ETag=etag)
    first, _, last = asked.fields["range"].removeprefix("bytes=").partition("-")
    end = int(last) + 1 if last else SIZE
    place = f"bytes {int(first)}-{end - 1}/{SIZE}"
    return answer("206 Partial Content", content[int(first) : end], ETag=etag, Content_Range=place)


def whole(content: bytes, **fields: str) -> bytes:
    return answer(body=content, **fields)


class Fetch:
    """One file fetched from a scripted server while somebody reads it."""

    def __init__(self, part: Path, connections: int) -> None:
        self.part = part
        self.reader = Reader(part)
        self.connections = Connections(connections)
        self.before_another_try: Callable[[], object] = int

    def run(self, answers: Answers) -> None:
        self.reader.start()
        with scripted(answers) as server:
            patience = Patience(sleep=lambda _: self.before_another_try())
            store = DataStore(server.url, connections=self.connections.count, timeout=20, patience=patience)
            url = store.file_url("p", "f", ROW.name)
            growing = self.reader.growing
            transfer = Transfer(store, url, ROW, self.part, lambda _: None, growing=growing)
            try:
                self.connections.submit(split.fetch, transfer, self.connections).result()
            except BaseException:
                growing.give_up()
                raise
            finally:
                self.connections.close()
                store.close()
        assert self.part.read_bytes() == CONTENT


@pytest.fixture(params=[1, 4], ids=["one connection", "in pieces"])
def connections(request) -> int:
    return request.param


@pytest.fixture
def fetch(tmp_path, connections) -> Fetch:
    return Fetch(tmp_path / "x.part", connections)


def test_the_part_is_read_while_it_comes(fetch):
    """The server ends only when what it sent before was read."""

    def answers(asked: Asked) -> bytes:
        said = piece(asked, CONTENT)
        if fetch.connections.count > 1 and not asked.fields["range"].startswith("bytes=0-"):
            fetch.reader.has_read(1 << 20)
        return said

    fetch.run(answers)
    assert fetch.reader.end()
    assert fetch.reader.read == CONTENT


@pytest.mark.parametrize("connections", [1], indirect=True)
def test_what_was_told_of_is_in_the_file_by_then(fetch, monkeypatch):
    told = fetch.reader.growing.whole_to

    def checking(end: int) -> None:
        assert fetch.part.stat().st_size >= end
        told(end)

    monkeypatch.setattr(fetch.reader.growing, "whole_to", checking)
    fetch.run(lambda asked: piece(asked, CONTENT))
    assert fetch.reader.end()


def in_turn(*answers: Callable[[Asked], bytes]) -> Answers:
    left = list(answers)
    lock = threading.Lock()

    def next_answer(asked: Asked) -> bytes:
        with lock:
            now = left.pop(0) if len(left) > 1 else left[0]
        return now(asked)

    return next_answer


@pytest.mark.parametrize("connections", [1], indirect=True)
def test_a_transfer_that_is_resumed_is_read_on(fetch):
    def after_half(asked: Asked) -> bytes:
        fetch.reader.has_read(HALF)
        return piece(asked, CONTENT)

    def cut(asked: Asked) -> bytes:
        return answer(body=CONTENT[:HALF], ETag='"e"', Content_Length=str(SIZE), Connection="close")

    fetch.run(in_turn(cut, after_half))
    assert fetch.reader.end()
    assert fetch.reader.read == CONTENT


@pytest.mark.parametrize("connections", [1], indirect=True)
def test_who_has_read_what_is_emptied_is_told(fetch):
    """Half of another file comes, then the whole right one where the rest was asked for."""

    def afresh(_asked: Asked) -> bytes:
        fetch.reader.has_read(HALF)
        return whole(CONTENT)

    def cut(_asked: Asked) -> bytes:
        return answer(body=OTHER[:HALF], ETag='"e"', Content_Length=str(SIZE), Connection="close")

    fetch.run(in_turn(cut, afresh))
    assert not fetch.reader.end()


def test_who_has_read_what_has_a_wrong_md5_is_told(fetch):
    """Another file of that size comes, whole; the reader is told at once. Then the right one comes."""
    asked_before: list[Asked] = []

    def is_told() -> None:
        with pytest.raises(GivenUp):
            fetch.reader.growing.check()

    fetch.before_another_try = is_told

    def answers(asked: Asked) -> bytes:
        first = fetch.connections.count == 1 and not asked_before
        asked_before.append(asked)
        return piece(asked, OTHER if first or "range" in asked.fields else CONTENT)

    fetch.run(answers)
    fetch.reader.end()
    assert OTHER.startswith(fetch.reader.read)
    is_told()


@pytest.mark.parametrize("connections", [4], indirect=True)
def test_who_has_read_pieces_of_a_file_that_is_another_now_is_told(fetch):
    """The second piece has another ETag."""

    def answers(asked: Asked) -> bytes:
        asked_of = asked.fields.get("range", "")
        if asked_of.startswith("bytes=0-"):
            return piece(asked, OTHER)
        fetch.reader.has_read(1 << 20)
        return piece(asked, CONTENT, '"another"')

    fetch.run(answers)
    assert not fetch.reader.end()


def test_who_reads_a_file_that_cannot_be_had_is_let_go(fetch):
    with pytest.raises(ContentMismatch):
        fetch.run(lambda asked: piece(asked, OTHER))
    fetch.reader.end()
    with pytest.raises(GivenUp):
        fetch.reader.growing.check()


def test_what_nobody_has_been_told_of_may_be_emptied():
    growing = Growing()
    growing.start_afresh()
    growing.whole_to(5)
    assert growing.beyond(0) == 5
    growing.start_afresh()
    with pytest.raises(GivenUp):
        growing.beyond(0)


def test_no_byte_is_read_that_nobody_has_been_told_of(tmp_path):
    """A part may have its full length from the beginning."""
    part = tmp_path / "x.part"
    part.write_bytes(CONTENT)
    reader = Reader(part)
    reader.growing.whole_to(100)
    reader.start()
    reader.has_read(100)
    reader.growing.give_up()
    assert not reader.end()
    assert reader.read == CONTENT[:100]


def test_a_part_that_has_its_final_name_is_read_there(tmp_path):
    (tmp_path / "final").write_bytes(CONTENT)
    reader = Reader(tmp_path / "x.part")
    reader.growing.whole_to(SIZE)
    reader.start()
    assert reader.end()
    assert reader.read == CONTENT


def test_what_changes_during_a_read_is_not_taken_for_what_was_there(tmp_path, monkeypatch):
    part = tmp_path / "x.part"
    part.write_bytes(CONTENT)
    growing = Growing()
    growing.whole_to(SIZE)
    beyond = growing.beyond

    def changing(at: int) -> int:
        end = beyond(at)
        growing.start_afresh()
        return end

    monkeypatch.setattr(growing, "beyond", changing)
    with GrowingFile(growing, SIZE, part, part) as file, pytest.raises(GivenUp):
        file.read(100)
