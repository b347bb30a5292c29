"""Documents of a distribution fileset: dirinfo and dbinfo (protocol notes, "dirinfo", "dbinfo")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.bundle import mdc

SCHEMA_VERSION = "1.1.58"
SCHEMA_UPDATED = datetime(2009, 7, 20, 21, 5, 11, tzinfo=UTC)

Value = str | int | float | bool | datetime | None
Row = list[tuple[str, str, Value]]
"""Columns of one row in the database of the sender: name, type and value, None for NULL."""


@dataclass(frozen=True)
class Table:
    """Rows of one table in the database of the sender."""

    name: str
    rows: Sequence[Row]


def dirinfo(destdir: str, folders: Mapping[str, str]) -> bytes:
    """Return the dirinfo of a fileset: ``destdir``, and the folders of the components below it."""
    scope = mdc.Scope()
    scope.add_scope("destdir").add("destdir", "STR", destdir)
    components = scope.add_scope("components")
    for component, folder in folders.items():
        components.add(component, "STR", folder)
    return mdc.write(scope)


def dbinfo(tables: Sequence[Table]) -> bytes:
    """Return the dbinfo of a run: the version of the schema, then the rows."""
    scope = mdc.Scope()
    version: Row = [("schema_version", "STR", SCHEMA_VERSION), ("updated", "UTC", SCHEMA_UPDATED)]
    for table in [Table("dbversion", [version]), *tables]:
        for row in table.rows:
            block = scope.add_scope(table.name, multi=True)
            for name, kind, value in row:
                block.add(name, kind, value)
    return mdc.write(scope)
