"""Examples in docstrings: what they show is what the code does."""

import doctest
import importlib
import pkgutil

import pytest

import pipeline

PACKAGES = [
    name for _, name, is_package in pkgutil.walk_packages(pipeline.__path__, "pipeline.") if is_package
]
NEED_EXAMPLES = [
    "pipeline.bundle",
    "pipeline.bundle.mdc",
    "pipeline.catalog",
    "pipeline.catalog.coverage.maps",
    "pipeline.catalog.generations",
    "pipeline.catalog.headers.file_kinds",
    "pipeline.catalog.headers.filters",
    "pipeline.catalog.health",
    "pipeline.catalog.pipeline_tables",
    "pipeline.catalog.pointing",
    "pipeline.catalog.sky",
    "pipeline.catalog.unmatched",
    "pipeline.datastore",
    "pipeline.datastore.client",
    "pipeline.datastore.client.fetch_pool",
    "pipeline.datastore.client.ranged",
    "pipeline.datastore.client.retry",
    "pipeline.datastore.server",
    "pipeline.datastore.server.latest_cache",
    "pipeline.datastore.server.tables",
    "pipeline.errors",
    "pipeline.mirror.resources",
    "pipeline.mirror.state",
    "pipeline.mirror.state.arrivals_file",
    "pipeline.names",
    "pipeline.near_names",
    "pipeline.reporting.send",
    "pipeline.sample.simulator",
    "pipeline.terms",
    "pipeline.units",
    "tasks.commands.find",
]


@pytest.mark.parametrize("name", sorted({*PACKAGES, *NEED_EXAMPLES}))
def test_examples(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert failed == 0
    assert attempted or name not in NEED_EXAMPLES
