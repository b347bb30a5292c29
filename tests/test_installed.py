"""The program installed from its wheel: it needs no file of the project's folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from support.command import REPOSITORY
from support.follower import Follower
from support.running import free_port
from support.upstream import File, Upstream

PACKAGES = ("pipeline", "tasks")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
RUN = "from tasks.commands import main; main()"


def files_in(folder: Path) -> set[str]:
    paths = (path for package in PACKAGES for path in (folder / package).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in paths if path.parent.name != "__pycache__"}


def test_the_wheel_has_all_files_and_works_from_another_folder(
    upstream: Upstream, follower: Follower, tmp_path: Path
):
    upstream.add("p", "p.1", [File("a.fits", b"a")])
    sources, wheels, installed = (tmp_path / name for name in ("sources", "wheels", "installed"))
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, sources)
    subprocess.run(
        [sys.executable, "-c", BUILD, wheels], cwd=sources, env=os.environ, check=True, capture_output=True
    )
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    assert files_in(installed) == files_in(REPOSITORY)
    (entry_points,) = installed.glob("*.dist-info/entry_points.txt")
    assert "ipp-mirror = tasks.commands:main" in entry_points.read_text()
    updated = subprocess.run(
        [sys.executable, "-P", "-c", RUN, "update", "--scheduler-port", str(free_port())],
        cwd=follower.config.parent,
        env=os.environ | {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 extracted" in updated.stdout, updated.stderr
    assert follower.content("store")["p/p.1/a.fits"] == b"a"
