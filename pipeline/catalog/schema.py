"""Creation and migration of the tables, by Alembic for our own ones."""

import importlib.resources
from collections.abc import Mapping

from sqlalchemy import Connection, insert, inspect, select, text

from pipeline.catalog.database import Database
from pipeline.catalog.pipeline_tables import create_pipeline_tables
from pipeline.catalog.tables import catalog_setting
from pipeline.catalog.views import create_views
from pipeline.errors import SettingsError

# Newest revision in ``migrations/versions``: Alembic, slow to import, is needed for any other one only.
HEAD = "0001"


def create_schema(database: Database, settings: Mapping[str, str]) -> None:
    """Create all tables, and write the settings: those that are there stay. Raises MachineFault."""
    if database.is_file:
        with database.faults(), database.engine.connect() as connection:
            # Readers go on while one process writes; the mode is kept in the file.
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            connection.exec_driver_sql("BEGIN")
    upgrade(database)

    def fill(connection: Connection) -> None:
        if connection.execute(select(catalog_setting).limit(1)).first():
            return
        create_pipeline_tables(connection)
        create_views(connection)
        connection.execute(
            insert(catalog_setting), [{"name": name, "value": value} for name, value in settings.items()]
        )

    database.transact(fill)


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
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def check_revision(database: Database, revision: str | None) -> None:
    """Raise SettingsError for a database that a later version of the program has made."""
    if revision is not None and revision > HEAD:
        raise SettingsError(
            f"catalog {database}: expected tables of revision {HEAD} at most, got {revision}, which a later "
            "version of ipp-mirror made. Use that version, or another database."
        )
