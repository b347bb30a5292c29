"""The program installed from its wheel: it needs no file of the project's folder."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import REPOSITORY
from support.follower import Follower
from support.running import free_port
from support.upstream import File, Upstream

from pipeline.sample.simulator import Simulator

PACKAGES = ("pipeline", "tasks")
OF_THE_PROJECT = re.compile(r"docs/|README\.md")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
RUN = "from tasks.commands import main; main()"


def files_in(folder: Path) -> set[str]:
    paths = (path for package in PACKAGES for path in (folder / package).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in paths if path.parent.name != "__pycache__"}


def test_the_guide_names_each_extra():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    guide = (REPOSITORY / "docs" / "guide.md").read_text()
    (sentence,) = [line for line in guide.splitlines() if "Extras are " in line]
    named = sentence.partition("Extras are ")[2]
    assert [extra for extra in extras.keys() - {"dev"} if f"`{extra}`" not in named] == []


def texts_in(module: ast.Module) -> Iterator[str]:
    """Yield the texts of a module that users may read: no docstrings but those of commands, their help."""
    documented = [node for node in ast.walk(module) if isinstance(node, _DOCUMENTED) and node.body]
    docstrings = {
        node.body[0].value
        for node in documented
        if isinstance(node.body[0], ast.Expr)
        and "command(" not in "".join(map(ast.unparse, decorators(node)))
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield node.value


def decorators(node: ast.AST) -> list[ast.expr]:
    return getattr(node, "decorator_list", [])


def test_no_message_leads_to_documents_that_are_not_installed():
    sources = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]
    texts = {path: path.read_text() for path in sources}
    naming = {
        str(path.relative_to(REPOSITORY)): text
        for path, source in texts.items()
        if OF_THE_PROJECT.search(source)
        for text in texts_in(ast.parse(source))
        if OF_THE_PROJECT.search(text)
    }
    assert naming == {}
    assert not OF_THE_PROJECT.search((REPOSITORY / "pipeline" / "mirror.yaml").read_text())


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    sources, wheels = tmp_path / "sources", tmp_path / "wheels"
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, sources)
    subprocess.run(
        [sys.executable, "-c", BUILD, wheels], cwd=sources, env=os.environ, check=True, capture_output=True
    )
    (built,) = wheels.iterdir()
    return built


def test_the_wheel_has_all_files_and_works_from_another_folder(
    wheel: Path, upstream: Upstream, follower: Follower, tmp_path: Path
):
    upstream.add("p", "p.1", [File("a.fits", b"a")])
    installed = tmp_path / "installed"
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


@pytest.mark.long
def test_the_wheel_alone_in_a_new_environment_makes_and_updates_a_mirror(
    wheel: Path, upstream: Upstream, server: Simulator, tmp_path: Path
):
    """Catalog, map of the sky and page too. It needs a package index."""
    upstream.add("p", "p.1", [File("a.fits", b"a")])
    python, folder = tmp_path / "environment" / "bin" / "python", tmp_path / "elsewhere"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True, capture_output=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*arguments: str) -> str:
        command = [python.with_name("ipp-mirror"), *arguments]
        done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("init", server.url, "--root", str(folder / "mirror"))
    assert "1 extracted" in run("update", "--scheduler-port", str(free_port()))
    assert (folder / "mirror" / "store" / "p" / "p.1" / "a.fits").read_bytes() == b"a"
    assert (folder / "mirror" / "status" / "index.html").exists()
    assert "1 sound" in run("verify", "--scheduler-port", str(free_port()))
    run("status")
