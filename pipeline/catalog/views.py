"""Views of the catalog, made anew when their text changes, and the settings that they read."""

import hashlib
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Dialect, Select, delete, insert, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import DDLElement

from pipeline.catalog.exposure import exposure
from pipeline.catalog.obscore import obscore
from pipeline.catalog.tables import catalog_setting
from pipeline.config import Settings
from pipeline.mirror.state.layout import Layout

_QUERIES = {"exposure": exposure, "obscore": obscore}
# Setting with the digest of the views that the database has.
_DIGEST = "views"


class _CreateView(DDLElement):
    """Statement that makes a view of a query."""

    def __init__(self, name: str, query: Select[Any]) -> None:
        self.name = name
        self.query = query


@compiles(_CreateView)
def _create_view(element: _CreateView, compiler: Any, **_: Any) -> str:
    query = compiler.sql_compiler.process(element.query, literal_binds=True)
    return f"CREATE VIEW {element.name} AS {query}"


def create_views(connection: Connection) -> None:
    """Make the views that the database lacks, or has with another text."""
    statements = _statements(connection.dialect)
    digest = hashlib.sha256("\n".join(statements.values()).encode()).hexdigest()
    if _settings(connection).get(_DIGEST) == digest:
        return
    for name, statement in statements.items():
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
        connection.exec_driver_sql(statement)
    _write(connection, {_DIGEST: digest})


@lru_cache(maxsize=1)
def _statements(dialect: Dialect) -> dict[str, str]:
    """Return the statement that makes each view, by its name."""
    return {
        name: str(_CreateView(name, query()).compile(dialect=dialect)) for name, query in _QUERIES.items()
    }


def renew_settings(connection: Connection, settings: Settings, layout: Layout) -> None:
    """Write the settings that the views put before paths and names, where they have changed.

    ``access_url`` is that of the settings, or a ``file://`` URL of the root.
    """
    address = settings.catalog.access_url or f"file://{quote(str(layout.root))}"
    wanted = {
        "root": str(layout.root),
        "access_url": address.rstrip("/"),
        "publisher_did": settings.catalog.publisher_did,
    }
    known = _settings(connection)
    changed = {name: value for name, value in wanted.items() if known.get(name) != value}
    if changed:
        _write(connection, changed)


def _settings(connection: Connection) -> dict[str, str]:
    return dict(connection.execute(select(catalog_setting.c.name, catalog_setting.c.value)).all())


def _write(connection: Connection, values: dict[str, str]) -> None:
    connection.execute(delete(catalog_setting).where(catalog_setting.c.name.in_(values)))
    connection.execute(
        insert(catalog_setting), [{"name": name, "value": value} for name, value in values.items()]
    )
