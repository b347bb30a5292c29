"""Resume records of partial files, and the map of their byte ranges: held, claimed or missing."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datastore.client.partial import RangeMap, ResumeRecord
from pipeline.datastore.client.ranged import RangePolicy
from pipeline.datastore.listing import FileRow

ROW = FileRow("f", 100, "0" * 32, "tgz", {})


@pytest.fixture
def record(tmp_path: Path) -> ResumeRecord:
    return ResumeRecord(tmp_path / "x.json", ROW)


def write(record: ResumeRecord, **changed: object) -> None:
    content = {"bytes": 100, "md5": "0" * 32, "pieces": [[0, 10]]} | changed
    record.path.write_text(json.dumps(content))


@pytest.mark.parametrize("held", [[], [(0, 100)], [(0, 1)], [(3, 7), (90, 100)], [(0, 5), (6, 7)]])
def test_what_is_written_is_read(held, record):
    record.write(held)
    assert record.read(100) == held
    assert [path.name for path in record.path.parent.iterdir()] == ["x.json"]
    record.remove()
    assert record.read(100) == []
    record.remove()


def test_without_ranges_the_file_holds_all_to_its_end(record):
    record.write()
    assert json.loads(record.path.read_bytes()) == {"bytes": 100, "md5": "0" * 32}
    assert record.read(60) == [(0, 60)]
    assert record.read(100) == [(0, 100)]
    assert record.read(101) == []
    assert record.read(0) == []


def test_a_record_with_an_etag_of_an_earlier_version_is_read(record):
    write(record, etag='"e"')
    assert record.read(100) == [(0, 10)]


BAD = {
    "null": None,
    "number": 5,
    "text": "ab",
    "flat": [0, 10],
    "three": [[0, 5, 10]],
    "floats": [[0.0, 10.0]],
    "truth": [[False, True]],
    "texts": [["0", "9"]],
    "map": {"ab": 1},
    "negative": [[-5, 10]],
    "empty": [[5, 5]],
    "backwards": [[10, 5]],
    "overlapping": [[0, 10], [5, 20]],
    "out of order": [[20, 30], [0, 10]],
    "twice": [[0, 10], [0, 10]],
    "beyond the file": [[0, 101]],
    "huge": [[0, 10**30]],
}


@pytest.mark.parametrize("bad", BAD)
def test_a_record_with_ranges_that_are_none_counts_for_nothing(bad, record):
    write(record)
    assert record.read(100) == [(0, 10)]
    write(record, pieces=BAD[bad])
    assert record.read(100) == []


def test_ranges_beyond_the_end_of_the_part_are_not_there(record):
    write(record, pieces=[[0, 10], [50, 60]])
    assert record.read(60) == [(0, 10), (50, 60)]
    assert record.read(59) == []


def test_a_record_about_a_file_without_md5_counts_for_nothing(record):
    write(record, md5=None)
    assert ResumeRecord(record.path, FileRow("f", 100, None, "tgz", {})).read(100) == []


SIZE = 1000
RANGES = st.lists(st.integers(0, SIZE), max_size=20, unique=True).map(
    lambda cuts: list(zip(sorted(cuts)[::2], sorted(cuts)[1::2], strict=False))
)


@given(RANGES, st.lists(st.integers(1, 400), min_size=1))
def test_ranges_are_what_is_missing_and_nothing_twice(held, sizes):
    ranges = RangeMap(SIZE, held)
    here = bytearray(SIZE)
    for start, end in held:
        here[start:end] = b"1" * (end - start)
    assert ranges.held() == held
    assert ranges.unclaimed == here.count(0)
    taken = []
    while ranges.unclaimed:
        claimed = ranges.claim(sizes[len(taken) % len(sizes)])
        assert claimed.at == claimed.start < claimed.end
        taken.append(claimed)
        assert not any(here[claimed.start : claimed.end])
        here[claimed.start : claimed.end] = b"2" * (claimed.end - claimed.start)
    assert 0 not in here
    for number, claimed in enumerate(taken):
        claimed.at = claimed.start + (claimed.end - claimed.start) * (number % 3) // 2
        here[claimed.at : claimed.end] = bytes(claimed.end - claimed.at)
    assert ranges.complete_to() == (here.index(0) if 0 in here else SIZE)
    assert b"".join(here[start:end] for start, end in ranges.held()).count(0) == 0
    assert sum(end - start for start, end in ranges.held()) == SIZE - here.count(0)
    for claimed in taken:
        claimed.at = claimed.end
    assert ranges.held() == [(0, SIZE)]
    assert ranges.complete_to() == SIZE


@given(st.integers(1, 1 << 40), st.integers(1, 256), st.integers(4 << 20, 64 << 20))
def test_ranges_are_large_but_not_for_one_connection_alone(missing, connections, most):
    size = RangePolicy(largest=most).range_bytes(missing, connections)
    assert 1 << 20 <= size <= most
    assert size * connections <= max(missing + connections, connections << 20)
    assert size >= min(most, missing // connections, 2 << 20)
