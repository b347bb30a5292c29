"""This version goes on with a mirror that an earlier one left in the middle of an update that was killed.

What is complete is neither fetched nor unpacked again; what was interrupted is finished from where it was.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from support.command import Ended, ended
from support.earlier_mirror import (
    AGAIN,
    AHEAD,
    COMPLETE,
    GONE,
    LARGE,
    OTHER,
    PRODUCT,
    RESUMED,
    SKIPPED,
    UNPACKING,
    WRONG,
    partial_file,
    publish_correction,
    restore,
)
from support.follower import Follower
from support.kills import killed_at, written
from support.running import leftovers
from support.summary_line import numbers
from support.trees import tree

from pipeline.sample.simulator import simulate

BUNDLE = f"{PRODUCT}/{AGAIN}/{AGAIN}.XY01.tgz"
LISTINGS = {"index.txt", f"{PRODUCT}/index.txt", f"{OTHER}/index.txt"}
PENDING = {WRONG, RESUMED, LARGE, AGAIN}
UNPACKED = {*COMPLETE, GONE, AGAIN, UNPACKING, AHEAD, RESUMED, LARGE}
ONCE = pytest.mark.parametrize("keep_times", [True], indirect=True, ids=["times kept"])
# What the kill left in data/ of the two filesets that were being unpacked.
STRAY = {f"data/gpc1/MD01/{folder}.XY01/" for folder in ("late1", "late2")}


@pytest.fixture(params=[True, False], ids=["times kept", "times lost"])
def keep_times(request) -> bool:
    return request.param


@pytest.fixture
def server(tmp_path: Path, keep_times):
    restore(tmp_path, keep_times=keep_times)
    with simulate(tmp_path / "upstream") as running:
        yield running


@pytest.fixture
def follower(tmp_path: Path, server) -> Follower:
    """The restored mirror; its upstream has another address than it had."""
    return Follower(tmp_path, server.url)


def verify(follower: Follower) -> Ended:
    return ended([sys.executable, "-m", "tasks", "verify", "--mirror-config", str(follower.config)])


def asked(server) -> set[str]:
    """The paths of all requests below the Data Store."""
    return {request.target.partition("?")[0].removeprefix("/ds/") for request in server.requests}


def ranges(server, path: str) -> list[tuple[int, int]]:
    """The ranges asked for of a file: first byte, and byte after the last. Sorted; adjoining ones are one."""
    joined: list[tuple[int, int]] = []
    headers = [request.range for request in server.requests if request.target == f"/ds/{path}"]
    for first, end in sorted(as_range(header) for header in headers):
        if joined and joined[-1][1] == first:
            first, _ = joined.pop()
        joined.append((first, end))
    return joined


def as_range(header: str | None) -> tuple[int, int]:
    first, _, last = (header or "bytes=0-").removeprefix("bytes=").partition("-")
    return int(first), int(last) + 1 if last else -1


def identities(root: Path, but: set[str]) -> dict[str, tuple[int, int]]:
    """Inode and modification time of each file in store/, data/ and info/, but for those below some paths."""
    files = {
        path.relative_to(root).as_posix(): path
        for folder in ("store", "data", "info")
        for path in (root / folder).rglob("*")
        if path.is_file()
    }
    return {
        name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for name, path in files.items()
        if not name.startswith(tuple(but))
    }


def pending_paths() -> set[str]:
    """Paths that an update may write: the folders of the filesets that are not complete."""
    folders = {f"{folder}/{PRODUCT}/{name}/" for folder in ("store", "info") for name in PENDING}
    unpacking = {f"info/{PRODUCT}/{name}/" for name in (UNPACKING, AHEAD)}
    return folders | unpacking | STRAY | {"data/gpc1/MD01/o2.XY01/"}


def missing_ranges(root: Path) -> list[tuple[int, int]]:
    """The bytes that are missing of the large file: the gaps between its pieces."""
    note = json.loads(partial_file(root, LARGE, "large.fits").with_suffix(".json").read_bytes())
    edges = [0, *(edge for piece in note["pieces"] for edge in piece), note["bytes"]]
    return [gap for gap in zip(edges[::2], edges[1::2], strict=True) if gap[0] < gap[1]]


def test_an_update_finishes_what_was_interrupted_and_touches_nothing_else(server, follower):
    root = follower.root
    here = partial_file(root, RESUMED, "resumed.fits").stat().st_size
    missing = missing_ranges(root)
    before = identities(root, but=pending_paths())
    assert len(before) > 20
    result = follower.update()
    assert result.code == 30, result.output
    assert numbers(0, 7, 5, 1, skipped=1) in result.output
    assert "expected md5 " + "0" * 32 in result.output

    files = {f"{PRODUCT}/{WRONG}/w.fits", f"{PRODUCT}/{RESUMED}/resumed.fits"}
    files |= {f"{PRODUCT}/{LARGE}/large.fits", BUNDLE}
    assert asked(server) == LISTINGS | {f"{PRODUCT}/{name}/index.txt" for name in PENDING} | files
    assert ranges(server, f"{PRODUCT}/{RESUMED}/resumed.fits") == [(here, -1)]
    assert ranges(server, f"{PRODUCT}/{LARGE}/large.fits") == missing
    assert len(missing) > 1

    assert identities(root, but=pending_paths()) == before
    assert follower.marked("downloaded", PRODUCT) == UNPACKED
    assert follower.marked("extracted", PRODUCT) == UNPACKED
    assert follower.marked("skipped", PRODUCT) == {SKIPPED}
    assert follower.marked("withdrawn", PRODUCT) == {GONE}
    assert follower.marked("superseded", PRODUCT) == set()
    assert follower.marked("failed", PRODUCT) == {WRONG}
    record = json.loads((root / "state" / PRODUCT / "failed" / f"{WRONG}.json").read_bytes())
    assert (record["attempts"], record["faults"]) == (4, 4)
    assert leftovers(root) == [f"incoming/{PRODUCT}/{WRONG}/files/r.fits"]
    content = json.loads((root / "mirror.json").read_bytes())
    assert content.keys() == {"format", "id"}
    assert content["format"] == 2


TAKEN_OVER = {
    "the format": "mirror.json",
    "the order of arrival": f"state/{PRODUCT}/arrivals.txt",
    "the owner records": "state/@owners/complete.json",
    "a snapshot": f"state/{PRODUCT}/extracted.snapshot",
}


@pytest.mark.long
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("path", TAKEN_OVER.values(), ids=TAKEN_OVER)
def test_a_mirror_is_taken_over_after_a_kill_too(path, follower, tmp_path):
    before = identities(follower.root, but=pending_paths())
    killed_at(written(path), follower, tmp_path / "killed")
    assert identities(follower.root, but=pending_paths()) == before
    result = follower.update()
    assert result.code == 30, result.output
    assert identities(follower.root, but=pending_paths()) == before
    assert follower.marked("extracted", PRODUCT) == UNPACKED
    assert json.loads((follower.root / "mirror.json").read_bytes())["format"] == 2
    assert entered(follower.root) == UNPACKED


def entered(root: Path) -> set[str]:
    """The filesets in the order of arrival."""
    lines = (root / "state" / PRODUCT / "arrivals.txt").read_text().splitlines()
    return {line.split("|")[0] for line in lines if not line.startswith("#")}


@ONCE
def test_once_upstream_is_corrected_the_mirror_is_as_a_new_one(server, follower, tmp_path):
    withdrawn = {folder: kept_of_withdrawn(follower, folder) for folder in ("store", "data", "info")}
    assert follower.update().code == 30
    publish_correction(tmp_path)
    server.clear()
    result = follower.update()
    assert result.code == 0, result.output
    assert numbers(1, 2, 1, skipped=1) in result.output
    assert asked(server) == LISTINGS | {f"{PRODUCT}/{WRONG}/index.txt", f"{PRODUCT}/{WRONG}/w.fits"}
    assert leftovers(follower.root) == []

    server.clear()
    assert numbers(selected=1, skipped=1) in follower.update().output
    assert asked(server) == LISTINGS

    new = Follower(tmp_path / "new", server.url)
    new.folder.mkdir()
    assert new.update().code == 30, "the fileset that is skipped fails in a mirror without the skip"
    for folder, kept in withdrawn.items():
        expected = {
            path: content.replace(os.fsencode(new.root), os.fsencode(follower.root))
            for path, content in new.content(folder).items()
        }
        assert follower.content(folder) == expected | kept
    result = verify(follower)
    assert result.code == 0, result.output


def kept_of_withdrawn(follower: Follower, folder: str) -> dict[str, bytes]:
    kept = {path: content for path, content in follower.content(folder).items() if "/o3." in path}
    assert kept
    return kept


@ONCE
def test_verification_finds_what_the_kill_left_and_no_more(follower):
    before = tree(follower.root / "store"), tree(follower.root / "data")
    found = verify(follower)
    assert found.code == 30, found.output
    logged = (follower.root / "log" / "update_mirror.log").read_text().splitlines()
    lines = [line.partition(" WARNING ")[2] for line in logged]
    problems = [line for line in lines if line.startswith(("store/", "data/", "state/"))]
    stray = {f"data/{path}" for path in follower.content("data") if f"data/{path}".startswith(tuple(STRAY))}
    marker = f"state/{PRODUCT}/downloaded/{AGAIN}.json"
    assert {line.partition(":")[0] for line in problems} == stray | {marker}
    assert len(stray) == 7
    assert (tree(follower.root / "store"), tree(follower.root / "data")) == before
    assert follower.update().code == 30
    sound = verify(follower)
    assert sound.code == 0, sound.output
    assert f"product {PRODUCT}: {len(UNPACKED)} filesets verified, 0 with problems" in sound.output


@ONCE
def test_without_the_state_nothing_good_is_fetched_again(server, follower):
    shutil.rmtree(follower.root / "state")
    result = follower.update()
    assert result.code == 30, result.output
    files = {path for path in asked(server) if not path.endswith("index.txt")}
    pending = {f"{PRODUCT}/{WRONG}/w.fits", f"{PRODUCT}/{SKIPPED}/s.fits", BUNDLE}
    assert files == pending | {f"{PRODUCT}/{RESUMED}/resumed.fits", f"{PRODUCT}/{LARGE}/large.fits"}
