"""A catalog on a disk that is full or read-only: one sentence, and the next run catches up."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.catalog import PRODUCT, add_chips, rows, url_database
from support.follower import Follower
from support.upstream import Upstream

NAMES = "SELECT name FROM fileset ORDER BY name"
SAID = {
    "full": "database or disk is full. The files of the mirror are not concerned; the next run tries",
    "read-only": "attempt to write a readonly database. The files of the mirror are not concerned; the next",
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own for the catalog."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small file system can be mounted here: {error}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def spoil(disk: Path, how: str) -> None:
    if how == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        return
    space = os.statvfs(disk)
    with open(disk / "ballast", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_bsize)


def restore(disk: Path, how: str) -> None:
    if how == "read-only":
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    else:
        (disk / "ballast").unlink()


@pytest.mark.parametrize("how", SAID)
def test_a_disk_that_cannot_be_written(how, upstream: Upstream, follower: Follower, disk: Path):
    follower.catalog |= {"enabled": True, "coverage": False, "url": f"sqlite:///{disk}/c.sqlite"}
    add_chips(upstream, "f1", 1)
    assert follower.update().code == 0
    spoil(disk, how)
    for number in (2, 3):
        add_chips(upstream, f"f{number}", number, component=f"XY0{number}")
    result = follower.update()
    assert (result.code, result.output.count("catalog /")) == (0, 1), result.output
    assert SAID[how] in result.output
    assert follower.marked("extracted", PRODUCT) == {"f1", "f2", "f3"}
    assert follower.marked("cataloged", PRODUCT) < {"f1", "f2", "f3"}
    restore(disk, how)
    assert follower.update().code == 0
    assert rows(url_database(str(follower.catalog["url"])), NAMES) == [("f1",), ("f2",), ("f3",)]
    assert follower.marked("cataloged", PRODUCT) == {"f1", "f2", "f3"}
