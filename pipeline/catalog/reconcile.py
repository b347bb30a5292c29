"""Agreement of catalog and markers: a database that was deleted, restored or exchanged is caught up with."""

import logging
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from pipeline.catalog.database import Database
from pipeline.catalog.generations import make_current, next_file
from pipeline.catalog.load import delete_fileset
from pipeline.catalog.opening import create_file, create_named_file, current_database, new_settings
from pipeline.catalog.pipeline_tables import PipelineTables
from pipeline.catalog.schema import HEAD, check_revision, create_schema, revision_of
from pipeline.catalog.seen import forget_seen, record_behind
from pipeline.catalog.tables import fileset, product
from pipeline.catalog.views import create_views, renew_settings
from pipeline.catalog.writer import writer_of
from pipeline.config import Settings
from pipeline.durable import remove_files
from pipeline.errors import MirrorError, machine_faults
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker
from pipeline.mirror.state.markers import Fileset

log = logging.getLogger(__name__)

# Of each fileset in the catalog: its id, and when its rows were written.
_Known = dict[str, tuple[int, datetime | None]]


def delete_now_or_later(settings: Settings, layout: Layout, identity: Fileset) -> None:
    """Delete the rows of the fileset; where the database cannot be written, have the next run compare all.

    Raises MachineFault where that cannot be noted.
    """
    forget_seen(layout)
    try:
        writer_of(settings, layout).delete(identity)
    except MirrorError as error:
        log.warning("%s", error)
        record_behind(layout)


def reconcile(settings: Settings, layout: Layout) -> None:
    """Make the catalog, if there is none; have cataloged again what its rows do not show as marked.

    Rows of filesets that the mirror does not hold are deleted. Raises MachineFault or SettingsError.
    """
    with closing(_made(settings, layout)) as database:
        id, generation = database.setting("id"), int(database.setting("generation") or 0)
        identity = {"database": id, "generation": generation}
        database.transact(create_views)
        database.transact(lambda connection: renew_settings(connection, settings, layout))
        with database.reading() as connection:
            known = _known(connection)
        with machine_faults(f"comparing the catalog with the markers in {layout.root}"):
            for name in {*layout.state_products(), *known}:
                _reconcile_product(layout, database, name, known.get(name, {}), identity)
            remove_files([layout.catalog_seen])


def _made(settings: Settings, layout: Layout) -> Database:
    """Return the current database, with its tables of the newest revision."""
    database = current_database(settings, layout)
    if database is None:
        if database := create_named_file(settings, layout):
            return database
        path = next_file(layout)
        database = create_file(layout, path)
        make_current(layout, path)
        return database
    revision = database.transact(revision_of)
    check_revision(database, revision)
    # A creation that was killed may have left the tables of the revision alone.
    if revision != HEAD or database.setting("id") is None:
        create_schema(database, new_settings(layout, 1))
    return database


def _known(connection: Connection) -> dict[str, _Known]:
    query = select(product.c.name, fileset.c.name, fileset.c.fileset_id, fileset.c.cataloged).join(
        product, fileset.c.product_id == product.c.product_id
    )
    known: dict[str, _Known] = {}
    for product_name, name, fileset_id, cataloged in connection.execute(query):
        known.setdefault(product_name, {})[name] = (fileset_id, cataloged)
    return known


def _reconcile_product(
    layout: Layout, database: Database, name: str, known: _Known, identity: dict[str, Any]
) -> None:
    remove_files(_stale_markers(layout, name, known, identity))
    held = layout.names(MarkerKind.DOWNLOADED, name) | layout.names(MarkerKind.EXTRACTED, name)
    gone = {fileset: fileset_id for fileset, (fileset_id, _) in known.items() if fileset not in held}
    # One that is fetched again is to be cataloged again.
    remove_files(layout.marker(MarkerKind.CATALOGED, name, fileset) for fileset in gone)

    def delete(connection: Connection) -> None:
        tables = PipelineTables(connection)
        for fileset_id in gone.values():
            delete_fileset(connection, tables, fileset_id)

    if gone:
        database.transact(delete)


def _stale_markers(layout: Layout, name: str, known: _Known, identity: dict[str, Any]) -> Iterable[Any]:
    for marked in layout.names(MarkerKind.CATALOGED, name):
        path = layout.marker(MarkerKind.CATALOGED, name, marked)
        marker = read_marker(path) or {}
        _, cataloged = known.get(marked, (0, None))
        of_rows = {**identity, "cataloged": cataloged.isoformat() if cataloged else None}
        if any(marker.get(key) != value for key, value in of_rows.items()):
            yield path
