"""Owner records: nothing that is marked is missing in them, whatever a kill or a power cut leaves."""

import multiprocessing
import shutil
from pathlib import Path

import pytest
from support.audit import opened_below
from support.trees import tree

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.markers import Fileset, mark_done
from pipeline.mirror.state.owner_records import (
    drop_records,
    record_files,
    recorded_with,
    restore_owner_records,
    unrecorded,
)

FRESH = multiprocessing.get_context("spawn")
TIMEOUT_SECONDS = 60
CHIP = Fileset("md", "o1.chip.1", "2009-07-29T00:00:01Z")
WARP = Fileset("other", "o1.warp.2", "2009-07-29T00:00:02Z")
CHIP_FILES = ["data/x/o1.ch.XY01.cmf", "data/x/o1.ch.XY02.cmf", "data/x/deep/o1.log"]
WARP_FILES = ["data/x/o1.wrp.cmf"]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def mark(layout: Layout, fileset: Fileset, paths: list[str]) -> None:
    files = [{"path": path, "bytes": 1, "crc32": "00000000"} for path in paths]
    mark_done(layout, MarkerKind.EXTRACTED, fileset, "", {"files": files})


def content(layout: Layout, folder: str) -> str:
    return layout.owner_record(folder).read_text()


def key(fileset: Fileset) -> tuple[str, str]:
    return fileset.product, fileset.name


def test_a_record_names_each_fileset_once(layout):
    for _ in range(2):
        record_files(layout, CHIP, CHIP_FILES)
        record_files(layout, WARP, WARP_FILES)
    lines = ["data/x", "md/o1.chip.1/o1.ch.XY0", "other/o1.warp.2/o1.wrp.cmf"]
    assert content(layout, "data/x") == "".join(f"{line}\n" for line in lines)
    assert content(layout, "data/x/deep") == "data/x/deep\nmd/o1.chip.1/o1.log\n"
    assert len(tree(layout.owners)) == 2


def test_another_registration_with_other_files_is_found_by_both(layout):
    record_files(layout, CHIP, ["data/x/a.fits"])
    record_files(layout, CHIP, ["data/x/b.fits"])
    for name in ("a.fits", "b.fits"):
        assert recorded_with(layout, {f"data/x/{name}"}) == {key(CHIP)}


def test_only_filesets_that_may_have_one_of_the_files_are_named(layout):
    record_files(layout, CHIP, CHIP_FILES)
    record_files(layout, WARP, WARP_FILES)
    found = {path: recorded_with(layout, {path}) for path in (*CHIP_FILES, *WARP_FILES)}
    assert all(found[path] == {key(CHIP)} for path in CHIP_FILES)
    assert all(found[path] == {key(WARP)} for path in WARP_FILES)
    assert recorded_with(layout, {*CHIP_FILES, *WARP_FILES}) == {key(CHIP), key(WARP)}
    for elsewhere in ("data/x/o1.c", "data/x/z", "data/x/o1.log", "data/y/o1.ch.XY01.cmf"):
        assert recorded_with(layout, {elsewhere}) == set(), elsewhere
    assert recorded_with(layout, set()) == set()


def test_siblings_lie_in_one_folder(layout):
    record_files(layout, CHIP, [f"data/night/o{number}/a.fits" for number in range(60)])
    assert len(list(layout.owners.iterdir())) == 1
    assert len(tree(layout.owners)) == 60


def cuts(text: str) -> list[str]:
    """Possible remains of a record: its beginning, up to any byte, and zeros up to its length."""
    beginnings = [text[:length] for length in range(len(text))]
    return beginnings + [beginning.ljust(len(text), "\0") for beginning in beginnings]


def test_a_record_that_was_cut_off_anywhere_is_read_and_repaired(layout):
    record_files(layout, CHIP, CHIP_FILES[:2])
    whole = content(layout, "data/x")
    record_files(layout, WARP, WARP_FILES)
    path = layout.owner_record("data/x")
    left = [cut for cut in cuts(path.read_text()) if not cut.startswith(whole)]
    safe = [cut for cut in cuts(path.read_text()) if cut.startswith(whole)]
    assert min(len(left), len(safe)) > 20
    for cut in (*left, *safe):
        path.write_text(cut)
        marked = {key(CHIP)} if cut in safe else set()
        assert recorded_with(layout, {CHIP_FILES[0]}) >= marked, repr(cut)
        record_files(layout, WARP, WARP_FILES)
        assert recorded_with(layout, {CHIP_FILES[0]}) >= marked, repr(cut)
        assert key(WARP) in recorded_with(layout, set(WARP_FILES)), repr(cut)
        repaired = path.read_bytes()
        record_files(layout, WARP, WARP_FILES)
        assert path.read_bytes() == repaired, repr(cut)


@pytest.mark.parametrize(
    "line", [b"../../x/f/", b"md/../f/", b"/", b"\xff\xfe/f/", b"md", b"", b"a/" + b"f" * 300]
)
def test_a_line_that_names_no_fileset_is_ignored(line, layout):
    record_files(layout, CHIP, CHIP_FILES)
    with open(layout.owner_record("data/x"), "ab") as record:
        record.write(line + b"\n")
    assert recorded_with(layout, {CHIP_FILES[0]}) == {key(CHIP)}


def test_the_record_of_a_folder_that_is_gone_goes(layout):
    record_files(layout, CHIP, CHIP_FILES)
    (layout.data / "x").mkdir(parents=True)
    drop_records(layout, CHIP_FILES, CHIP)
    assert content(layout, "data/x").startswith("data/x\n")
    assert not layout.owner_record("data/x/deep").exists()


def test_a_record_stays_while_another_fileset_is_marked(layout):
    for fileset, paths in ((CHIP, CHIP_FILES), (WARP, WARP_FILES)):
        record_files(layout, fileset, paths)
        mark(layout, fileset, paths)
    drop_records(layout, CHIP_FILES, CHIP)
    assert recorded_with(layout, set(WARP_FILES)) == {key(WARP)}
    layout.marker(MarkerKind.EXTRACTED, *key(WARP)).unlink()
    drop_records(layout, CHIP_FILES, CHIP)
    assert not layout.owner_record("data/x").exists()


def test_a_fileset_that_is_missing_in_a_record(layout):
    record_files(layout, CHIP, CHIP_FILES)
    assert unrecorded(layout, CHIP, CHIP_FILES) == []
    assert unrecorded(layout, WARP, WARP_FILES) == ["data/x"]
    assert unrecorded(layout, CHIP, [*CHIP_FILES, "data/x/b"]) == ["data/x"]
    layout.owner_record("data/x/deep").unlink()
    assert unrecorded(layout, CHIP, CHIP_FILES) == ["data/x/deep"]


def extracted(layout: Layout, count: int) -> dict[str, str]:
    """Mark filesets that share a folder, as extractions do; return their records."""
    for number in range(count):
        fileset = Fileset("md" if number % 3 else "other", f"o{number}.chip", "t")
        paths = ["data/x/same", f"data/x/{number}", f"data/only/{number}/a", f"data/only/{number}/b"]
        record_files(layout, fileset, paths)
        mark(layout, fileset, paths)
    return {path: text.decode() for path, text in tree(layout.owners).items()}


def lines(records: dict[str, str]) -> dict[str, list[str]]:
    return {path: sorted(text.splitlines()) for path, text in records.items() if path != "complete.json"}


def now(layout: Layout) -> dict[str, list[str]]:
    return lines({path: text.decode() for path, text in tree(layout.owners).items()})


@pytest.mark.parametrize("lost", ["all", "the marker", "the marker and some", "the marker, others cut"])
def test_records_are_restored_from_the_markers(lost, layout):
    before = lines(extracted(layout, 40))
    restore_owner_records(layout)
    assert now(layout) == before
    if lost == "all":
        shutil.rmtree(layout.owners)
    else:
        layout.owners_complete.unlink()
    records = sorted(path for path in layout.owners.glob("*/*"))
    for number, path in enumerate(records):
        if lost == "the marker and some" and number % 2:
            path.unlink()
        if lost == "the marker, others cut":
            path.write_bytes(path.read_bytes()[: number % 9])
    restore_owner_records(layout)
    restored = now(layout)
    if lost == "the marker, others cut":
        assert restored.keys() == before.keys()
        assert all(set(before[path][1:]) <= set(restored[path]) for path in before)
    else:
        assert restored == before
    assert recorded_with(layout, {"data/only/7/a"}) == {("md", "o7.chip")}


def test_records_that_are_complete_are_believed(layout):
    extracted(layout, 5)
    restore_owner_records(layout)
    with opened_below(layout.root) as opened:
        restore_owner_records(layout)
    assert opened == ["state/@owners/complete.json"]


def restore(root: Path) -> None:
    restore_owner_records(Layout(root))


def test_a_restoration_that_is_killed_begins_again(layout):
    before = lines(extracted(layout, 400))
    shutil.rmtree(layout.owners)
    for least in (1, 100, 200, 300):
        process = FRESH.Process(target=restore, args=(layout.root,))
        process.start()
        while process.is_alive() and len(tree(layout.owners)) < least:
            pass
        process.kill()
        process.join(TIMEOUT_SECONDS)
    restore_owner_records(layout)
    restored = now(layout)
    assert restored.keys() == before.keys()
    assert all(set(before[path]) <= set(restored[path]) for path in before)
