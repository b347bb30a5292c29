"""Local listing: read row by row, appended to, cut where a kill or a power cut tore it."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.audit import opened_below

from pipeline.datastore.listing import FilesetRow, write_filesets
from pipeline.errors import ServerUnavailable
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.local_listing import LocalListing, Registration, known_rows

PRODUCT = "md"
PLAIN = ("filesetID", "time registered", "type")
STAGED = (*PLAIN, "stage")


def row(name: str, *more: str, registered: str = "2009-07-29T00:00:00Z") -> FilesetRow:
    columns = STAGED if more else PLAIN
    return FilesetRow(name, registered, "T", columns, (name, registered, "T", *more))


OLD = [row("a"), row("b"), row("c")]
NEW = [row("d"), row("e", "chip"), row("f", "chip")]


@pytest.fixture
def listing(tmp_path: Path) -> LocalListing:
    kept = LocalListing(Layout(tmp_path), PRODUCT)
    kept.replace(OLD)
    return kept


def record_of(listing: LocalListing) -> Path:
    return listing.path.with_name("listing.json")


def is_recorded(listing: LocalListing) -> bool:
    """The listing is believed to be whole: no row is read."""
    before = record_of(listing).read_bytes() if record_of(listing).exists() else None
    with opened_below(listing.path.parent) as opened:
        sound = listing.repair()
    return sound and opened.count("listing.txt") == 1 and record_of(listing).read_bytes() == before


def test_rows_are_read_as_they_were_written(listing):
    listing.replace(OLD + NEW)
    assert list(listing.rows()) == OLD + NEW
    assert [each.name for each in listing.rows(but={"a", "d", "f"})] == ["b", "c", "e"]
    assert [each.name for each in listing.registrations()] == list("abcdef")
    assert listing.count() == 6
    assert listing.columns() == set(STAGED)
    assert listing.last(2) == [Registration(name, NEW[0].registered) for name in "ef"]
    assert [each.name for each in listing.last(3, but={"d", "f"})] == ["b", "c", "e"]
    assert [each.name for each in listing.last(9)] == list("abcdef")


def test_columns_without_rows_are_no_columns(listing):
    listing.path.write_bytes(write_filesets(OLD) + b"# filesetID|time registered|type|more|\n")
    assert listing.columns() == set(PLAIN)


def test_an_absent_listing_has_no_rows(tmp_path):
    listing = LocalListing(Layout(tmp_path), PRODUCT)
    assert not listing.repair()
    assert (listing.count(), listing.last(1), listing.columns()) == (0, [], set())
    assert list(listing.registrations()) == known_rows(Layout(tmp_path), PRODUCT) == []
    with pytest.raises(ServerUnavailable):
        list(listing.rows())


def test_rows_are_added_at_the_end_and_nothing_else_is_written(listing):
    inode, before = listing.path.stat().st_ino, listing.path.read_bytes()
    listing.add(NEW)
    assert listing.path.read_bytes() == write_filesets(OLD + NEW)
    assert listing.path.read_bytes().startswith(before)
    assert listing.path.stat().st_ino == inode
    assert is_recorded(listing)


def test_rows_that_move_leave_their_place(listing):
    again = row("a", registered="2010-01-01T00:00:00Z")
    listing.add([*NEW, again], moved={"a"})
    assert listing.path.read_bytes() == write_filesets([*OLD[1:], *NEW, again])
    assert is_recorded(listing)


def test_rows_are_dropped(listing):
    listing.replace(OLD + NEW)
    listing.drop({"b", "f"})
    assert [each.name for each in listing.rows()] == list("acde")
    assert is_recorded(listing)


@pytest.mark.parametrize("recorded", [False, True])
def test_an_append_torn_at_any_byte_is_cut_off(recorded, listing):
    """Without a record of the listing, rows that came whole are kept, and no part of another."""
    old, whole = write_filesets(OLD), write_filesets(OLD + NEW)
    for length in range(len(old) + 1, len(whole)):
        listing.replace(OLD)
        if not recorded:
            record_of(listing).unlink()
        listing.path.write_bytes(whole[:length])
        lines = whole[: whole.rfind(b"\n", 0, length) + 1]
        rows = (OLD + NEW)[: lines.count(b"|T|")]
        assert list(listing.rows()) == rows, "a reader without the lock sees no part of a row"
        assert [each.name for each in listing.last(1)] == [rows[-1].name]
        assert listing.count() == len(rows)
        assert listing.path.read_bytes() == whole[:length], "reading changes nothing"
        assert listing.repair()
        kept = OLD if recorded else rows
        assert listing.path.read_bytes() == (old if recorded else lines)
        assert is_recorded(listing)
        listing.add([each for each in NEW if each not in kept])
        assert list(listing.rows()) == OLD + NEW


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.layout import Layout

flushes = 0
flush = os.fsync

def flush_or_die(descriptor):
    global flushes
    flushes += 1
    if flushes == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    flush(descriptor)

os.fsync = flush_or_die
columns = ("filesetID", "time registered", "type")
rows = [FilesetRow(f"n{n}", "t", "T", columns, (f"n{n}", "t", "T")) for n in range(1000)]
LocalListing(Layout(Path(sys.argv[1])), "md").add(rows)
"""


# The listing; the record, and its folder.
@pytest.mark.parametrize("flush", [1, 2, 3])
def test_a_kill_while_rows_are_added(flush, tmp_path, listing):
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(flush)]
    killed = subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert killed.returncode == -signal.SIGKILL
    assert listing.repair()
    added = [f"n{number}" for number in range(1000)] if flush == 3 else []
    assert [each.name for each in listing.rows()] == [*"abc", *added]
    assert is_recorded(listing)


@pytest.mark.parametrize("flush", [1, 2, 3, 4])
def test_a_kill_while_the_listing_is_replaced(flush, tmp_path, listing):
    """The record is of the listing before: longer or shorter, and with another end."""
    for rows in (OLD[:1], OLD + NEW):
        listing.replace([row("k"), *rows])
        program = KILLED.replace(".add(rows)", f".replace(rows[:{flush + 1}])")
        command = [sys.executable, "-c", program, str(tmp_path), str(flush)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        assert subprocess.run(command, check=False, env=environment).returncode == -signal.SIGKILL
        assert listing.repair()
        before, new = ["k", *(each.name for each in rows)], [f"n{number}" for number in range(flush + 1)]
        assert [each.name for each in listing.rows()] == (new if flush > 1 else before)
        assert is_recorded(listing)


def test_the_record_is_written_after_the_flush(listing, monkeypatch):
    calls = []
    flush, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *a: (calls.append("flush"), flush(*a)))
    monkeypatch.setattr(os, "replace", lambda *a: (calls.append("record"), rename(*a)))
    listing.add(NEW)
    assert calls == ["flush", "flush", "record", "flush"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body.replace(b"b|", b"b\xff"),
        lambda body: body.replace(b"b|", b"b\0\0|"),
        lambda body: body.replace(b"T|\n", b"T\n", 1),
        lambda body: body.replace(b"b|", b"a|"),
        lambda body: body.partition(b"\n")[2],
        lambda body: body[:20],
        lambda body: b"",
    ],
)
def test_a_damaged_listing_is_not_used(damage, listing):
    record_of(listing).unlink()
    listing.path.write_bytes(damage(write_filesets(OLD)))
    assert not listing.repair()
    assert not record_of(listing).exists()
    assert isinstance(listing.count(), int)
    listing.last(2)


@pytest.mark.parametrize(
    ("read", "row"),
    [
        (LocalListing.rows, b"b\xff2009-07-29T00:00:00Z|T|\n"),
        (LocalListing.registrations, b"b\xff2009-07-29T00:00:00Z|T|\n"),
        (LocalListing.rows, b"b|2009-07-29T00:00:00Z|TT\n"),
    ],
)
def test_damage_that_the_record_does_not_show_is_found_when_rows_are_read(read, row, listing):
    more = [FilesetRow(f"n{n}", "t", "T", PLAIN, (f"n{n}", "t", "T")) for n in range(1000)]
    listing.add(more)
    listing.path.write_bytes(listing.path.read_bytes().replace(b"b|2009-07-29T00:00:00Z|T|\n", row))
    assert listing.repair(), "nothing shows the damage so far"
    with pytest.raises(ServerUnavailable, match=r"listing\.txt"):
        list(read(listing))
    assert not listing.repair()


RECORDS = {
    "none": None,
    "empty": b"",
    "cut": b'{"schema": 1, "bytes": ',
    "of another schema": b'{"schema": 0, "bytes": 50}',
    "without bytes": b'{"schema": 1}',
    "senseless": b'{"schema": 1, "bytes": "x", "tail": 5}',
    "negative": b'{"schema": 1, "bytes": -5, "tail": ""}',
    "too long": b'{"schema": 1, "bytes": 5000, "tail": ""}',
    "of another listing": b'{"schema": 1, "bytes": 60, "tail": "x"}',
}


@pytest.mark.parametrize("record", RECORDS)
def test_a_listing_whose_record_does_not_fit_is_read_once(record, listing):
    whole = listing.path.read_bytes()
    record_of(listing).unlink()
    if RECORDS[record] is not None:
        record_of(listing).write_bytes(RECORDS[record])
    assert not is_recorded(listing)
    assert is_recorded(listing)
    assert listing.path.read_bytes() == whole


@pytest.mark.parametrize("edit", [lambda rows: rows[1:], lambda rows: [row("more"), *rows]])
def test_a_listing_that_another_program_wrote_is_read_once(edit, listing):
    listing.path.write_bytes(write_filesets(edit(OLD)))
    assert not is_recorded(listing)
    assert is_recorded(listing)
    assert list(listing.rows()) == edit(OLD)


@pytest.mark.parametrize("seconds", [0, 1_250_000_000])
def test_times_do_not_count(seconds, listing, tmp_path):
    """As in a copy, or on a file system that keeps whole seconds."""
    shutil.copytree(listing.path.parent, tmp_path / "copy/state" / PRODUCT, copy_function=shutil.copyfile)
    copy = LocalListing(Layout(tmp_path / "copy"), PRODUCT)
    os.utime(copy.path, (seconds, seconds))
    assert is_recorded(copy)


def test_the_last_rows_cost_the_same_whatever_the_length(listing, monkeypatch):
    asked = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: asked.append(size) or pread(fd, size, at))
    costs = []
    for rows in (3000, 60_000):
        listing.replace(row(f"fileset.{number}") for number in range(rows))
        asked.clear()
        assert [each.name for each in listing.last(2)] == [f"fileset.{rows - 2}", f"fileset.{rows - 1}"]
        costs.append(sum(asked))
    assert costs[1] <= costs[0] * 1.1


@pytest.mark.parametrize("length", [1, 50_000, 65_000])
def test_rows_across_the_borders_of_blocks_are_counted_and_read_from_the_end(length, listing):
    """Blocks of 64 KiB: their borders lie at each byte of a row, and several in one row."""
    for shift in range(0, 44, 3):
        rows = [row("a", "x" * length), *(row(f"f{number:04}", "y" * 10) for number in range(1600))]
        rows.append(row("z", "z" * (1 + shift)))
        listing.replace(rows)
        whole = listing.path.read_bytes()
        assert len(whole) > 1 << 16
        with open(listing.path, "ab") as file:
            file.write(b"torn|2009")
        assert listing.count() == 1602
        names = [each.name for each in listing.last(3000)]
        assert names == ["a", *(f"f{number:04}" for number in range(1600)), "z"]
        assert listing.repair()
        assert listing.path.read_bytes() == whole


@pytest.mark.parametrize("torn", [10, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 200_000])
def test_a_torn_row_of_any_length_is_cut(torn, listing):
    whole = listing.path.read_bytes()
    with open(listing.path, "ab") as file:
        file.write(b"t" * torn)
    assert [each.name for each in listing.last(2)] == ["b", "c"]
    assert listing.repair()
    assert listing.path.read_bytes() == whole


@pytest.mark.parametrize("begin", ["#", "", "o|t|T|"])
def test_lines_that_begin_at_the_border_of_a_block_are_counted_as_others(begin, listing):
    for shift in range(-2, 3):
        whole = f"# filesetID|time registered|type|\n{'x' * (65_500 - 1 + shift)}|\n{begin}\no|t|T|\n{begin}"
        listing.path.write_text(whole)
        assert listing.count() == sum(bool(line) and line[0] != "#" for line in whole.split("\n")[:-1])


def test_cells_are_those_of_the_rows(listing):
    listing.add(NEW)
    cells = [(columns, tuple(fields[: len(columns)])) for columns, fields in listing.cells()]
    assert cells == [(each.columns, each.fields) for each in listing.rows()]
