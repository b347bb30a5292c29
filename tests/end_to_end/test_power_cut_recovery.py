"""Power cuts: the next run completes what is left of an adoption, a takeover, a lost order of arrival.

What is left is made by the model of a disk, from the system calls of a run that went through.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from copy import deepcopy
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from support import earlier_mirror
from support.command import ended
from support.disk_model import ADOPTED, Call, Disk, Node, on_disk, power_cuts, put, read_calls, tracing
from support.follower import Follower
from support.reader import Reader
from support.running import leftovers, served_on, tree_is_true
from support.trees import tree
from support.upstream import File, Upstream, served_filesets

from pipeline.sample import faults
from pipeline.sample.simulator import simulate

PRODUCT = "md-all-rel-200907"
CHIP = "o1.chip.1.1.1"
MEMBERS = {"a.fits": b"A" * 500, "b.fits": b"B" * 10}
DATA = {f"gpc1/MD01/o1.XY01/{name}": content for name, content in MEMBERS.items()}
STATE = f"state/{PRODUCT}"
ORDER = f"{STATE}/arrivals.txt"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    upstream.add_bundles(PRODUCT, CHIP, {"XY01": MEMBERS})
    upstream.add(PRODUCT, "plain", [File("t.fits", b"T" * 70), File("u.fits", b"U" * 7)], type="table")
    return upstream


def traced(command: list[str], trace: Path, code: int = 0) -> list[Call]:
    """Return the calls of a run that ends with that code."""
    result = ended([*tracing(trace), *command])
    assert result.code == code, result.output
    return read_calls(trace.read_text())


def first_of_each(root: Path, *patterns: str) -> Callable[[Call], bool]:
    """Return a choice of calls: the first flush of each path that matches one of the patterns."""
    seen = set()

    def is_chosen(call: Call) -> bool:
        if not (call.flushes or call.name == "syncfs") or not call.paths[0].is_relative_to(root):
            return False
        path = call.paths[0].relative_to(root).as_posix()
        if path in seen or not any(fnmatchcase(path, pattern) for pattern in patterns):
            return False
        seen.add(path)
        return True

    return is_chosen


def restore(follower: Follower, left: dict[Path, Node]) -> None:
    """Make the mirror what is left. The note beside the settings is written after all that it stands for."""
    shutil.rmtree(follower.root, ignore_errors=True)
    put(left)
    lock = follower.root / "state" / "update.lock"
    if lock.exists():
        # The lock of another host counts as held while that host touches it.
        os.utime(lock, (1, 1))
    (follower.folder / ".mirror.yaml.id").unlink(missing_ok=True)


def model_is_true(disk: Disk, end: dict[str, bytes]) -> None:
    """The model has each file of the mirror that the run left."""
    model = {path.as_posix(): bytes(node.content) for path, node in disk.top.below() if not node.is_folder}
    assert {path: model[path] for path in end if not path.endswith(".lock")} == {
        path: content for path, content in end.items() if not path.endswith(".lock")
    }


def fetched(server) -> set[str]:
    """The filesets of which files were fetched, without listings; none is remembered."""
    targets = [request.target for request in server.requests if "index.txt" not in request.target]
    server.clear()
    return {target.split("/")[3] for target in targets}


@pytest.mark.parametrize("by", ["rename", "copy"])
def test_an_adoption_is_completed_and_nothing_fetched(by, release, server, follower, tmp_path):
    old = tmp_path / "MIRROR"
    shutil.copytree(release.folder / PRODUCT, old / PRODUCT)
    (old / PRODUCT / "index.txt").unlink()
    disk = Disk(follower.root, {}, adopted=old)
    disk.top.names[ADOPTED] = disk.top.kept[ADOPTED] = on_disk(old)
    settings = ["--config", str(follower.config), "--by", by]
    adoption = [sys.executable, "-m", "tasks", "adopt", str(old), *settings]
    calls = traced([*adoption, "--workers", "1"], tmp_path / "trace")
    end = tree(follower.root)
    flushed = ["incoming/*/files", f"store/{PRODUCT}", ORDER, f"{STATE}/downloaded", f"{STATE}/extracted"]
    count = 0
    for instant, left in power_cuts(disk, calls, first_of_each(follower.root, *flushed)):
        count += 1
        shutil.rmtree(old)
        restore(follower, left)
        result = ended(adoption)
        assert result.code == 0, f"{instant}: {result.output}"
        assert fetched(server) == set(), instant
        assert follower.content("store") == served_filesets(release), instant
        assert follower.content("data") == DATA, instant
        assert leftovers(follower.root) == [], instant
        tree_is_true(follower.root, PRODUCT, {CHIP, "plain"})
        kept = {path for path in served_filesets(release) if by == "copy" or path.endswith("index.txt")}
        assert tree(old).keys() == kept, instant
    model_is_true(disk, end)
    assert count > len(flushed)


@pytest.fixture
def earlier(tmp_path: Path):
    """The server of a mirror of format 1, which lies in ``mirror``."""
    earlier_mirror.restore(tmp_path, keep_times=True)
    with simulate(tmp_path / "upstream") as running:
        yield running


def test_a_takeover_of_an_earlier_format_is_completed_and_nothing_fetched_again(earlier, tmp_path):
    follower = Follower(tmp_path, earlier.url)
    before = tree(follower.root)
    disk = Disk(follower.root, {}, on_disk(follower.root))
    calls = traced(follower.command("--workers", "1"), tmp_path / "trace", code=30)
    begun = next(place for place, call in enumerate(calls) if is_below(call, follower.root / "incoming"))
    flushed = [".", "state/@owners", ORDER, STATE, f"{STATE}/.*.writing"]
    pending = {earlier_mirror.WRONG, earlier_mirror.RESUMED, earlier_mirror.LARGE, earlier_mirror.AGAIN}
    unpacked = {*earlier_mirror.COMPLETE, earlier_mirror.GONE}
    # Names of what is not complete: pending filesets, and files that are being unpacked.
    names = {f"/{name}/" for name in pending} | {"/o2.XY01/", ".unpacking"}
    count = 0
    for instant, left in power_cuts(disk, calls[:begun], first_of_each(follower.root, *flushed)):
        count += 1
        restore(follower, left)
        earlier.clear()
        result = follower.update()
        assert result.code == 30, f"{instant}: {result.output}"
        assert fetched(earlier) <= pending, instant
        after = tree(follower.root)
        for path, content in before.items():
            if path.startswith(("store", "data", "info")) and not any(name in path for name in names):
                assert after[path] == content, f"{instant}: {path}"
        assert follower.marked("extracted", PRODUCT) >= unpacked, instant
        assert json.loads(after["mirror.json"])["format"] == 2, instant
        held = follower.marked("downloaded", PRODUCT) - follower.marked("withdrawn", PRODUCT)
        assert served_on(follower.root, PRODUCT) == held, instant
        reader = Reader(follower.root, (PRODUCT,))
        reader.read()
        assert reader.has[PRODUCT].keys() == held, instant
    assert count > len(flushed)


def is_below(call: Call, folder: Path) -> bool:
    return any(path.is_relative_to(folder) for path in call.paths) and "O_CREAT" in call.arguments


def test_readers_miss_nothing_when_the_order_of_arrival_is_made_anew(release, server, follower, tmp_path):
    release.add(PRODUCT, "third", [File("v.fits", b"V")])
    server.faults.append(faults.fails(404, target=f"{PRODUCT}/{CHIP}/*.tgz"))
    assert follower.update().code == 30
    before = Reader(follower.root, (PRODUCT,))
    before.read()
    assert before.has[PRODUCT].keys() == {"plain", "third"}
    server.faults.clear()
    # The first of the listing arrives last, unseen by the readers.
    assert follower.update().code == 0
    (follower.root / ORDER).unlink()
    release.add(PRODUCT, "late", [File("l.fits", b"L")])
    disk = Disk(follower.root, {}, on_disk(follower.root))
    calls = traced(follower.command("--workers", "1"), tmp_path / "trace")
    end = tree(follower.root)
    flushed = [f"{STATE}/.*.writing", STATE, ORDER, f"store/{PRODUCT}", f"{STATE}/downloaded"]
    registered = {name: row[1] for name, row in release.products[PRODUCT].items()}
    count = 0
    for instant, left in power_cuts(disk, calls, first_of_each(follower.root, *flushed)):
        count += 1
        restore(follower, left)
        # One site reads what the power cut left, another one only what the next run makes of it.
        in_between, later = deepcopy(before), deepcopy(before)
        in_between.read()
        server.clear()
        result = follower.update()
        assert result.code == 0, f"{instant}: {result.output}"
        assert fetched(server) <= {"late"}, instant
        assert follower.content("store") == served_filesets(release), instant
        assert served_on(follower.root, PRODUCT) == registered.keys(), instant
        for reader in (in_between, later):
            reader.read()
            assert reader.has[PRODUCT] == registered, instant
    model_is_true(disk, end)
    assert count > len(flushed)
