"""docs/catalog-tables.md: every table and view, with a sentence for every column, and no other."""

import re
from pathlib import Path

import pytest
from sqlalchemy import select

from pipeline.catalog.opening import create_file
from pipeline.catalog.tables import metadata, pipeline_column
from pipeline.catalog.view_columns import VIEWS
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


@pytest.mark.parametrize("view", VIEWS)
def test_views(view):
    described = [(name.strip("`"), unit, text) for name, unit, text in rows_below(view)]
    assert described == [(column.name, column.unit, column.description) for column in VIEWS[view]]


@pytest.mark.parametrize("table", metadata.tables)
def test_tables_of_the_mirror(table):
    rows = rows_below(table)
    assert [name.strip("`") for name, _ in rows] == [column.name for column in metadata.tables[table].columns]
    assert all(text for _, text in rows)


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
