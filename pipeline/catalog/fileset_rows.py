"""Rows of one fileset in the database: replaced, or deleted, in one transaction.

A path belongs to one fileset, that which was registered last of those that unpacked it: so do its rows.
"""

import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, Table, TableClause, delete, func, insert, select, update

from pipeline.catalog.database import in_batches
from pipeline.catalog.gather import Gathered, HeldFile, as_utc
from pipeline.catalog.headers import ImageHeader, base_of, kind_of
from pipeline.catalog.image_values import ImageValues
from pipeline.catalog.pipeline_tables import PipelineTables
from pipeline.catalog.tables import LONGEST_PATH, document, file, fileset, image, member, product
from pipeline.catalog.values import as_text, listed_value, short_text, string_value
from pipeline.mirror.state.markers import Fileset
from pipeline.units import as_count

# Columns of the listing that the table ``fileset`` has.
_LISTED = ("type", "target_id", "stage", "stage_id", "exp_name", "data_group", "filter")
_OF_FILESET = (image, member, file, document)
# Headers of the images in files, by path.
Images = dict[str, list[ImageHeader]]


def find_fileset(connection: Connection, identity: Fileset) -> int | None:
    """Return the id of the fileset, None if the catalog does not have it."""
    found: int | None = connection.execute(_of_row(fileset.c.fileset_id, identity)).scalar()
    return found


def time_of(connection: Connection, identity: Fileset) -> datetime | None:
    """Return when the rows of the fileset were written, None if the catalog does not have it."""
    found: datetime | None = connection.execute(_of_row(fileset.c.cataloged, identity)).scalar()
    return found


def _of_row(column: Any, identity: Fileset) -> Any:
    """Return the query of one column of the fileset's row."""
    of_product = select(column).join(product)
    return of_product.where(product.c.name == identity.product, fileset.c.name == identity.name)


def paths_of(connection: Connection, fileset_id: int) -> set[str]:
    """Return the paths of the unpacked files that the catalog has of a fileset."""
    return set(connection.execute(select(member.c.path).where(member.c.fileset_id == fileset_id)).scalars())


def next_time(connection: Connection) -> datetime:
    """Return the time (UTC) for rows that are written now: later than that of all rows, whatever the clock.

    By the latest time and the number of filesets the next run knows whether the catalog has changed.
    """
    now = datetime.now(UTC).replace(tzinfo=None)
    latest = connection.execute(select(func.max(fileset.c.cataloged))).scalar()
    return max(now, latest + timedelta(microseconds=1)) if latest else now


def replace_fileset(
    connection: Connection, tables: PipelineTables, gathered: Gathered, images: Images, now: datetime
) -> None:
    """Write all rows of the fileset in place of those that it had. ``images`` are those of files, by path."""
    fileset_id = _fileset_row(connection, tables, gathered, now)
    owned = _without_later_owners(connection, gathered, fileset_id)
    files = _insert_files(connection, gathered, fileset_id)
    members = _insert_members(connection, [held for held in owned if held.is_member], fileset_id)
    values = ImageValues(gathered)
    rows = [
        {
            "fileset_id": fileset_id,
            "member_id": members.get(held.path),
            "file_id": None if held.is_member else files[held.name],
            **values.of(held, header),
        }
        for held in owned
        for header in images.get(held.path, ())
    ]
    _insert(connection, image, rows)
    _insert(connection, document, _documents(gathered, fileset_id))
    for found in gathered.pipeline_rows:
        _insert(connection, *tables.records(found, fileset_id))


def delete_fileset(connection: Connection, tables: PipelineTables, fileset_id: int) -> None:
    """Delete all rows of the fileset."""
    _delete_parts(connection, tables, fileset_id)
    connection.execute(delete(fileset).where(fileset.c.fileset_id == fileset_id))


def _delete_parts(connection: Connection, tables: PipelineTables, fileset_id: int) -> None:
    for table in (*_OF_FILESET, *tables):
        connection.execute(delete(table).where(table.c.fileset_id == fileset_id))


def _fileset_row(connection: Connection, tables: PipelineTables, gathered: Gathered, now: datetime) -> int:
    """Write the row of the fileset, without those of its parts, and return its id."""
    fileset_id = find_fileset(connection, gathered.fileset)
    values = _fileset_values(gathered, now)
    if fileset_id is not None:
        _delete_parts(connection, tables, fileset_id)
        connection.execute(update(fileset).where(fileset.c.fileset_id == fileset_id).values(values))
        return fileset_id
    product_id = _product_id(connection, gathered.fileset.product)
    return _new_id(connection, fileset, {"product_id": product_id, "name": gathered.fileset.name, **values})


def _product_id(connection: Connection, name: str) -> int:
    found = connection.execute(select(product.c.product_id).where(product.c.name == name)).scalar()
    return found if found is not None else _new_id(connection, product, {"name": name})


def _new_id(connection: Connection, table: Table, values: dict[str, Any]) -> int:
    key = connection.execute(insert(table).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _fileset_values(gathered: Gathered, now: datetime) -> dict[str, Any]:
    columns = gathered.fileset.columns
    listed = {name: listed_value(columns.get(name)) for name in _LISTED}
    return {
        **listed,
        "stage": short_text(gathered.stage),
        "exp_name": short_text(listed["exp_name"] or string_value(gathered.run_row, "exp_name")),
        "registered": as_utc(gathered.fileset.registered),
        "columns": json.dumps(columns),
        "content": gathered.content,
        "state": as_text(gathered.state),
        "arrived": gathered.arrived,
        "cataloged": now,
        "note": _note(gathered),
    }


def _note(gathered: Gathered) -> str | None:
    """Return what the mirror or the catalog lacks of the fileset, None if nothing."""
    long = sum(len(held.path) > LONGEST_PATH for held in gathered.held)
    files = as_count(long, "file")
    cut = f"left out for paths of more than {LONGEST_PATH} characters: {files}" if long else None
    return "; ".join(filter(None, (gathered.left_out, cut))) or None


def _without_later_owners(connection: Connection, gathered: Gathered, fileset_id: int) -> list[HeldFile]:
    """Return the files that the fileset owns, and delete the rows that earlier owners have of them.

    Files of longer paths than the databases can index are not among them.
    """
    paths = [held.path for held in gathered.members]
    own = (gathered.fileset.registered, gathered.fileset.product, gathered.fileset.name)
    own_key = (as_utc(own[0]) or datetime.min, *own[1:])
    lost: set[str] = set()
    for some in in_batches(paths):
        others = connection.execute(
            select(member.c.member_id, member.c.path, fileset.c.registered, product.c.name, fileset.c.name)
            .join(fileset, member.c.fileset_id == fileset.c.fileset_id)
            .join(product, fileset.c.product_id == product.c.product_id)
            .where(member.c.path.in_(some), member.c.fileset_id != fileset_id)
        ).all()
        for member_id, path, registered, product_name, name in others:
            if (registered or datetime.min, product_name, name) > own_key:
                lost.add(path)
            else:
                connection.execute(delete(image).where(image.c.member_id == member_id))
                connection.execute(delete(member).where(member.c.member_id == member_id))
    return [held for held in gathered.held if held.path not in lost and len(held.path) <= LONGEST_PATH]


def _insert_files(connection: Connection, gathered: Gathered, fileset_id: int) -> dict[str, int]:
    """Write the rows of the listing, and return their ids by the names of the files."""
    rows = [
        {
            "fileset_id": fileset_id,
            "name": row.name,
            "bytes": row.bytes,
            "md5": row.md5,
            "type": as_text(row.type),
            "component": as_text(row.component),
        }
        for row in gathered.files
    ]
    return _insert_with_ids(connection, file.c.name, file.c.file_id, rows)


def _insert_members(connection: Connection, members: list[HeldFile], fileset_id: int) -> dict[str, int]:
    """Write the rows of the unpacked files, and return their ids by path."""
    rows = [
        {
            "fileset_id": fileset_id,
            "path": held.path,
            "bytes": held.bytes,
            "crc32": held.crc32,
            "component": as_text(held.component),
            "kind": kind_of(held.name),
            "base": base_of(held.path),
        }
        for held in members
    ]
    return _insert_with_ids(connection, member.c.path, member.c.member_id, rows)


def _insert_with_ids(
    connection: Connection, name: Column[Any], key: Column[int], rows: list[dict[str, Any]]
) -> dict[str, int]:
    """Write the rows, in one statement for hundreds of them, and return their keys by ``name``."""
    if not rows:
        return {}
    written = connection.execute(insert(name.table).returning(name, key), rows)
    return {row[0]: row[1] for row in written}


def _insert(connection: Connection, table: TableClause, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _documents(gathered: Gathered, fileset_id: int) -> list[dict[str, Any]]:
    return [
        {
            "fileset_id": fileset_id,
            "name": each.name,
            "component": each.component,
            "text": zlib.compress(each.text),
        }
        for each in gathered.documents
    ]
