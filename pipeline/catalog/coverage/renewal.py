"""Renewal of maps and picture: by one process at a time, and of what has changed only."""

import fcntl
import tempfile
from pathlib import Path
from typing import Any

from mocpy import MOC
from sqlalchemy import Connection, func, select

from pipeline.catalog.coverage.exposures import read_exposures
from pipeline.catalog.coverage.maps import file_name, maps
from pipeline.catalog.coverage.picture import draw
from pipeline.catalog.database import Database
from pipeline.catalog.recorded_state import STATE
from pipeline.catalog.tables import fileset, image, product
from pipeline.durable import remove_files, write_whole
from pipeline.errors import machine_faults
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import read_marker, write_marker

# By what a product is known to be as it was: its images, those with a position, the newest of its filesets.
_Fingerprints = dict[str, list[str]]


def renew_coverage(database: Database, layout: Layout) -> None:
    """Make anew the maps of products that have changed, and the picture if any has. Raises MachineFault.

    A process that waited here for another one to end finds that nothing has changed, as a rule.
    """
    with machine_faults(f"drawing the coverage of the sky in {layout.coverage}"):
        layout.coverage.mkdir(parents=True, exist_ok=True)
        with open(layout.coverage_record.with_suffix(".lock"), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with database.reading() as connection:
                _renew(connection, layout)


def _renew(connection: Connection, layout: Layout) -> None:
    state = [str(value) for value in connection.exec_driver_sql(STATE).one()]
    found = _fingerprints(connection)
    record = read_marker(layout.coverage_record) or {}
    known: _Fingerprints = record.get("products", {})
    for name in [name for name in found if known.get(name) != found[name]]:
        _renew_maps(connection, layout.coverage, name)
        # A process that is ended here goes on with the next product.
        known = known | {name: found[name]}
        write_marker(layout.coverage_record, record | {"products": known, "catalog": None})
    gone = set(known) - set(found)
    remove_files(path for name in gone for path in _files_of(layout.coverage, name))
    if found != record.get("pictured") or not all(path.exists() for path in layout.coverage_pictures):
        pictures = draw(read_exposures(connection))
        for path, content in zip(layout.coverage_pictures, pictures, strict=True):
            write_whole(path, content)
    if (complete := {"products": found, "pictured": found, "catalog": state}) != _plain(record):
        write_marker(layout.coverage_record, complete)


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record without what every marker has."""
    return {name: value for name, value in record.items() if name != "schema"}


def _fingerprints(connection: Connection) -> _Fingerprints:
    counts = (func.count(), func.count(image.c.healpix), func.max(fileset.c.cataloged))
    query = (
        select(product.c.name, *counts)
        .join(fileset, fileset.c.product_id == product.c.product_id)
        .join(image, image.c.fileset_id == fileset.c.fileset_id)
        .where(image.c.kind == "image")
        .group_by(product.c.name)
    )
    return {name: [str(value) for value in values] for name, *values in connection.execute(query)}


def _renew_maps(connection: Connection, folder: Path, name: str) -> None:
    written = set()
    for filter_name, coverage in maps(connection, name):
        path = folder / file_name(name, filter_name)
        write_whole(path, _fits(coverage))
        written.add(path)
    remove_files(path for path in _files_of(folder, name) if path not in written)


def _files_of(folder: Path, name: str) -> list[Path]:
    """Return the maps of a product. Names of filters have no dot; those of products may have some."""
    return [path for path in folder.glob("*.fits") if path.name.rsplit(".", 2)[0] == name]


def _fits(coverage: MOC) -> bytes:
    """Return the FITS file of a MOC, of the kind that readers of MOC 1.1 know too."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "map.fits")
        coverage.save(path, format="fits", v1_compatible=True)
        return path.read_bytes()
