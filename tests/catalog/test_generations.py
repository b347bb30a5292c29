"""SQLite file of a catalog: the one that the settings name, or the current generation."""

from contextlib import closing
from pathlib import Path

import pytest

from pipeline.catalog.catalog import catalog_of, current_reader
from pipeline.catalog.generations import current_file, file_of
from pipeline.catalog.health import catalog_fault
from pipeline.catalog.opening import current_database, required_database
from pipeline.catalog.reconcile import reconcile
from pipeline.config import Catalog, Settings
from pipeline.errors import SettingsError
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "state").mkdir()
    return Layout(tmp_path)


def settings_of(layout: Layout, url: str | None) -> Settings:
    source, mirror = {"url": "http://127.0.0.1:1/ds"}, {"root": str(layout.root)}
    return Settings(source=source, mirror=mirror, catalog=Catalog(enabled=True, url=url))


@pytest.mark.parametrize("parameters", ["", "?timeout=5"])
@pytest.mark.parametrize("name", [None, "c.sqlite", "a b%20.db"])
def test_updates_queries_and_status_use_one_file(layout: Layout, name, parameters):
    settings = settings_of(layout, f"sqlite:///{layout.root}/{name}{parameters}" if name else None)
    assert current_reader(layout, settings) is None
    assert current_database(settings, layout) is None
    reconcile(settings, layout)
    file = file_of(settings, layout)
    assert file == (layout.root / name if name else current_file(layout))
    with closing(required_database(settings, layout)) as database:
        assert str(database) == str(file)
    with catalog_of(layout, settings) as catalog:
        assert list(catalog.answer("SELECT count(*) FROM fileset")[1]) == [(0,)]
    write_marker(layout.marker(MarkerKind.CATALOGED, "P", "f1"), {})
    assert catalog_fault(settings, layout, is_working=False) is None
    file.unlink()
    assert f"catalog {file}: the file is gone" in str(catalog_fault(settings, layout, is_working=False))


def test_the_message_names_the_file_without_the_parameters(layout: Layout):
    settings = settings_of(layout, f"sqlite:///{layout.root}/c.sqlite?timeout=5")
    with pytest.raises(SettingsError, match=f"found no {layout.root}/c.sqlite. The next update"):
        catalog_of(layout, settings)


def test_a_server_has_no_file(layout: Layout):
    assert file_of(settings_of(layout, "postgresql://u@127.0.0.1/d"), layout) is None
