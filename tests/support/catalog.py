"""Catalogs in tests: filesets with images, and all that a catalog holds, whatever the numbers of its rows."""

import json
import zlib
from collections.abc import Iterable
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from sqlalchemy import MetaData, Table, inspect, select

from pipeline.catalog.database import Database, database_url, sqlite_url
from support.bundles import bundle, dirinfo
from support.upstream import File, Upstream

PRODUCT = "md-all-rel-200907"
# What depends on when, or in which order, rows were written.
_OF_WRITING = {"cataloged", "arrived", "text"}
_KEYS = {"row_id", "fileset_id", "product_id", "file_id", "member_id", "image_id"}


def image_bytes(ra: float = 35.9, dec: float = -4.3, size: int = 100, **cards: Any) -> bytes:
    """A FITS image of 10 by 10 pixels about ra, dec, whose sides are ``size`` arcseconds."""
    header = fits.Header(
        {
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CRVAL1": ra,
            "CRVAL2": dec,
            "CRPIX1": 5.5,
            "CRPIX2": 5.5,
            "CD1_1": -size / 36000,
            "CD1_2": 0.0,
            "CD2_1": 0.0,
            "CD2_2": size / 36000,
            "MJD-OBS": 55041.5,
            "EXPTIME": 30.0,
            "FILTER": "r.00000",
        }
        | cards
    )
    written = BytesIO()
    image = fits.PrimaryHDU(header=header)
    image.data = np.zeros((10, 10), "u1")
    image.writeto(written)
    return written.getvalue()


def dbinfo(number: int, columns: str = "", state: str = "full") -> bytes:
    """The document of a chip run with one row; ``columns`` are further lines of the row."""
    return (
        f"chipRun MULTI\nchipRun METADATA\n  chip_id S64 {number}\n  exp_id S64 {number + 1}\n"
        f"  state STR {state}\nEND\n"
        "chipProcessedImfile MULTI\nchipProcessedImfile METADATA\n"
        f"  chip_id S64 {number}\n  class_id STR XY01\n  path_base STR neb://any/x/y\n  quality S16 7\n"
        f"{columns}END\n"
    ).encode()


def add_chips(
    upstream: Upstream, name: str, number: int, files: dict[str, bytes] | None = None, **more: Any
) -> None:
    """Register a distribution of one ``component``; ``files`` are its members, ``document`` its dbinfo."""
    component = more.pop("component", "XY01")
    document = more.pop("document", None) or dbinfo(number)
    files = {f"{name}.ch.fits": image_bytes()} if files is None else files
    upstream.add(
        PRODUCT,
        name,
        [
            File(f"dirinfo.{name}.mdc", dirinfo("gpc1/MD01", {component: "o1.1"}), "text", "dirinfo"),
            File(f"dbinfo.{name}.mdc", document, "text", "dbinfo"),
            File(f"{name}.{component}.tgz", bundle(files), "tgz", component),
        ],
        **more,
    )


def catalog_of(root: Path) -> Database:
    """The SQLite catalog of a mirror, for reading."""
    folder = root / "state" / "catalog"
    pointer = json.loads((folder / "current.json").read_text())
    return Database(sqlite_url(folder / pointer["file"]), read_only=True)


def rows(database: Database, sql: str) -> list[tuple]:
    """The rows of a query. A server cannot end while a connection is open."""
    with closing(database), database.reading() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def content_of(database: Database, but: Iterable[str] = ()) -> dict[str, list[tuple]]:
    """All rows of all tables, each in place of its number with that of its fileset, sorted."""
    metadata = MetaData()
    with closing(database), database.reading() as connection:
        metadata.reflect(connection)
        named = _fileset_names(connection, metadata)
        return {
            name: sorted(_plain_rows(connection, metadata.tables[name], named), key=repr)
            for name in inspect(connection).get_table_names()
            if name not in {"alembic_version", "catalog_setting", "pipeline_column", *but}
        }


def documents(database: Database) -> dict[str, bytes]:
    """The documents that the catalog keeps, by name."""
    return {name: zlib.decompress(text) for name, text in rows(database, "SELECT name, text FROM document")}


def _fileset_names(connection: Any, metadata: MetaData) -> dict[int, str]:
    fileset, product = metadata.tables["fileset"], metadata.tables["product"]
    query = select(fileset.c.fileset_id, product.c.name, fileset.c.name).join(
        product, fileset.c.product_id == product.c.product_id
    )
    return {number: f"{product_name}/{name}" for number, product_name, name in connection.execute(query)}


def _plain_rows(connection: Any, table: Table, named: dict[int, str]) -> list[tuple]:
    columns = [column for column in table.c if column.name not in _KEYS | _OF_WRITING]
    owner = [table.c.fileset_id] if "fileset_id" in table.c else []
    found = connection.execute(select(*owner, *columns))
    # Columns that another run added lack in a catalog that did without; they are null there.
    return [
        (
            *([named[row[0]]] if owner else []),
            *(
                (column.name, value)
                for column, value in zip(columns, row[len(owner) :], strict=True)
                if value is not None
            ),
        )
        for row in found
    ]


def url_database(url: str) -> Database:
    """The catalog at a URL."""
    return Database(database_url(url))
