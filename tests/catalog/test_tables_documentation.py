"""docs/catalog-tables.md: every table and view, with a sentence for every column, and no other."""

import re
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, select
from support.catalog_rows import add_fileset, add_image, add_product, make_catalog

from pipeline.bundle.dbinfo import RUN_TABLES
from pipeline.catalog.columns import COLUMNS
from pipeline.catalog.database import Database, sqlite_url
from pipeline.catalog.generations import current_file
from pipeline.catalog.opening import create_file
from pipeline.catalog.tables import metadata, pipeline_column
from pipeline.catalog.view_columns import EXPOSURE, OBSCORE
from pipeline.mirror.state.layout import Layout

PAGE = Path(__file__).resolve().parents[2] / "docs" / "catalog-tables.md"


def rows_below(heading: str) -> list[list[str]]:
    """Return the rows of the tables in a section, their cells without backquotes."""
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", PAGE.read_text(), re.M | re.S)
    assert section, heading
    lines = [line for line in section[1].splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def named(cells: str) -> list[str]:
    return re.findall(r"`(\w+)`", cells)


@pytest.mark.parametrize(("view", "columns"), [("exposure", EXPOSURE), ("obscore", OBSCORE)])
def test_views(view, columns):
    described = [(name.strip("`"), unit, text) for name, unit, text in rows_below(view)]
    assert described == [(column.name, column.unit, column.description) for column in columns]


@pytest.mark.parametrize("table", metadata.tables)
def test_tables_of_the_mirror(table):
    rows = rows_below(table)
    assert [name.strip("`") for name, _ in rows] == [column.name for column in metadata.tables[table].columns]
    assert all(text for _, text in rows)


def test_calibration_levels(tmp_path):
    (sentence,) = re.findall(r"^\* `calib_level` is (.*)", PAGE.read_text(), re.M)
    levels = {}
    for part in sentence.split("; "):
        levels |= dict.fromkeys(named(part), int(part[0]))
    layout = Layout(tmp_path)
    make_catalog(layout)
    with closing(Database(sqlite_url(current_file(layout)))) as database:
        database.transact(partial(add_stages, stages=[*levels, "other"]))
        with database.reading() as connection:
            query = "SELECT dataproduct_subtype, calib_level FROM obscore WHERE obs_collection = 'levels'"
            found = dict(connection.exec_driver_sql(query).all())
    assert found == levels | {"other": 1}
    assert {*levels} == {tables.stage for tables in RUN_TABLES} | {"SSdiff", "stack_summary"}


def add_stages(connection: Connection, stages: list[str]) -> None:
    """Add an image of each stage."""
    product = add_product(connection, "levels")
    for stage in stages:
        fileset = add_fileset(connection, product, stage, stage=stage)
        add_image(connection, fileset, f"data/{stage}.fits", 1.0, 2.0, stage=stage)


def test_columns_of_find():
    page = PAGE.with_name("catalog.md").read_text()
    (sentence,) = re.findall(r"`--columns` chooses among (.*?); `--count`", page, re.S)
    assert {*named(sentence)} == {"image", *COLUMNS} - {*metadata.tables["image"].columns.keys()}


def test_tables_of_the_pipeline(tmp_path):
    database = create_file(Layout(tmp_path), tmp_path / "000001.sqlite")
    with database.reading() as connection:
        found = connection.execute(select(pipeline_column.c.table_name, pipeline_column.c.column_name)).all()
    database.close()
    tables, columns = [], {}
    for row in rows_below("Tables of the pipeline"):
        if len(row) == 3:
            tables += [(row[0].strip("`"), column) for column in named(row[2])]
        else:
            columns[row[0].strip("`")] = row[1]
    assert sorted(tables) == sorted(map(tuple, found))
    assert columns.keys() == {column for _, column in found}
    assert all(columns.values())
