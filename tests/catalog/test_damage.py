"""Damaged SQLite files: in the folder of the catalog, and named by the settings."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.catalog import PRODUCT, add_chips, content_of, url_database
from support.command import ipp_mirror
from support.follower import Follower
from support.upstream import Upstream

from pipeline.catalog.damage import damage_in
from pipeline.catalog.generations import current_file, file_of, set_damaged_aside
from pipeline.catalog.opening import current_database
from pipeline.catalog.reconcile import reconcile, warn_of_loss
from pipeline.catalog.recorded_state import is_as_recorded
from pipeline.config import Catalog, Settings
from pipeline.errors import MachineFault
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker

PAGE = 4096
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "other content": lambda content: b"no database" * len(content),
    "cut": lambda content: content[: len(content) // 2],
    "pages lost": lambda content: content[: 2 * PAGE] + b"\xff" * (len(content) - 2 * PAGE),
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "state").mkdir()
    return Layout(tmp_path)


def settings_of(layout: Layout, url: str | None = None) -> Settings:
    return Settings(
        source={"url": "http://127.0.0.1:1/ds"},
        mirror={"root": str(layout.root)},
        catalog=Catalog(enabled=True, url=url),
    )


@pytest.mark.parametrize("damage", [*DAMAGES, "empty"])
def test_of_a_damaged_file_all_filesets_are_to_be_cataloged_again(damage, layout: Layout):
    settings = settings_of(layout)
    reconcile(settings, layout)
    with closing(current_database(settings, layout)) as database:
        identity = database.setting("id")
    file = current_file(layout)
    for name in ("f1", "f2"):
        write_marker(layout.marker(MarkerKind.DOWNLOADED, "P", name), {})
        write_marker(layout.marker(MarkerKind.CATALOGED, "P", name), {"database": identity, "generation": 1})
    file.write_bytes(DAMAGES.get(damage, lambda _: b"")(file.read_bytes()))
    assert not is_as_recorded(settings, layout)
    reconcile(settings, layout)
    assert layout.names(MarkerKind.CATALOGED, "P") == set()
    with closing(current_database(settings, layout)) as database:
        assert database.setting("id") not in (identity, None)
    assert damage_in(current_file(layout)) is None


@pytest.mark.parametrize("named", [True, False], ids=["named", "own"])
@pytest.mark.parametrize("found", ["no file", "an empty file"])
def test_of_a_catalog_that_is_lost_one_line_is_said(found, named, layout: Layout, caplog):
    settings = settings_of(layout, f"sqlite:///{layout.root}/c.sqlite" if named else None)
    warn_of_loss(settings, layout)
    reconcile(settings, layout)
    write_marker(layout.marker(MarkerKind.CATALOGED, "P", "f1"), {})
    warn_of_loss(settings, layout)
    assert caplog.messages == []
    file = file_of(settings, layout)
    if found == "no file":
        file.unlink()
    else:
        file.write_bytes(b"")
    warn_of_loss(settings, layout)
    assert caplog.messages == [
        f"catalog {file}: expected the rows of filesets that were cataloged, found {found}. A new one is "
        "made, and all filesets are cataloged again."
    ]


def test_a_damaged_file_that_the_settings_name_is_left_alone_by_an_update(layout: Layout):
    file = layout.root / "c.sqlite"
    settings = settings_of(layout, f"sqlite:///{file}")
    reconcile(settings, layout)
    content = DAMAGES["pages lost"](file.read_bytes())
    file.write_bytes(content)
    with pytest.raises(MachineFault, match="make the catalog anew with: ipp-mirror catalog rebuild"):
        reconcile(settings, layout)
    assert file.read_bytes() == content
    assert current_file(layout) is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_set_aside_with_its_log(damage, layout: Layout):
    file = layout.root / "c.sqlite"
    with closing(sqlite3.connect(file)) as made:
        made.executescript("CREATE TABLE t (x); CREATE TABLE u (x); CREATE TABLE v (x);")
    set_damaged_aside(file)
    assert file.exists()
    content = DAMAGES[damage](file.read_bytes())
    file.write_bytes(content)
    log = layout.root / "c.sqlite-wal"
    log.write_bytes(b"log")
    earlier = {"c.sqlite.damaged": b"somebody's file", "c.sqlite.damaged.2-wal": b"an earlier log"}
    for name, kept in earlier.items():
        (layout.root / name).write_bytes(kept)
    set_damaged_aside(file)
    # SQLite makes the index of the log when it looks.
    files = (path for path in layout.root.iterdir() if path.is_file())
    left = {path.name: path.read_bytes() for path in files if not path.name.endswith("-shm")}
    aside = {"c.sqlite.damaged.3": content, "c.sqlite.damaged.3-wal": b"log"}
    assert left == earlier | aside


def test_a_file_that_is_locked_is_not_damaged(layout: Layout):
    settings = settings_of(layout)
    reconcile(settings, layout)
    file = current_file(layout)
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert damage_in(file) is None
    assert damage_in(layout.root / "none.sqlite") is None


def test_a_rebuild_replaces_a_damaged_file_that_the_settings_name(upstream: Upstream, follower: Follower):
    file = follower.folder / "c.sqlite"
    follower.catalog |= {"enabled": True, "url": f"sqlite:///{file}"}
    add_chips(upstream, "f1", 1)
    assert follower.update().code == 0
    before = content_of(url_database(f"sqlite:///{file}"))
    damaged = b"no database" * 1000
    file.write_bytes(damaged)
    done = ipp_mirror("catalog", "rebuild", "--config", follower.config)
    aside = f"{file}.damaged"
    said = f"catalog {file}: file is not a database. It is kept as {aside}, and a new one is made.\n"
    assert (done.returncode, done.stderr) == (0, said)
    assert Path(aside).read_bytes() == damaged
    assert content_of(url_database(f"sqlite:///{file}")) == before
    assert follower.marked("cataloged", PRODUCT) == {"f1"}
