"""Bytes that a run has still to fetch: from listings that were read, and estimated by product and stage."""

from pathlib import Path

import pytest

from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker
from pipeline.reporting.amounts import spread
from pipeline.reporting.backlog import Backlog, BytesLeft

COLUMNS = ("filesetID", "time registered", "type", "stage")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def rows(stage: str, *numbers: int) -> list[FilesetRow]:
    names = [f"{stage}.{number}" for number in numbers]
    return [FilesetRow(name, "2009", "T", COLUMNS, (name, "2009", "T", stage)) for name in names]


def mark(layout: Layout, product: str, row: FilesetRow, size: int) -> None:
    content = {"columns": {"stage": row.column("stage")}, "files": [{"bytes": size - 1}, {"bytes": 1}]}
    write_marker(layout.marker(MarkerKind.DOWNLOADED, product, row.name), content)


def test_filesets_are_counted_alone_where_nothing_is_known(layout: Layout):
    backlog = Backlog(layout)
    backlog.expect("p", rows("chip", 1, 2))
    assert backlog.left() == BytesLeft(0, 2)


def test_filesets_of_which_none_like_them_is_known_are_taken_to_be_like_the_others(layout: Layout):
    backlog = Backlog(layout)
    for row, size in zip(rows("chip", 1, 2), (1000, 3000), strict=True):
        mark(layout, "p", row, size)
    backlog.expect("p", rows("warp", 3, 4))
    assert backlog.left() == BytesLeft(2 * 2000, 2)
    backlog.expect("q", rows("stack", 1, 2))
    backlog.begin("q", "stack.1", "stack", 100)
    assert backlog.left() == BytesLeft(100 + 2 * 100, 2)


def test_filesets_are_taken_to_be_like_those_of_their_stage_whose_listing_was_read(layout: Layout):
    backlog = Backlog(layout)
    backlog.expect("p", [*rows("chip", 1, 2, 3, 4), *rows("warp", 5, 6)])
    backlog.begin("p", "chip.1", "chip", 100)
    backlog.begin("p", "chip.2", "chip", 300)
    assert backlog.left() == BytesLeft(2 * 200 + 2 * 200, 2)
    backlog.begin("p", "warp.5", "warp", 50)
    assert backlog.left() == BytesLeft(2 * 200 + 50, 0)


def test_else_like_those_that_are_here(layout: Layout):
    for row, size in zip(rows("chip", 1, 2), (1000, 3000), strict=True):
        mark(layout, "p", row, size)
    backlog = Backlog(layout)
    backlog.expect("p", rows("chip", 1, 2, 3))
    backlog.expect("q", rows("chip", 1))
    assert backlog.left() == BytesLeft(2000 + 2000, 1)


def test_what_is_here_was_fetched_or_has_failed_is_not_left(layout: Layout):
    backlog = Backlog(layout)
    every = rows("chip", 1, 2, 3, 4)
    backlog.expect("p", every)
    # Before and after the markers are looked up.
    backlog.end("p", "chip.1")
    mark(layout, "p", every[1], 10)
    assert backlog.left() == BytesLeft(20, 0)
    backlog.end("p", "chip.3")
    backlog.end("p", "chip.3")
    assert backlog.left() == BytesLeft(10, 0)
    backlog.begin("p", "chip.4", "chip", 10)
    backlog.end("p", "chip.4")
    assert backlog.left() == BytesLeft(0, 0)


def test_items_are_spread_evenly():
    assert spread(range(3), 5) == [0, 1, 2]
    assert spread(range(100), 4) == [0, 25, 50, 75]
