"""Folders of filesets that are examined by several threads."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from pipeline.serving.held import StoredFolders


@pytest.fixture
def _frequent_switches() -> Iterator[None]:
    """Switch threads as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@contextmanager
def arriving(product: Path, folders: StoredFolders) -> Iterator[None]:
    """Make filesets and ask for each of them, in another thread, until the block ends."""
    ended = Event()

    def arrive() -> None:
        number = 0
        while not ended.is_set():
            (product / f"new.{number}").mkdir()
            folders.is_complete(f"new.{number}")
            number += 1

    thread = Thread(target=arrive)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.usefixtures("_frequent_switches")
def test_filesets_are_asked_for_while_all_are_listed(tmp_path: Path):
    for number in range(3000):
        (tmp_path / f"{number}").mkdir()
    folders = StoredFolders(tmp_path)
    with arriving(tmp_path, folders):
        for _ in range(5):
            assert folders.complete() == {}
