"""The program installed from its sources: it needs no file of the project's folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.command import REPOSITORY
from support.running import free_port
from support.upstream import File, Upstream

from pipeline.sample.simulator import Simulator

PACKAGES = ("pipeline", "tasks")
NOT_INSTALLED = shutil.ignore_patterns("__pycache__", "*.egg-info")


def files_in(folder: Path) -> set[str]:
    paths = (path for package in PACKAGES for path in (folder / package).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in paths if path.parent.name != "__pycache__"}


def test_an_empty_folder_is_enough_for_init_and_update(upstream: Upstream, server: Simulator, tmp_path: Path):
    upstream.add("p", "p.1", [File("a.fits", b"a")])
    sources, installed, site = (tmp_path / name for name in ("sources", "installed", "site"))
    site.mkdir()
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, sources / package, ignore=NOT_INSTALLED)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, sources)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--no-compile", "--target", str(installed)]
    subprocess.run([*pip, *options, str(sources)], check=True, capture_output=True)
    assert files_in(installed) == files_in(REPOSITORY)

    def command(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-P", installed / "bin" / "ipp-mirror", *arguments],
            cwd=site,
            env=os.environ | {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    command("init", server.url)
    assert "1 extracted" in command("update", "--scheduler-port", str(free_port()))
    assert (site / "mirror/store/p/p.1/a.fits").read_bytes() == b"a"
    assert str(REPOSITORY) not in (site / "mirror/log/update_mirror.log").read_text()
