"""Filesets that were asked for by name, as lines."""

from pathlib import Path

import pytest

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker
from pipeline.reporting.by_name import complete_text, excluded_filesets, excluded_text, lines_of

PRODUCT = "md"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def mark(layout: Layout, name: str, kind: str, **content: object) -> None:
    write_marker(layout.marker(kind, PRODUCT, name), {"product": PRODUCT, "fileset": name, **content})


def add(layout: Layout, name: str, *unpacked: str) -> None:
    """Mark a complete fileset of two files."""
    mark(layout, name, MarkerKind.DOWNLOADED, files=[{"bytes": 1000}, {"bytes": 500}])
    mark(layout, name, MarkerKind.EXTRACTED, files=[{"path": path} for path in unpacked])


def test_of_a_complete_fileset_the_folder_is_named_in_which_its_files_are(layout: Layout):
    add(layout, "plain")
    add(layout, "one", "data/gpc1/MD01/o1/a.fits")
    add(layout, "several", "data/gpc1/MD01/o1/a.fits", "data/gpc1/MD01/o1.log/b.log")
    size, root = "2 files, 1.5 kB", layout.root
    assert {name: complete_text(layout, PRODUCT, name) for name in ("plain", "one", "several")} == {
        "plain": f"{size}, in {root}/store/md/plain",
        "one": f"{size}; 1 unpacked file below {root}/data/gpc1/MD01/o1",
        "several": f"{size}; 2 unpacked files below {root}/data/gpc1/MD01",
    }


def test_of_a_fileset_that_no_run_fetches_the_reason_is_named(layout: Layout):
    mark(layout, "gone", MarkerKind.WITHDRAWN)
    mark(layout, "bad", MarkerKind.SKIPPED, since="2026-07-10T12:00:00Z", by="me", reason="wrong md5")
    excluded = excluded_filesets(layout, PRODUCT, {"gone", "bad", "other"})
    assert {name: excluded_text(layout, PRODUCT, name) for name in excluded} == {
        "gone": "not fetched, as upstream has withdrawn it",
        "bad": "not fetched, as it is skipped since 2026-07-10T12:00:00Z by me: wrong md5. "
        "`ipp-mirror unskip md bad` takes that back",
    }


def test_of_very_many_filesets_the_first_ones_are_named_and_read():
    read = []
    names = {f"f{number:03}" for number in range(101)}
    lines = list(lines_of(PRODUCT, names, lambda name: read.append(name) or "here"))
    assert (lines[0], lines[-1]) == ("md/f000: here", "and 1 more fileset of md")
    assert (len(lines), read) == (101, sorted(names)[:100])
