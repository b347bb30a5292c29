"""Power cuts: the order of writes, from the system calls that a real update makes."""

import json
import shutil
import sys
from collections.abc import Iterable
from copy import deepcopy
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from support.disk_model import ADOPTED, Call, Disk, Node, on_disk, read_calls, tracing
from support.follower import Follower
from support.running import started
from support.trees import tree
from support.upstream import File, Upstream

from pipeline.mirror.state.layout import Layout

PRODUCT = "md-all-rel-200907"
CHIP = "o1.chip.1.1.1"

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    """Filesets with bundles, one of several, and one of plain files."""
    upstream.add_bundles(
        PRODUCT,
        CHIP,
        {"XY01": {"a.fits": b"A" * 5000, "deep/b.fits": b"B" * 10}, "XY02": {"c.fits": b"C" * 600_000}},
    )
    upstream.add(PRODUCT, "plain", [File("big.fits", b"big" * 900_000), File("nil", b"")])
    add_small(upstream, 2, 3)
    return upstream


def add_small(upstream: Upstream, *numbers: int) -> None:
    """Register filesets of one small bundle."""
    for number in numbers:
        upstream.add_bundles(PRODUCT, f"o{number}.chip.1.1.1", {"XY01": {f"{number}.fits": b"f" * 900}})


def traced(follower: Follower, log: Path, *more: str) -> list[Call]:
    """The calls of one update."""
    return calls_of(follower.command(*more), log)


def calls_of(command: list[str], log: Path, *more: str) -> list[Call]:
    """The calls of a command that ends with 0."""
    trace = log.with_suffix(".trace")
    with started([*tracing(trace, *more), *command], log) as run:
        ended = run.wait()
    assert ended.code == 0, ended.output
    return read_calls(trace.read_text())


def named_by_markers(root: Path, served: Iterable[str]) -> dict[str, list[str]]:
    """For each marker, each fileset seen, and the record of the listing: what is on the disk before."""
    promised = {f"state/{PRODUCT}/listing.json": [f"state/{PRODUCT}/listing.txt"]}
    for name in served:
        downloaded, extracted = (
            f"state/{PRODUCT}/{step}/{name}.json" for step in ("downloaded", "extracted")
        )
        files = json.loads((root / downloaded).read_bytes())["files"]
        members = json.loads((root / extracted).read_bytes())["files"]
        promised[f"store/{PRODUCT}/{name}"] = [f"state/{PRODUCT}/arrivals.txt"]
        promised[downloaded] = [f"store/{PRODUCT}/{name}/{file['name']}" for file in files]
        promised[extracted] = [downloaded, *(file["path"] for file in members), *records_of(root, members)]
    return promised


def records_of(root: Path, members: list[dict[str, str]]) -> set[str]:
    """The owner records of the folders of unpacked files: paths below the root."""
    layout = Layout(root)
    return {layout.relative(layout.owner_record(member["path"].rpartition("/")[0])) for member in members}


@pytest.mark.parametrize("workers", ["1", "8"])
def test_every_marker_tells_the_truth_whenever_the_power_is_cut(workers, release, follower, tmp_path):
    add_small(release, 4, 5, 6, 7)
    calls = traced(follower, tmp_path / "log", "--workers", workers)
    disk = Disk(follower.root, named_by_markers(follower.root, release.products[PRODUCT]))
    assert disk.run(calls) == []
    # The model saw all there is.
    here = {path.as_posix() for path, node in disk.top.below() if not node.names}
    assert set(tree(follower.root)) <= here


def test_rows_of_the_catalog_are_flushed_before_the_marker_that_promises_them(upstream, follower, tmp_path):
    follower.catalog["enabled"] = True
    upstream.add_bundles(PRODUCT, CHIP, {"XY01": {"a.fits": b"A" * 5000}})
    calls = calls_of(follower.command(), tmp_path / "log", "pwrite64")
    marker = Layout(follower.root).marker("cataloged", PRODUCT, CHIP)
    [named] = [place for place, call in enumerate(calls) if call.name == "rename" and marker in call.paths]
    log = follower.root / "state" / "catalog" / "000001.sqlite-wal"
    done = [call.name for call in calls[:named] if log in call.paths and call.name != "openat"]
    assert done[-2:] in (["pwrite64", "fdatasync"], ["pwrite64", "fsync"])


def test_so_it_does_while_a_fileset_is_replaced(release, follower, tmp_path):
    assert follower.update().code == 0
    before = on_disk(follower.root)
    release.add_bundles(PRODUCT, CHIP, {"XY01": {"a.fits": b"new"}, "XY03": {"d.fits": b"D" * 600_000}})
    calls = traced(follower, tmp_path / "log")
    assert any(call.name == "renameat2" for call in calls)
    assert (
        Disk(follower.root, named_by_markers(follower.root, release.products[PRODUCT]), before).run(calls)
        == []
    )


def test_so_it_does_while_rows_are_added_to_the_listing(release, follower, tmp_path):
    assert follower.update().code == 0
    before = on_disk(follower.root)
    release.add(PRODUCT, "late", [File("l.fits", b"L")])
    calls = traced(follower, tmp_path / "log")
    listing = follower.root / "state" / PRODUCT / "listing.txt"
    done = [call.name for call in calls if listing in call.paths and call.name != "openat"]
    assert done == ["write", "fsync"]
    promised = named_by_markers(follower.root, release.products[PRODUCT])
    without = [call for call in calls if not call.flushes or listing not in call.paths]
    assert Disk(follower.root, promised, deepcopy(before)).run(calls) == []
    assert Disk(follower.root, promised, before).run(without), "unnoticed without the flush of the listing"


def test_so_it_does_while_the_owner_records_are_restored(release, follower, tmp_path):
    assert follower.update().code == 0
    shutil.rmtree(follower.root / "state" / "@owners")
    before = on_disk(follower.root)
    calls = traced(follower, tmp_path / "log")
    records = [path for path in tree(follower.root) if path.startswith("state/@owners/")]
    assert len(records) == 6
    promised = {"state/@owners/complete.json": records[:-1]}
    assert Disk(follower.root, promised, deepcopy(before)).run(calls) == []
    without = [call for call in calls if call.name != "syncfs"]
    assert Disk(follower.root, promised, before).run(without), "unnoticed without the flush of all records"


@pytest.mark.parametrize("by", ["rename", "copy"])
def test_so_it_does_while_a_mirror_is_adopted(by, release, follower, tmp_path):
    """Bytes of the adopted folder are not known to be safe, and no old name goes before the new one is."""
    old = tmp_path / "MIRROR"
    shutil.copytree(release.folder, old)
    adopted = on_disk(old)
    for _, node in adopted.below():
        node.clean = node.is_folder
    command = [sys.executable, "-m", "tasks", "adopt", str(old), "--config", str(follower.config)]
    calls = calls_of([*command, "--by", by], tmp_path / "log")
    promised = named_by_markers(follower.root, release.products[PRODUCT])
    for name in release.products[PRODUCT]:
        downloaded = f"state/{PRODUCT}/downloaded/{name}.json"
        for path in promised[downloaded]:
            promised[path.replace("store", ADOPTED, 1)] = [downloaded, path]

    def disk() -> Disk:
        top = Node(is_folder=True, names={ADOPTED: deepcopy(adopted)})
        return Disk(follower.root, promised, top, old)

    assert disk().run(calls) == []
    for flushed in (f"incoming/{PRODUCT}/{CHIP}/files", f"state/{PRODUCT}/downloaded"):
        folder = follower.root / flushed
        without = [call for call in calls if not call.flushes or folder not in call.paths]
        assert disk().run(without), f"unnoticed without the flush of {flushed}"


# Every flush of such a path is needed. Others are only so where no later one makes up for them.
NEEDED = (
    f"incoming/{PRODUCT}/*/files",
    f"incoming/{PRODUCT}/*/files/*",
    f"store/{PRODUCT}",
    "data/*.unpacking",
    "data/gpc1/MD01/o[2-7].XY01",
    "data/gpc1/MD01/o1.XY01/deep",
    "data/gpc1/MD01/o1.XY02",
    f"info/{PRODUCT}/*/*.writing",
    f"info/{PRODUCT}/*.1.1",
    f"state/{PRODUCT}/arrivals.txt",
    f"state/{PRODUCT}/*.writing",
    "state/@owners/??",
    "state/@owners/??/*",
    "status/*.writing",
)


def test_every_flush_that_matters_would_be_missed(release, follower, tmp_path):
    calls = traced(follower, tmp_path / "log", "--workers", "1")
    promised = named_by_markers(follower.root, release.products[PRODUCT])
    needed = [place for place, call in enumerate(calls) if call.flushes and is_needed(call, follower.root)]
    assert len(needed) > 4 * 8
    for place in needed:
        without = calls[:place] + calls[place + 1 :]
        path = calls[place].paths[0]
        assert Disk(follower.root, promised).run(without), f"unnoticed without the flush of {path}"
    for step in ("downloaded", "extracted"):
        folder = follower.root / "state" / PRODUCT / step
        without = [call for call in calls if not call.flushes or folder not in call.paths]
        assert len(without) < len(calls)
        assert Disk(follower.root, promised).run(without), f"unnoticed without the flush of {folder}"


def is_needed(call: Call, root: Path) -> bool:
    path = call.paths[0]
    # The note beside the settings lies outside of the root.
    return path.is_relative_to(root) and any(
        fnmatchcase(path.relative_to(root).as_posix(), pattern) for pattern in NEEDED
    )


def test_a_folder_that_another_process_has_made_and_not_flushed_is_made_safe(release, follower, tmp_path):
    """Calls of a process that finds the folder there, without the flush of the one that made it."""
    calls = traced(follower, tmp_path / "log", "--workers", "1")
    for folder in (follower.root / "data", follower.root / "data/gpc1", follower.root / "data/gpc1/MD01"):
        first = next(place for place, call in enumerate(calls) if call.flushes and folder in call.paths)
        del calls[first]
    assert Disk(follower.root, named_by_markers(follower.root, release.products[PRODUCT])).run(calls) == []
