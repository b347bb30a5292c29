"""Creation of the tables, and migration of our own ones by Alembic.

Alembic takes as long to import as SQLAlchemy: only a database of an earlier revision needs it.
"""

import importlib.resources
from collections.abc import Mapping

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
    select,
)

from pipeline.catalog.database import Database
from pipeline.catalog.pipeline_tables import create_pipeline_tables
from pipeline.catalog.tables import catalog_setting, metadata
from pipeline.catalog.views import create_views
from pipeline.errors import SettingsError

# Newest revision in ``migrations/versions``.
HEAD = "0001"
# Alembic's own table.
_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def create_schema(database: Database, settings: Mapping[str, str]) -> None:
    """Create all tables, and write the settings: those that are there stay. Raises MachineFault."""
    if database.is_file:
        with database.faults(), database.engine.connect() as connection:
            # Readers go on while one process writes; the mode is kept in the file.
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            connection.exec_driver_sql("BEGIN")
    if database.transact(revision_of) not in (None, HEAD):
        upgrade(database)

    def fill(connection: Connection) -> None:
        if revision_of(connection) is None:
            _create_tables(connection)
        if connection.execute(select(catalog_setting).limit(1)).first():
            return
        create_pipeline_tables(connection)
        create_views(connection)
        connection.execute(
            insert(catalog_setting), [{"name": name, "value": value} for name, value in settings.items()]
        )

    database.transact(fill)


def _create_tables(connection: Connection) -> None:
    """Create our own tables as all revisions together make them, and record the newest one."""
    metadata.create_all(connection)
    _version.create(connection, checkfirst=True)
    connection.execute(insert(_version), {"version_num": HEAD})


def upgrade(database: Database) -> None:
    """Bring our own tables to the newest revision. Raises MachineFault."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option(
        "script_location", str(importlib.resources.files("pipeline.catalog") / "migrations")
    )

    def run(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    database.transact(run)


def revision_of(connection: Connection) -> str | None:
    """Return the revision of our own tables; None in a database that has none."""
    if not inspect(connection).has_table(_version.name):
        return None
    return connection.execute(select(_version.c.version_num)).scalar()


def check_revision(database: Database, revision: str | None) -> None:
    """Raise SettingsError for a database that a later version of the program has made."""
    if revision is not None and revision > HEAD:
        raise SettingsError(
            f"catalog {database}: expected tables of revision {HEAD} at most, got {revision}, which a later "
            "version of ipp-mirror made. Use that version, or another database."
        )
