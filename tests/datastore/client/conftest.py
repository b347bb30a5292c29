"""One server for all tests of a module: each finds it without faults and with nothing asked so far."""

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.sample.simulator import Simulator, simulate


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory) -> Path:
    """The folder that is served: a fileset with an empty listing, unless the module has its own folder."""
    folder = tmp_path_factory.mktemp("served") / "store"
    (folder / "p" / "f").mkdir(parents=True)
    (folder / "p" / "f" / "index.txt").write_text("# fileID|bytes|md5sum|type|\n")
    return folder


@pytest.fixture(scope="module")
def running(store_folder: Path) -> Iterator[Simulator]:
    with simulate(store_folder) as running:
        yield running


@pytest.fixture
def server(running: Simulator) -> Iterator[Simulator]:
    running.clear()
    yield running
    running.faults.clear()


@pytest.fixture
def unconnected(running: Simulator) -> None:
    """Nobody is connected yet: an error that a test has seen may hold the connection that it came from."""
    gc.collect()
    while running.open_connections:
        threading.Event().wait(0.001)
