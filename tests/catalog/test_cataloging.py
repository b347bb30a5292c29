"""Cataloging as a part of updates: the rows follow what the mirror holds."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.catalog import (
    PRODUCT,
    add_chips,
    catalog_of,
    content_of,
    dbinfo,
    documents,
    image_bytes,
    rows,
    url_database,
)
from support.command import ended
from support.databases import mariadb, postgresql
from support.follower import Follower
from support.upstream import File, Upstream

from pipeline.catalog.awaiting import filesets_behind
from pipeline.catalog.database import Database, sqlite_url
from pipeline.catalog.finish import finish
from pipeline.catalog.health import catalog_fault
from pipeline.catalog.reconcile import delete_now_or_later, reconcile
from pipeline.catalog.recorded_state import is_as_recorded
from pipeline.config import read_settings
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import Fileset
from tasks.commands import ipp_mirror

COMMAND = str(Path(sys.executable).with_name("ipp-mirror"))
IMAGES = "SELECT path, kind, ra, band, quality FROM image ORDER BY path, extension"
DATA = "data/gpc1/MD01/o1.1"


@pytest.fixture
def follower(follower: Follower) -> Follower:
    follower.catalog |= {"enabled": True, "coverage": False}
    return follower


@pytest.fixture(scope="module")
def postgresql_url() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(scope="module")
def mariadb_url() -> Iterator[str]:
    with mariadb() as url:
        yield url


def update(follower: Follower, *more: str) -> str:
    result = follower.update(*more)
    assert result.code == 0, result.output
    return result.output


def marker(follower: Follower, name: str) -> dict:
    return json.loads((follower.root / "state" / PRODUCT / "cataloged" / f"{name}.json").read_text())


def rebuilt_content(follower: Follower) -> dict[str, list[tuple]]:
    """The rows after a rebuild from what is on disk."""
    result = ended([COMMAND, "catalog", "rebuild", "--quiet", "--config", str(follower.config)])
    assert (result.code, result.output) == (0, "")
    return content_of(catalog_of(follower.root))


def test_all_that_a_fileset_tells(upstream: Upstream, follower: Follower):
    image = image_bytes(OBJECT="MD01", AIRMASS=1.25)
    files = {"a.ch.fits": image, "a.ch.mk.fits": image_bytes(), "a.cmf": b"no image", "a.log": b"done"}
    document = dbinfo(5, "  later F32 1.5\n  many U64 18446744073709551615\n  odd-name STR kept\n")
    add_chips(upstream, "a.chip.5", 5, files, document=document, exp_name="o1", filter="r.00000")
    upstream.add("stamps", "web_1", [File("s.fits", image_bytes(ra=10.0))], type="PSRESULTS", stage="null")
    update(follower)
    catalog = catalog_of(follower.root)
    assert rows(catalog, IMAGES) == [
        (f"{DATA}/a.ch.fits", "image", pytest.approx(35.9), "r", 7),
        (f"{DATA}/a.ch.mk.fits", "mask", pytest.approx(35.9), "r", 7),
        ("store/stamps/web_1/s.fits", "image", pytest.approx(10.0), "r", None),
    ]
    assert rows(catalog, "SELECT path, kind, base, component FROM member ORDER BY path") == [
        (f"{DATA}/a.ch.fits", "image", f"{DATA}/a", "XY01"),
        (f"{DATA}/a.ch.mk.fits", "mask", f"{DATA}/a", "XY01"),
        (f"{DATA}/a.cmf", "catalog", f"{DATA}/a", "XY01"),
        (f"{DATA}/a.log", "other", f"{DATA}/a", "XY01"),
    ]
    assert rows(catalog, "SELECT chip_id, exp_id, state FROM chip_run") == [(5, 6, "full")]
    local = f"{follower.root}/{DATA}/y"
    found = rows(catalog, "SELECT path_base, later, many, other FROM chip_processed_imfile")
    assert [(*row[:2], float(row[2]), json.loads(row[3])) for row in found] == [
        (local, 1.5, 2.0**64, {"odd-name": "kept"})
    ]
    assert documents(catalog)["dbinfo.a.chip.5.mdc"] == document
    filesets = rows(catalog, "SELECT name, stage, exp_name, content, state FROM fileset ORDER BY name")
    assert filesets == [("a.chip.5", "chip", "o1", "full", "full"), ("web_1", None, None, None, None)]
    time = "SELECT max(cataloged) FROM fileset WHERE name = 'a.chip.5'"
    assert marker(follower, "a.chip.5")["cataloged"].replace("T", " ") == rows(catalog, time)[0][0]


@pytest.fixture(params=["sqlite", "postgresql", pytest.param("mariadb", marks=pytest.mark.long)])
def cataloging(request, follower: Follower) -> Iterator[Follower]:
    """A mirror with a catalog in each kind of database."""
    if request.param == "sqlite":
        yield follower
        return
    follower.catalog["url"] = request.getfixturevalue(f"{request.param}_url")
    yield follower
    database = url_database(str(follower.catalog["url"]))
    database.transact(_drop_all)
    database.close()


def _drop_all(connection) -> None:
    from sqlalchemy import MetaData, inspect

    for view in inspect(connection).get_view_names():
        connection.exec_driver_sql(f"DROP VIEW {view}")
    metadata = MetaData()
    metadata.reflect(connection)
    metadata.drop_all(connection)


def opened(follower: Follower) -> Database:
    url = follower.catalog.get("url")
    return url_database(str(url)) if url else catalog_of(follower.root)


def test_the_rows_follow_the_filesets(cataloging: Follower, upstream: Upstream, server):
    follower = cataloging
    follower.mirror |= {"on_removed": "delete", "delete_at_most": 1.0}
    for number in range(1, 4):
        add_chips(upstream, f"f{number}", number)
    # Takes over a file of f1, whose own other file stays.
    add_chips(upstream, "f4", 4, {"f1.ch.fits": image_bytes(ra=50), "f4.ch.fits": image_bytes(ra=51)})
    update(follower)
    positions = [
        (f"{DATA}/f1.ch.fits", 50),
        (f"{DATA}/f2.ch.fits", 35.9),
        (f"{DATA}/f3.ch.fits", 35.9),
        (f"{DATA}/f4.ch.fits", 51),
    ]
    owners = "SELECT image.path, image.ra, fileset.name FROM image JOIN fileset USING (fileset_id)"
    placed = [(path, pytest.approx(ra), path.split("/")[-1].split(".")[0]) for path, ra in positions]
    placed[0] = (*placed[0][:2], "f4")
    assert sorted((path, float(ra), name) for path, ra, name in rows(opened(follower), owners)) == placed

    # Registered again with other files; withdrawn, and the one that had been replaced is back.
    add_chips(upstream, "f2", 22, {"new.ch.fits": image_bytes(ra=60)})
    upstream.withdraw(PRODUCT, "f3")
    upstream.withdraw(PRODUCT, "f4")
    update(follower)
    update(follower)
    found = sorted((path, float(ra), name) for path, ra, name in rows(opened(follower), owners))
    assert found == [
        (f"{DATA}/f1.ch.fits", pytest.approx(35.9), "f1"),
        (f"{DATA}/new.ch.fits", pytest.approx(60), "f2"),
    ]
    assert sorted(rows(opened(follower), "SELECT chip_id FROM chip_run")) == [(1,), (22,)]
    before = content_of(opened(follower))
    assert {name for name, found in before.items() if found} == {
        *("product", "fileset", "file", "member", "image", "document", "chip_run", "chip_processed_imfile")
    }
    result = ended([COMMAND, "catalog", "rebuild", "--config", str(follower.config)])
    assert result.code == 0, result.output
    assert content_of(opened(follower)) == before
    assert checked(follower) == (0, "0 differences between the catalog and the mirror.\n", "")
    assert catalog_fault(read_settings(follower.config), Layout(follower.root), is_working=False) is None
    assert checked(follower, "--quiet") == (0, "", "")
    assert json.loads(checked(follower, "--json")[1]) == {"schema": 1, "differences": []}
    name = min(follower.marked("cataloged", PRODUCT))
    Layout(follower.root).marker("cataloged", PRODUCT, name).unlink()
    code, output, errors = checked(follower, "--json", "--quiet")
    assert (code, errors) == (30, "1 difference between the catalog and the mirror.\n")
    (difference,) = json.loads(output)["differences"]
    assert difference.pop("text").startswith("not cataloged yet.")
    assert difference == {"product": PRODUCT, "fileset": name, "kind": "missing"}


def checked(follower: Follower, *options: str) -> tuple[int, str, str]:
    """Compare catalog and mirror in this process; return the exit code and both outputs."""
    arguments = ["catalog", "check", "--config", str(follower.config), *options]
    shown = CliRunner().invoke(ipp_mirror, arguments, standalone_mode=False)
    return shown.return_value, shown.stdout, shown.stderr


def test_a_bad_document_fails_its_cataloging_alone(upstream: Upstream, follower: Follower):
    follower.mirror["unpack"] = False
    add_chips(upstream, "bad", 1, document=b"chipRun MULTI\nchipRun METADATA\n  chip_id S64 many\nEND\n")
    add_chips(upstream, "good", 2)
    output = update(follower)
    assert "1 failed in optional steps" in output
    assert f"{PRODUCT}/bad/dbinfo.bad.mdc, line 3" in output
    assert rows(catalog_of(follower.root), "SELECT name FROM fileset") == [("good",)]
    assert follower.marked("downloaded", PRODUCT) == {"bad", "good"}
    assert follower.marked("cataloged", PRODUCT) == {"good"}


def test_a_database_that_was_deleted_restored_or_exchanged(upstream: Upstream, follower: Follower, tmp_path):
    add_chips(upstream, "f1", 1)
    update(follower)
    folder = follower.root / "state" / "catalog"
    earlier = tmp_path / "earlier.sqlite"
    shutil.copy(folder / "000001.sqlite", earlier)
    add_chips(upstream, "f2", 2)
    update(follower)
    whole = content_of(catalog_of(follower.root))

    shutil.copy(earlier, folder / "000001.sqlite")
    update(follower)
    assert content_of(catalog_of(follower.root)) == whole
    shutil.rmtree(folder)
    update(follower)
    assert content_of(catalog_of(follower.root)) == whole
    assert rebuilt_content(follower) == whole


def test_a_run_without_news_leaves_the_database_alone(upstream: Upstream, follower: Follower):
    add_chips(upstream, "f1", 1)
    update(follower)
    file = follower.root / "state" / "catalog" / "000001.sqlite"
    before, seen = file.read_bytes(), marker(follower, "f1")
    code = "import sys, tasks.workflow; from luigi import run; run(); print('sqlalchemy' in sys.modules)"
    options = ["--mirror-config", str(follower.config), "--local-scheduler"]
    loaded = subprocess.run(
        [sys.executable, "-c", code, "UpdateMirror", *options],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert loaded.returncode == 0, loaded.stderr
    assert "True" not in loaded.stdout
    assert (file.read_bytes(), marker(follower, "f1")) == (before, seen)


def test_a_database_that_is_locked(upstream: Upstream, follower: Follower):
    add_chips(upstream, "f1", 1)
    update(follower)
    file = follower.root / "state" / "catalog" / "000001.sqlite"
    with closing(sqlite3.connect(file, isolation_level=None)) as locked:
        locked.execute("PRAGMA locking_mode = EXCLUSIVE")
        locked.execute("BEGIN EXCLUSIVE")
        add_chips(upstream, "f2", 2)
        output = update(follower)
    assert output.count("catalog /") == 1, output
    assert "database is locked. The files of the mirror are not concerned; the next run tries" in output
    assert follower.marked("extracted", PRODUCT) == {"f1", "f2"}
    assert follower.marked("cataloged", PRODUCT) == {"f1"}
    update(follower)
    assert rows(catalog_of(follower.root), "SELECT name FROM fileset ORDER BY name") == [("f1",), ("f2",)]


def test_an_update_replaces_a_damaged_file_and_catalogs_all_again(upstream: Upstream, follower: Follower):
    add_chips(upstream, "f1", 1)
    update(follower)
    whole = content_of(catalog_of(follower.root))
    folder = follower.root / "state" / "catalog"
    (folder / "000001.sqlite").write_bytes(b"no database" * 100)
    output = update(follower)
    said = f"catalog {folder}/000001.sqlite: file is not a database. A new one is made, and all filesets are"
    assert said in output
    assert output.count("catalog /") == 1, output
    assert content_of(catalog_of(follower.root)) == whole
    assert [path.name for path in folder.glob("*.sqlite")] == ["000002.sqlite"]
    assert is_as_recorded(read_settings(follower.config), Layout(follower.root))


def test_a_role_that_may_only_read(upstream: Upstream, follower: Follower, postgresql_url: str):
    follower.catalog["url"] = postgresql_url
    add_chips(upstream, "f1", 1)
    update(follower)
    owner = url_database(postgresql_url)
    for sql in ("CREATE ROLE reader LOGIN", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"):
        owner.transact(lambda connection, sql=sql: connection.exec_driver_sql(sql))
    follower.catalog["url"] = owner.url.set(drivername="postgresql", username="reader").render_as_string()
    for number in (2, 3):
        add_chips(upstream, f"f{number}", number, component=f"XY0{number}")
    output = update(follower)
    assert output.count("catalog postgresql") == 1, output
    assert "permission denied" in output
    assert "The files of the mirror are not concerned" in output
    assert follower.marked("extracted", PRODUCT) == {"f1", "f2", "f3"}
    assert follower.marked("cataloged", PRODUCT) == {"f1"}
    follower.catalog["url"] = postgresql_url
    update(follower)
    names = rows(url_database(postgresql_url), "SELECT name FROM fileset ORDER BY name")
    for sql in ("DROP OWNED BY reader", "DROP ROLE reader"):
        owner.transact(lambda connection, sql=sql: connection.exec_driver_sql(sql))
    owner.transact(_drop_all)
    owner.close()
    assert names == [("f1",), ("f2",), ("f3",)]


def test_a_catalog_for_a_mirror_that_was_filled_without(upstream: Upstream, follower: Follower):
    follower.catalog["enabled"] = False
    add_chips(upstream, "f1", 1)
    update(follower)
    assert not (follower.root / "state" / "catalog").exists()
    follower.catalog["enabled"] = True
    update(follower)
    assert rows(catalog_of(follower.root), "SELECT name FROM fileset") == [("f1",)]


def test_positions_of_images_without_their_own(upstream: Upstream, follower: Follower):
    bare = {"CTYPE1": "", "CTYPE2": ""}
    raw = b"rawExp MULTI\nrawExp METADATA\n  exp_name STR o1\n  ra F64 -0.017453\n  decl F64 1.3962634\nEND\n"
    add_chips(upstream, "f1", 1, {"f1.ch.fits": image_bytes(**bare)}, exp_name="o1")
    update(follower)
    place = "SELECT round(ra, 3), round(dec, 3), radius, pos_source FROM image"
    assert rows(catalog_of(follower.root), place) == [(None, None, None, None)]
    # The exposure's own row comes later, and goes.
    add_chips(upstream, "f0", 0, {}, document=raw, exp_name="o1")
    update(follower)
    assert rows(catalog_of(follower.root), place) == [(359.0, 80.0, 1.65, "raw_exp")]
    assert rebuilt_content(follower) == content_of(catalog_of(follower.root))


def test_a_sky_cell_comes_before_an_exposure(upstream: Upstream, follower: Follower):
    bare = {"CTYPE1": "", "CTYPE2": ""}
    raw = b"rawExp MULTI\nrawExp METADATA\n  exp_name STR o1\n  ra F64 -1.0\n  decl F64 80\nEND\n"
    sky = "skycell.1.2"
    warp = {"component": sky, "document": raw, "exp_name": "o1"}
    add_chips(upstream, "f1", 1, {f"a.{sky}.fits": image_bytes(**bare)}, **warp)
    update(follower)
    source = "SELECT pos_source FROM image ORDER BY path"
    assert rows(catalog_of(follower.root), source) == [("raw_exp",)]
    add_chips(upstream, "f2", 2, {f"b.{sky}.fits": image_bytes()}, component=sky)
    update(follower)
    assert rows(catalog_of(follower.root), source) == [("skycell",), ("header",)]
    assert rebuilt_content(follower) == content_of(catalog_of(follower.root))


def test_bundles_with_files_that_other_files_replace(upstream: Upstream, follower: Follower):
    """The later of two filesets with equal bytes at one path has the row, until it brings them no more."""
    same = {"same.ch.fits": image_bytes()}
    add_chips(upstream, "f1", 1, same)
    add_chips(upstream, "f2", 2, same)
    update(follower)
    owner = "SELECT path, fileset.name FROM image JOIN fileset USING (fileset_id)"
    assert rows(catalog_of(follower.root), owner) == [(f"{DATA}/same.ch.fits", "f2")]
    add_chips(upstream, "f2", 2, {"other.ch.fits": image_bytes()})
    update(follower)
    update(follower)
    found = rows(catalog_of(follower.root), owner)
    assert sorted(found) == [(f"{DATA}/other.ch.fits", "f2"), (f"{DATA}/same.ch.fits", "f1")]
    assert rebuilt_content(follower) == content_of(catalog_of(follower.root))


def test_unpacking_that_begins_later(upstream: Upstream, follower: Follower):
    follower.mirror["unpack"] = False
    add_chips(upstream, "f1", 1)
    update(follower)
    assert rows(catalog_of(follower.root), IMAGES) == []
    follower.mirror["unpack"] = True
    update(follower)
    update(follower)
    assert [row[0] for row in rows(catalog_of(follower.root), IMAGES)] == [f"{DATA}/f1.ch.fits"]


def test_filesets_deleted_by_runs_without_the_catalog(upstream: Upstream, follower: Follower):
    follower.mirror |= {"on_removed": "delete", "delete_at_most": 1.0}
    for number in range(1, 4):
        add_chips(upstream, f"f{number}", number)
    update(follower)
    upstream.withdraw(PRODUCT, "f2")
    follower.catalog["enabled"] = False
    update(follower)
    follower.catalog["enabled"] = True
    update(follower)
    assert rows(catalog_of(follower.root), "SELECT name FROM fileset ORDER BY name") == [("f1",), ("f3",)]


def test_a_deletion_that_the_database_refuses(upstream: Upstream, follower: Follower):
    """The end of the same run does not record the database as complete."""
    add_chips(upstream, "f1", 1)
    update(follower)
    settings, layout = read_settings(follower.config), Layout(follower.root)
    file = follower.root / "state" / "catalog" / "000001.sqlite"
    kept = file.read_bytes()
    file.write_bytes(b"no database" * 100)
    delete_now_or_later(settings, layout, Fileset(PRODUCT, "f1", ""))
    file.write_bytes(kept)
    finish(settings, layout)
    assert not is_as_recorded(settings, layout)
    reconcile(settings, layout)
    finish(settings, layout)
    assert is_as_recorded(settings, layout)


def test_a_verification_without_a_usable_database(upstream: Upstream, follower: Follower):
    add_chips(upstream, "f1", 1)
    update(follower)
    (follower.root / "state" / "catalog" / "000001.sqlite").write_bytes(b"no database" * 100)
    result = ended([COMMAND, "verify", "--config", str(follower.config)])
    assert result.output.count("catalog /") == 1, result.output
    assert "1 fileset verified, 0 with problems" in result.output


def test_a_repair_catalogs_what_it_fetches_again(upstream: Upstream, follower: Follower):
    add_chips(upstream, "f1", 1)
    update(follower)
    next((follower.root / "store").rglob("*.tgz")).write_bytes(b"damaged")
    result = ended([COMMAND, "verify", "--repair", "--config", str(follower.config)])
    assert result.code == 0, result.output
    assert "1 repaired, 0 with problems" in result.output
    assert "not cataloged yet" not in result.output
    layout = Layout(follower.root)
    assert filesets_behind(layout, read_settings(follower.config)) == 0


def test_what_is_unpacked_again_is_cataloged_in_the_same_run(upstream: Upstream, follower: Follower):
    """Also where it is selected no more, and its extraction was set aside."""
    for number in (1, 2):
        add_chips(upstream, f"f{number}", number)
    update(follower)
    state = follower.root / "state" / PRODUCT
    before = [marker(follower, f"f{number}") for number in (1, 2)]
    shutil.copytree(state / "extracted", state / "superseded")
    shutil.rmtree(state / "extracted")
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"filesetID": "f1"}}]
    assert "2 selected: 2 extracted" in update(follower)
    after = [marker(follower, f"f{number}") for number in (1, 2)]
    assert all(new["cataloged"] > old["cataloged"] for old, new in zip(before, after, strict=True))
    assert not list((state / "superseded").glob("*.json"))
    assert "none new" in update(follower)


def test_a_fileset_that_is_fetched_again_after_a_comparison(upstream: Upstream, follower: Follower):
    follower.mirror["unpack"] = False
    add_chips(upstream, "f1", 1)
    update(follower)
    state = follower.root / "state"
    (state / PRODUCT / "downloaded" / "f1.json").unlink()
    (state / "catalog" / "seen.json").unlink()
    update(follower)
    update(follower)
    assert rows(catalog_of(follower.root), "SELECT name FROM fileset") == [("f1",)]


def test_the_catalog_of_another_mirror_is_left_alone(upstream: Upstream, follower: Follower, tmp_path):
    file = tmp_path / "shared.sqlite"
    follower.catalog["url"] = f"sqlite:///{file}"
    add_chips(upstream, "f1", 1)
    update(follower)
    (tmp_path / "other").mkdir()
    other = Follower(tmp_path / "other", follower.url, catalog=follower.catalog, served=upstream.folder)
    before = content_of(Database(sqlite_url(file)))
    output = update(other)
    assert "expected the catalog of mirror" in output
    assert other.marked("extracted", PRODUCT) == {"f1"}
    assert other.marked("cataloged", PRODUCT) == set()
    assert content_of(Database(sqlite_url(file))) == before


def test_a_clock_that_was_ahead(upstream: Upstream, follower: Follower):
    add_chips(upstream, "f1", 1)
    update(follower)
    file = follower.root / "state" / "catalog" / "000001.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE fileset SET cataloged = '2040-01-01 00:00:00.000000'")
    connection.close()
    add_chips(upstream, "f2", 2)
    update(follower)
    add_chips(upstream, "f3", 3)
    update(follower)
    snapshot = Database(sqlite_url(follower.root / "status" / "catalog.sqlite"), read_only=True)
    assert content_of(snapshot) == content_of(catalog_of(follower.root))
    assert rows(snapshot, "SELECT count(*) FROM fileset") == [(3,)]
