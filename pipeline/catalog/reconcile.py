"""Agreement of catalog and markers: a database that was deleted, restored or exchanged is caught up with."""

import logging
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from pipeline.catalog.check import gone_filesets, times_of
from pipeline.catalog.damage import is_damage
from pipeline.catalog.database import Database, in_batches
from pipeline.catalog.fileset_rows import delete_fileset
from pipeline.catalog.generations import current_file, file_of, make_current, next_file
from pipeline.catalog.opening import (
    check_mirror,
    create_file,
    create_named_file,
    current_database,
    new_settings,
)
from pipeline.catalog.pipeline_tables import PipelineTables
from pipeline.catalog.recorded_state import forget_state, record_behind
from pipeline.catalog.schema import HEAD, check_revision, create_schema, revision_of
from pipeline.catalog.views import create_views, renew_settings
from pipeline.catalog.writer import writer_of
from pipeline.config import Settings
from pipeline.durable import remove_files
from pipeline.errors import MachineFault, MirrorError, machine_faults
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import can_name_marker, read_marker
from pipeline.mirror.state.markers import Fileset

log = logging.getLogger(__name__)


def delete_now_or_later(settings: Settings, layout: Layout, identity: Fileset) -> None:
    """Delete the rows of the fileset; where the database cannot be written, have the next run compare all.

    Raises MachineFault where that cannot be noted.
    """
    forget_state(layout)
    try:
        writer_of(settings, layout).delete(identity)
    except MirrorError as error:
        log.warning("%s", error)
        record_behind(layout)


def warn_of_loss(settings: Settings, layout: Layout) -> None:
    """Log that the SQLite file of the catalog is gone, or empty, if filesets were cataloged."""
    file = file_of(settings, layout) if settings.catalog.is_file else None
    if not settings.catalog.is_file or (file and file.is_file() and file.stat().st_size):
        return
    if any(layout.count(MarkerKind.CATALOGED, product) for product in layout.state_products()):
        log.warning(
            "catalog %s: expected the rows of filesets that were cataloged, found %s. A new one is made, and "
            "all filesets are cataloged again.",
            *(file or layout.catalog, "an empty file" if file and file.exists() else "no file"),
        )


def reconcile(settings: Settings, layout: Layout) -> None:
    """Make the catalog, if there is none; have cataloged again what its rows do not show as marked.

    A damaged file in ``state/catalog/`` is as good as none. Rows of filesets that the mirror does not hold
    are deleted. Raises MachineFault or SettingsError.
    """
    try:
        _reconcile(settings, layout)
    except MachineFault as fault:
        if settings.catalog.url is not None or not is_damage(fault.__cause__):
            raise
        log.warning(
            "catalog %s: %s. A new one is made, and all filesets are cataloged again.",
            current_file(layout),
            getattr(fault.__cause__, "orig", None),
        )
        _new_file(layout).close()
        _reconcile(settings, layout)


def _reconcile(settings: Settings, layout: Layout) -> None:
    with closing(_opened(settings, layout)) as database:
        _make_tables(database, settings, layout)
        id, generation = database.setting("id"), int(database.setting("generation") or 0)
        generation_key = {"database": id, "generation": generation}
        database.transact(create_views)
        database.transact(lambda connection: renew_settings(connection, settings, layout))
        with machine_faults(f"comparing the catalog with the markers in {layout.root}"):
            for name in layout.state_products():
                for some in in_batches(layout.each_name(MarkerKind.CATALOGED, name)):
                    remove_files(_stale_markers(layout, database, name, some, generation_key))
            _delete_gone(layout, database)
            remove_files([layout.catalog_record])


def _opened(settings: Settings, layout: Layout) -> Database:
    """Return the current database, made if there is none."""
    if database := current_database(settings, layout):
        return database
    return create_named_file(settings, layout) or _new_file(layout)


def _make_tables(database: Database, settings: Settings, layout: Layout) -> None:
    """Bring the tables to the newest revision, unless they have it. Raises SettingsError."""
    revision = database.transact(revision_of)
    check_revision(database, revision)
    if settings.catalog.url is not None and revision is not None:
        check_mirror(database, layout)
    # A creation that was killed may have left the tables of the revision alone.
    if revision != HEAD or database.setting("id") is None:
        create_schema(database, new_settings(layout, 1))


def _new_file(layout: Layout) -> Database:
    """Return a new SQLite catalog, which is the current one."""
    path = next_file(layout)
    database = create_file(layout, path)
    make_current(layout, path)
    return database


def _stale_markers(
    layout: Layout, database: Database, name: str, marked: list[str], generation_key: dict[str, Any]
) -> Iterator[Path]:
    """Yield the markers of these filesets of a product that say something else than their rows."""
    with database.reading() as connection:
        times = times_of(connection, name, marked)
    for each in marked:
        path = layout.marker(MarkerKind.CATALOGED, name, each)
        marker = read_marker(path) or {}
        of_rows = {**generation_key, "cataloged": times.get(each)}
        if any(marker.get(key) != value for key, value in of_rows.items()):
            yield path


def _delete_gone(layout: Layout, database: Database) -> None:
    """Delete the rows of filesets that the mirror does not hold, and their markers."""
    for gone in gone_filesets(layout, database):
        # One that is fetched again is to be cataloged again.
        remove_files(
            layout.marker(MarkerKind.CATALOGED, name, each) for _, name, each in gone if can_name_marker(each)
        )
        if gone:
            database.transact(partial(_delete, fileset_ids=[id for id, _, _ in gone]))


def _delete(connection: Connection, fileset_ids: list[int]) -> None:
    tables = PipelineTables(connection)
    for fileset_id in fileset_ids:
        delete_fileset(connection, tables, fileset_id)
