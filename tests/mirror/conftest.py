"""Fixture: the layout of a mirror of many filesets, made once and copied for each test."""

import shutil
from pathlib import Path

import pytest
from support.many_filesets import complete_mirror

from pipeline.mirror.state.layout import Layout


@pytest.fixture(scope="session")
def many_filesets(tmp_path_factory) -> Path:
    return complete_mirror(tmp_path_factory.mktemp("many_filesets")).root


@pytest.fixture
def layout(many_filesets: Path, tmp_path: Path) -> Layout:
    """A mirror with ``KNOWN`` filesets that are complete."""
    shutil.copytree(many_filesets, tmp_path, dirs_exist_ok=True)
    return Layout(tmp_path)
