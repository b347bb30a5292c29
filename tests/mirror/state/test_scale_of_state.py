"""How much is looked at when a mirror knows many filesets: counted, not timed."""

import json
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.config import Product
from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.state import layout as layout_module
from pipeline.mirror.state import marker_file
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.markers import Fileset, mark_done
from pipeline.mirror.state.pending import pending_rows
from pipeline.mirror.steps import housekeeping as update
from pipeline.mirror.steps.discover import discover_product
from pipeline.mirror.steps.housekeeping import finish_product

PRODUCT = "md"
COLUMNS = ("filesetID", "time registered", "type")
KNOWN = 300


def row(number: int, registered: str = "t") -> FilesetRow:
    name = f"fileset.{number}"
    return FilesetRow(name, registered, "T", COLUMNS, (name, registered, "T"))


def marked(layout: Layout, number: int, size: int = 10, minute: int = 0) -> Path:
    """A downloaded fileset of ``size`` bytes, marked that many minutes ago."""
    fileset = Fileset.of(PRODUCT, row(number))
    mark_done(layout, MarkerKind.DOWNLOADED, fileset, "t", {"files": [{"name": "f", "bytes": size}]})
    path = layout.marker(MarkerKind.DOWNLOADED, PRODUCT, fileset.name)
    modified = path.stat().st_mtime_ns - minute * 60 * 10**9
    os.utime(path, ns=(modified, modified))
    return path


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A mirror with ``KNOWN`` filesets that are complete."""
    layout = Layout(tmp_path)
    LocalListing(layout, PRODUCT).replace(row(number) for number in range(KNOWN))
    for number in range(KNOWN):
        marked(layout, number, minute=1 + number // 100)
        mark_done(layout, MarkerKind.EXTRACTED, Fileset.of(PRODUCT, row(number)), "t", {"files": []})
    return layout


@pytest.fixture
def reads(monkeypatch) -> Counter[str]:
    """How often each file was read as a marker."""
    counted: Counter[str] = Counter()

    def read(path: Path):
        counted[path.name] += 1
        return read_marker(path)

    for module in (marker_file, update):
        monkeypatch.setattr(module, "read_marker", read)
    return counted


class Server:
    """A server that has some rows after the last one that is known."""

    url = "http://x"

    def __init__(self, *rows: FilesetRow) -> None:
        self.rows = rows

    def filesets(self, product: str, since: str) -> list[FilesetRow]:
        assert (product, since) == (PRODUCT, f"fileset.{KNOWN - 2}")
        return [row(KNOWN - 1), *self.rows]


def test_discovery_of_nothing_reads_neither_the_listing_nor_a_folder_of_done_filesets(layout, monkeypatch):
    monkeypatch.setattr(LocalListing, "_lines", lambda *_: pytest.fail("the listing was read"))
    looked = []
    monkeypatch.setattr(layout_module, "good_markers", lambda folder: looked.append(folder.name) or set())
    path = layout.listing(PRODUCT)
    before = path.stat()
    assert discover_product(layout, Server(), PRODUCT, "run", whole=False) == 0
    assert looked == ["withdrawn"]
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_discovery_of_a_few_looks_up_those_alone(layout, monkeypatch):
    monkeypatch.setattr(layout_module, "good_markers", lambda folder: set())
    looked = []
    is_good = layout_module.is_good_marker
    monkeypatch.setattr(
        layout_module, "is_good_marker", lambda path: looked.append(path.stem) or is_good(path)
    )
    again = row(7, registered="later")
    new = [row(KNOWN), again, row(KNOWN + 1)]
    assert discover_product(layout, Server(*new), PRODUCT, "run", whole=False) == 3
    assert set(looked) == {each.name for each in new}
    expected = [row(number) for number in range(KNOWN) if number != 7] + new
    assert list(LocalListing(layout, PRODUCT).rows()) == expected
    for step in (MarkerKind.DOWNLOADED, MarkerKind.EXTRACTED):
        assert len(list((layout.state(PRODUCT) / step).iterdir())) == KNOWN - 1
    assert layout.marker(MarkerKind.SUPERSEDED, PRODUCT, "fileset.7").exists()


def test_one_look_at_each_folder_tells_what_is_pending(layout, monkeypatch):
    looked = Counter()
    look = marker_file.scan_markers
    monkeypatch.setattr(
        marker_file, "scan_markers", lambda folder: looked.update([folder.name]) or look(folder)
    )
    layout.marker(MarkerKind.DOWNLOADED, PRODUCT, "fileset.3").unlink()
    layout.marker(MarkerKind.EXTRACTED, PRODUCT, "fileset.5").write_bytes(b"{")
    layout.marker(MarkerKind.EXTRACTED, PRODUCT, "fileset.8").unlink()
    pending = pending_rows(layout, Product(name=PRODUCT), MarkerKind.EXTRACTED)
    assert pending == [row(3), row(5), row(8)]
    assert looked == {"downloaded": 1, "extracted": 1, "skipped": 1, "withdrawn": 1}


@pytest.mark.parametrize("few", [2, 1000])
def test_markers_that_are_looked_up_are_those_of_the_whole_folder(few, layout, monkeypatch):
    monkeypatch.setattr(layout_module, "_FEW", few)
    layout.marker(MarkerKind.EXTRACTED, PRODUCT, "fileset.5").write_bytes(b"{")
    asked = {"fileset.1", "fileset.5", "fileset.6", "absent", "../hostile", "x" * 300}
    assert layout.marked_among(MarkerKind.EXTRACTED, PRODUCT, asked) == {"fileset.1", "fileset.6"}


def test_counts_are_those_of_a_look(layout):
    folder = layout.state(PRODUCT) / MarkerKind.EXTRACTED
    os.utime(folder, (1, 1))
    assert (
        len(layout.marked(MarkerKind.EXTRACTED, PRODUCT))
        == layout.count(MarkerKind.EXTRACTED, PRODUCT)
        == KNOWN
    )
    mark_done(layout, MarkerKind.EXTRACTED, Fileset.of(PRODUCT, row(KNOWN)), "t", {"files": []})
    assert layout.count(MarkerKind.EXTRACTED, PRODUCT) == KNOWN + 1
    assert len(layout.marked(MarkerKind.EXTRACTED, PRODUCT)) == KNOWN + 1
    layout.marker(MarkerKind.EXTRACTED, PRODUCT, "fileset.1").unlink()
    assert layout.count(MarkerKind.EXTRACTED, PRODUCT) == KNOWN


def stored_bytes(layout: Layout) -> int:
    finish_product(SimpleNamespace(layout=layout), PRODUCT, "run", done=1, failed=0)
    return read_marker(layout.updated(PRODUCT))["bytes"]


def test_only_markers_of_minutes_with_a_change_are_read_for_the_sum(layout, reads):
    assert stored_bytes(layout) == 10 * KNOWN
    assert len(reads) >= KNOWN
    reads.clear()
    marked(layout, KNOWN, size=7)
    assert stored_bytes(layout) == 10 * KNOWN + 7
    assert reads.keys() <= {f"fileset.{KNOWN}.json", "updated.json"}


@pytest.mark.parametrize(
    ("change", "more"),
    [
        (lambda layout: layout.marker(MarkerKind.DOWNLOADED, PRODUCT, "fileset.5").unlink(), -10),
        (lambda layout: marked(layout, 5, size=4), -6),
        (lambda layout: marked(layout, 5, size=1011, minute=1), 1001),
        (lambda layout: layout.marker(MarkerKind.DOWNLOADED, PRODUCT, "fileset.5").write_bytes(b"{"), -10),
    ],
)
def test_the_sum_follows_markers_that_go_or_are_written_again(change, more, layout, reads):
    assert stored_bytes(layout) == 10 * KNOWN
    reads.clear()
    change(layout)
    assert stored_bytes(layout) == 10 * KNOWN + more
    read = {name for name in reads if name.startswith("fileset")}
    assert read <= {f"fileset.{number}.json" for number in range(200)}, "the others are remembered"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"1": 2}', '{"1": [0, 0, 5]}', '{"fileset.1": [1, 10]}'])
def test_the_sum_is_right_whatever_is_remembered(content, layout):
    cache = layout.state(PRODUCT) / "sizes.json"
    cache.write_text(content)
    assert stored_bytes(layout) == 10 * KNOWN
    assert sum(size for _, _, size in json.loads(cache.read_text()).values()) == 10 * KNOWN


def test_half_written_files_are_removed(layout):
    left = [
        layout.state(PRODUCT) / MarkerKind.EXTRACTED / ".abc.writing",
        layout.state(PRODUCT) / ".listing.writing",
        layout.root / "state" / ".x.writing",
    ]
    for path in left:
        path.write_bytes(b"{")
    write_marker(layout.root / "status" / "other.json", {})
    update.remove_half_written(layout)
    assert not any(path.exists() for path in left)
    assert len(layout.marked(MarkerKind.EXTRACTED, PRODUCT)) == KNOWN
