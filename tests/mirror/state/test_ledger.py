"""Ledger of bytes: only markers of minutes with a change are read, and the sum is right all the same."""

import json

import pytest
from support.audit import opened_below
from support.many_filesets import BYTES, KNOWN, PRODUCT, mark_downloaded

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.ledger import stored_bytes


def sum_and_markers_read(layout: Layout) -> tuple[int, set[str]]:
    with opened_below(layout.state(PRODUCT) / MarkerKind.DOWNLOADED) as opened:
        total = stored_bytes(layout, PRODUCT)
    return total, {name for name in opened if name.endswith(".json")}


def names(*numbers: int) -> set[str]:
    return {f"fileset.{number}.json" for number in numbers}


def test_only_markers_of_minutes_with_a_change_are_read(layout):
    assert sum_and_markers_read(layout) == (BYTES * KNOWN, names(*range(KNOWN)))
    mark_downloaded(layout, KNOWN, size=7)
    assert sum_and_markers_read(layout) == (BYTES * KNOWN + 7, names(KNOWN))
    assert sum_and_markers_read(layout) == (BYTES * KNOWN + 7, set())


@pytest.mark.parametrize(
    ("change", "more"),
    [
        (lambda layout: layout.marker(MarkerKind.DOWNLOADED, PRODUCT, "fileset.5").unlink(), -10),
        (lambda layout: mark_downloaded(layout, 5, size=4), -6),
        (lambda layout: mark_downloaded(layout, 5, size=1011, minute=1), 1001),
        (lambda layout: layout.marker(MarkerKind.DOWNLOADED, PRODUCT, "fileset.5").write_bytes(b"{"), -10),
    ],
    ids=["removed", "written again", "written again in the same minute", "damaged"],
)
def test_the_sum_follows_markers_that_are_removed_or_written_again(change, more, layout):
    assert stored_bytes(layout, PRODUCT) == BYTES * KNOWN
    change(layout)
    total, read = sum_and_markers_read(layout)
    assert total == BYTES * KNOWN + more
    assert read <= names(*range(200)), "the ledger has the sum of the others"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"1": 2}', '{"1": [0, 0, 5]}', '{"fileset.1": [1, 10]}'])
def test_the_sum_is_right_whatever_the_ledger_holds(content, layout):
    ledger = layout.ledger(PRODUCT)
    ledger.write_text(content)
    assert stored_bytes(layout, PRODUCT) == BYTES * KNOWN
    assert sum(size for _, _, size in json.loads(ledger.read_text()).values()) == BYTES * KNOWN
