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


def test_of_a_fileset_that_is_whole_as_selected_what_is_left_out_is_said(layout: Layout):
    lefts = {
        "files": ({"components": ["exposure"], "left_out": 1}, "1 file left out by components and files"),
        "members": ({"members": ["*.cmf"]}, "its bundles unpacked in part, by members"),
    }
    lefts["both"] = (
        lefts["files"][0] | lefts["members"][0] | {"left_out": 4},
        "4 files left out by components and files; its bundles unpacked in part, by members",
    )
    for name, (partial, _) in lefts.items():
        add(layout, name, "data/gpc1/a.cmf")
        mark(layout, name, MarkerKind.PARTIAL, **partial)
    texts = {name: complete_text(layout, PRODUCT, name) for name in lefts}
    place = f"2 files, 1.5 kB; 1 unpacked file below {layout.root}/data/gpc1"
    assert texts == {name: f"{place}; {said}" for name, (_, said) in lefts.items()}


def test_of_a_fileset_that_no_run_fetches_the_reason_is_named(layout: Layout):
    mark(layout, "gone", MarkerKind.WITHDRAWN)
    mark(layout, "bad", MarkerKind.SKIPPED, since="2026-07-10T12:00:00Z", by="me", reason="wrong md5")
    mark(layout, "bad 2", MarkerKind.SKIPPED, since="2026-07-10T12:00:00Z", by="me", reason="why")
    excluded = excluded_filesets(layout, PRODUCT, {"gone", "bad", "bad 2", "other"})
    assert {name: excluded_text(layout, PRODUCT, name) for name in excluded} == {
        "gone": "not fetched, as upstream has withdrawn it",
        "bad": "not fetched, as it is skipped since 2026-07-10T12:00:00Z by me: wrong md5. "
        "`ipp-mirror unskip md bad` takes that back",
        "bad 2": "not fetched, as it is skipped since 2026-07-10T12:00:00Z by me: why. "
        "`ipp-mirror unskip md 'bad 2'` takes that back",
    }


def test_of_very_many_filesets_the_first_ones_are_named_and_read():
    read = []
    names = {f"f{number:03}" for number in range(101)}
    lines = list(lines_of(PRODUCT, names, lambda name: read.append(name) or "here"))
    assert (lines[0], lines[-1]) == ("md/f000: here", "and 1 more fileset of md")
    assert (len(lines), read) == (101, sorted(names)[:100])
