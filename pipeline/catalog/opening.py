"""The database of a mirror's catalog: opened, or created."""

import uuid
from pathlib import Path

from pipeline.catalog.database import Database, database_url, sqlite_url
from pipeline.catalog.generations import file_of, how_to_make
from pipeline.catalog.schema import create_schema
from pipeline.config import Settings
from pipeline.errors import SettingsError, machine_faults
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.root_format import mirror_id


def current_database(settings: Settings, layout: Layout, *, read_only: bool = False) -> Database | None:
    """Return the database of the mirror's catalog; None before an SQLite file was made.

    Raises SettingsError for a URL that cannot be used.
    """
    if not settings.catalog.is_file:
        return Database(database_url(str(settings.catalog.url)), read_only=read_only)
    path = file_of(settings, layout)
    return Database(sqlite_url(path), read_only=read_only) if path and path.is_file() else None


def required_database(settings: Settings, layout: Layout) -> Database:
    """Return the database for queries. Raises SettingsError when there is none."""
    database = current_database(settings, layout, read_only=True)
    if database is None:
        raise SettingsError(
            f"expected a catalog of the mirror at {layout.root}, found none. " + how_to_make(settings)
        )
    return database


def create_named_file(settings: Settings, layout: Layout) -> Database | None:
    """Create the SQLite catalog that the settings name; None where they name none. Raises MachineFault."""
    if settings.catalog.url is None:
        return None
    database = Database(database_url(settings.catalog.url))
    path = Path(str(database.url.database))
    with machine_faults(f"creating the catalog {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    create_schema(database, new_settings(layout, 1))
    return database


def create_file(layout: Layout, path: Path) -> Database:
    """Create an empty SQLite catalog at ``path``. Raises MachineFault."""
    with machine_faults(f"creating the catalog {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    database = Database(sqlite_url(path))
    create_schema(database, new_settings(layout, int(path.stem)))
    return database


def new_settings(layout: Layout, generation: int) -> dict[str, str]:
    """Return the settings in a new database."""
    return {
        "id": str(uuid.uuid4()),
        "generation": str(generation),
        "mirror": mirror_id(layout),
        "root": str(layout.root),
    }


def check_mirror(database: Database, layout: Layout) -> None:
    """Raise SettingsError for the catalog of another mirror, whose rows would be taken for left-over ones."""
    mirror = database.setting("mirror")
    if mirror and mirror != mirror_id(layout):
        raise SettingsError(
            f"catalog {database}: expected the catalog of mirror {mirror_id(layout)}, got that of mirror "
            f"{mirror} at {database.setting('root')}. Name another database in catalog.url: each mirror has "
            "its own. This mirror is not cataloged."
        )
