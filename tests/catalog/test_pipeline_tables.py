"""Any document can be cataloged: a value is in its column or in ``other``, nan is null, the text is kept."""

import json
import math
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from support.databases import mariadb, postgresql
from support.mdc_documents import names, scalars, texts

from pipeline.bundle import mdc
from pipeline.catalog.database import Database, database_url, sqlite_url
from pipeline.catalog.fileset_rows import replace_fileset
from pipeline.catalog.gather import Document, Gathered
from pipeline.catalog.pipeline_tables import PipelineTables, add_columns, rows_of, snake_case
from pipeline.catalog.schema import create_schema
from pipeline.catalog.tables import document
from pipeline.mirror.state.markers import Fileset

FILESET, NOW = Fileset("P", "F", "2009-07-29T00:00:00Z"), datetime(2009, 8, 1)
OWN = {"row_id", "fileset_id", "row_number", "other"}
columns = (
    st.sampled_from(["chip_id", "exp_id", "state", "later", "select", "xmin", "Later", *sorted(OWN)]) | names
)
tables = st.sampled_from(["chipRun", "rawExp", "warpSkyfile", "unknownTable"])


@st.composite
def dbinfos(draw) -> mdc.Scope:
    written = mdc.Scope()
    for table in draw(st.lists(tables, max_size=4)):
        row = written.add_scope(table, multi=True)
        for name in draw(st.lists(columns, max_size=6)):
            kind = draw(st.sampled_from([*scalars]))
            value = draw(texts if kind == "STR" else scalars[kind] | st.none())
            if draw(st.integers(0, 5)) == 0:
                value = draw(st.lists(scalars[kind], max_size=3))
            row.add(name, kind, value, multi=name in row or draw(st.booleans()))
    return written


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def database(request, tmp_path_factory) -> Iterator[Database]:
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("catalog") / "catalog.sqlite"
        path.touch()
        yield from _with_tables(Database(sqlite_url(path), durable=False))
        return
    with (postgresql if request.param == "postgresql" else mariadb)() as url:
        yield from _with_tables(Database(database_url(url)))


def _with_tables(database: Database) -> Iterator[Database]:
    create_schema(database, {"id": "1"})
    yield database
    database.close()


def cataloged(database: Database, text: bytes) -> tuple[dict[str, list[dict]], bytes]:
    """The rows that the database returns of the tables of a document, and its text."""
    found = rows_of(mdc.read(text, "document"))
    tables = database.transact(PipelineTables)
    if missing := tables.missing_columns(found, database.engine.dialect.name):
        database.transact(lambda connection: add_columns(connection, missing))
        tables = database.transact(PipelineTables)

    gathered = Gathered(FILESET, NOW, [], [], [Document("document", "dbinfo", text)], found)

    def load(connection) -> tuple[dict[str, list[dict]], bytes]:
        replace_fileset(connection, tables, gathered, {}, NOW)
        returned = {}
        for rows in found:
            table = tables.named(snake_case(rows.table))
            query = select(table).order_by(table.c.row_number)
            returned[rows.table] = [dict(row._mapping) for row in connection.execute(query)]
        return returned, zlib.decompress(connection.execute(select(document.c.text)).scalar_one())

    return database.transact(load)


def kept(value: object) -> object:
    """A value as the JSON of ``other`` has it."""
    if isinstance(value, tuple):
        return [kept(each) for each in value]
    return value if value is None or isinstance(value, str | bool | int) else str(value)


def is_same(column: object, entry: mdc.Entry) -> bool:
    """True if a column holds the value: nan as null, an instant as UTC without a zone."""
    value = entry.value
    if isinstance(value, datetime) and isinstance(column, datetime):
        ahead = timedelta(seconds=70 if entry.type in {"TAI", "TT"} else 0)
        written = value.replace(tzinfo=None)
        return written - ahead <= column <= written
    if isinstance(value, float) and math.isnan(value):
        return column is None
    if isinstance(value, int) and not isinstance(value, bool) and not isinstance(column, int):
        # SQLite and columns of floats hold 53 bits of it.
        return isinstance(column, float | Decimal) and float(column) == float(value)
    return column == value


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(written=dbinfos())
def test_every_value_of_every_document(database, written):
    text = mdc.write(written)
    read = mdc.read(text, "document")
    returned, kept_text = cataloged(database, text)
    assert kept_text == text
    assert returned.keys() == {entry.name for entry in read.entries if entry.name != "unknownTable"}
    for table, records in returned.items():
        for record, row in zip(records, read.all(table), strict=True):
            other = json.loads(record["other"] or "{}")
            for entry in row.entries:
                in_column = entry.name not in OWN and entry.name in record
                in_other = other.get(entry.name)
                assert (
                    (in_column and is_same(record[entry.name], entry))
                    or (entry.name in other and in_other == kept(entry.value))
                    or (isinstance(in_other, list) and kept(entry.value) in in_other)
                ), (entry, record)


@pytest.mark.parametrize(
    ("value", "utc"),
    [
        ("UTC 2009-07-29T12:40:00.5Z", datetime(2009, 7, 29, 12, 40, 0, 500_000)),
        ("UT1 2009-07-29T12:40:00.5Z", datetime(2009, 7, 29, 12, 40, 0, 500_000)),
        ("TAI 2009-07-29T12:40:34.5Z", datetime(2009, 7, 29, 12, 40, 0, 500_000)),
        ("TT 2009-07-29T12:41:06.684001Z", datetime(2009, 7, 29, 12, 40, 0, 500_001)),
        ("TAI 2017-01-01T00:00:37Z", datetime(2017, 1, 1)),
    ],
)
def test_times_of_all_scales_are_kept_in_utc(database, value, utc):
    document = f"rawExp METADATA\n  dateobs {value}\nEND\n".encode()
    [row] = cataloged(database, document)[0]["rawExp"]
    assert row["dateobs"] == utc


def test_a_table_gets_no_more_than_so_many_columns(database):
    written = mdc.Scope()
    row = written.add_scope("fakeRun", multi=True)
    for number in range(700):
        row.add(f"c{number}", "S32", number)
    [record] = cataloged(database, mdc.write(written))[0]["fakeRun"]
    most = {"sqlite": 500, "postgresql": 250, "mysql": 150}[database.engine.dialect.name]
    assert len(record) == most + len(OWN)
    other = json.loads(record["other"])
    assert {**record, **other}["c699"] == 699
    assert len(other) + sum(record[name] is not None for name in record if name.startswith("c")) == 700


@pytest.mark.parametrize(
    ("name", "sql"), [("rawExp", "raw_exp"), ("warpSkyCellMap", "warp_sky_cell_map"), ("camRun", "cam_run")]
)
def test_names_of_tables(name, sql):
    assert snake_case(name) == sql


def test_the_path_of_a_database_may_have_any_characters(tmp_path: Path):
    path = tmp_path / "a?b#c %41.sqlite"
    path.touch()
    database = Database(sqlite_url(path))
    create_schema(database, {"id": "1"})
    assert database.setting("id") == "1"
    database.close()
    assert {each.name for each in tmp_path.iterdir()} == {path.name}
