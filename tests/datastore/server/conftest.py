"""Servers of a module's tree: one for all tests that leave the tree as it is, one for each that changes it.

A module that uses them has the fixtures ``unchanged_store`` and ``store``, the folders that are served.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.wire import serve_folder

from pipeline.datastore.server import RunningServer


@pytest.fixture(scope="module")
def server(unchanged_store: Path) -> Iterator[RunningServer]:
    with serve_folder(unchanged_store) as running:
        yield running


@pytest.fixture
def changing_server(store: Path) -> Iterator[RunningServer]:
    with serve_folder(store) as running:
        yield running
