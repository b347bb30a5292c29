"""Tables of the pipeline: one for each row table of the dbinfo documents, and for each table of runs.

The columns that queries are likely to ask for are there from the start (protocol notes, "dbinfo"); others are
added when a document has them. ``pipeline_column`` records them all. Every row has ``fileset_id``, its
number in the document, and ``other``: a JSON object with the text of each value that has no column.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    TableClause,
    column,
    insert,
    select,
    table,
)
from sqlalchemy.schema import CreateColumn
from sqlalchemy.types import TypeDecorator, TypeEngine

from pipeline.bundle import mdc
from pipeline.bundle.dbinfo import RUN_TABLES
from pipeline.catalog.headers.times import seconds_ahead_of_utc
from pipeline.catalog.tables import LONGEST_NAME, Key, LongText, Name, Time, fileset, pipeline_column

# A table of MariaDB holds the pointers of fewer texts than one of SQLite or PostgreSQL.
MOST_COLUMNS = {"sqlite": 500, "postgresql": 250, "mysql": 150}
_MJD_ZERO, _DAY = datetime(1858, 11, 17), timedelta(days=1)
_PLAIN = re.compile(r"[a-z][a-z0-9_]{0,62}")
_OWN = {"row_id", "fileset_id", "row_number", "other"}
# Columns that PostgreSQL adds to each table itself.
_OF_POSTGRESQL = {"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"}


class _UnsignedInSqlite(TypeDecorator[Any]):
    """64 bits without a sign in SQLite: exact where its integers hold them, else as a float."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Return the value for SQLite's driver, which refuses greater integers."""
        return value if value is None else int(value) if value < 2**63 else float(value)


_KINDS: dict[str, TypeEngine[Any]] = {
    "integer": BigInteger(),
    "unsigned": Numeric(20).with_variant(_UnsignedInSqlite(), "sqlite"),
    "float": Double(),
    "boolean": Boolean(),
    "time": Time,
    "name": Name,
    "text": LongText,
}
_KIND_OF_TYPE = {
    "STR": "text",
    "BOOL": "boolean",
    "U64": "unsigned",
    "F32": "float",
    "F64": "float",
    **dict.fromkeys(("UTC", "UT1", "TAI", "TT"), "time"),
    **dict.fromkeys(("S8", "S16", "S32", "S64", "U8", "U16", "U32"), "integer"),
}

# Columns by name and kind.
_FIRST_COLUMNS = {
    "rawExp": (
        "exp_id integer, exp_name name, camera text, telescope text, dateobs time, exp_type text, "
        "filter text, obs_mode text, obs_group text, object text, airmass float, ra float, decl float, "
        "exp_time float, bg float, bg_stdev float, alt float, az float, posang float"
    ),
    "rawImfile": "exp_id integer, class_id name, uri text, filter text",
    "chipRun": (
        "chip_id integer, exp_id integer, state text, data_state text, label text, data_group text, "
        "tess_id text"
    ),
    "chipProcessedImfile": (
        "chip_id integer, exp_id integer, class_id name, uri text, path_base text, bg float, "
        "bg_stdev float, fwhm_major float, fwhm_minor float, n_stars integer, quality integer, "
        "fault integer"
    ),
    "chipBackgroundRun": "chip_bg_id integer, chip_id integer, state text, label text, data_group text",
    "chipBackgroundImfile": (
        "chip_bg_id integer, class_id name, path_base text, quality integer, fault integer"
    ),
    "camRun": "cam_id integer, chip_id integer, state text, label text, data_group text, tess_id text",
    "camProcessedExp": (
        "cam_id integer, zpt_obs float, zpt_stdev float, fwhm_major float, fwhm_minor float, "
        "n_astrom integer, sigma_ra float, sigma_dec float, path_base text, quality integer, "
        "fault integer"
    ),
    "fakeRun": "fake_id integer, cam_id integer, state text, label text, data_group text",
    "fakeProcessedImfile": "fake_id integer, class_id name, path_base text, fault integer",
    "warpRun": "warp_id integer, fake_id integer, state text, label text, data_group text, tess_id text",
    "warpSkyfile": (
        "warp_id integer, skycell_id name, tess_id text, path_base text, good_frac float, "
        "quality integer, fault integer"
    ),
    "warpSkyCellMap": "warp_id integer, skycell_id name, tess_id text, class_id name",
    "warpBackgroundRun": "warp_bg_id integer, warp_id integer, state text, label text, data_group text",
    "warpBackgroundSkyfile": "warp_bg_id integer, skycell_id name, path_base text, quality integer",
    "diffRun": "diff_id integer, state text, label text, data_group text, tess_id text",
    "diffSkyfile": (
        "diff_id integer, skycell_id name, path_base text, sources integer, good_frac float, quality integer"
    ),
    "diffInputSkyfile": (
        "diff_id integer, skycell_id name, warp1 integer, warp2 integer, stack1 integer, stack2 integer"
    ),
    "stackRun": "stack_id integer, skycell_id name, tess_id text, filter text, state text, data_group text",
    "stackSumSkyfile": (
        "stack_id integer, path_base text, bg float, good_frac float, mjd_obs float, quality integer"
    ),
    "stackInputSkyfile": "stack_id integer, warp_id integer",
    "staticskyRun": "sky_id integer, state text, label text, data_group text",
    "staticskyResult": "sky_id integer, path_base text, quality integer",
    "staticskyInput": "sky_id integer, stack_id integer",
    "skycalRun": "skycal_id integer, sky_id integer, stack_id integer, state text, data_group text",
    "skycalResult": "skycal_id integer, path_base text, quality integer",
    "fullForceRun": "ff_id integer, skycal_id integer, state text, data_group text",
    "fullForceInput": "ff_id integer, warp_id integer",
    "fullForceResult": "ff_id integer, warp_id integer, path_base text, quality integer",
    "fullForceSummary": "ff_id integer, path_base text, quality integer",
}
# Keys by which runs and their inputs are joined, along the chain from exposures to stacks and differences.
_INDEXED = {
    *("exp_id", "exp_name", "chip_id", "chip_bg_id", "cam_id", "fake_id", "warp_id", "warp_bg_id"),
    *("stack_id", "diff_id", "sky_id", "skycal_id", "ff_id", "warp1", "warp2", "stack1", "stack2"),
    *("skycell_id", "class_id"),
}


def snake_case(name: str) -> str:
    """Return the name of the pipeline's table in SQL: ``chip_processed_imfile`` of ``chipProcessedImfile``.

    >>> snake_case("warpSkyCellMap")
    'warp_sky_cell_map'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


TABLE_NAMES = {
    name: snake_case(name)
    for name in dict.fromkeys(name for tables in RUN_TABLES for name in (tables.run, *tables.rows))
}


def create_pipeline_tables(connection: Connection) -> None:
    """Create the tables with their first columns, in a database without them."""
    metadata = MetaData()
    fileset.to_metadata(metadata)
    rows = []
    for name, columns in _FIRST_COLUMNS.items():
        kinds = dict(column.split() for column in columns.split(", "))
        _table(TABLE_NAMES[name], kinds, metadata)
        rows += [
            {"table_name": TABLE_NAMES[name], "column_name": column, "kind": kind}
            for column, kind in kinds.items()
        ]
    metadata.create_all(connection)
    connection.execute(insert(pipeline_column), rows)


@dataclass(frozen=True)
class Rows:
    """Rows of one table of the pipeline as a document has them, each the entries by name."""

    table: str
    rows: list[mdc.Scope]


def rows_of(document: mdc.Scope) -> list[Rows]:
    """Return the rows of the known tables in a dbinfo document, in the order of the document."""
    found: dict[str, Rows] = {}
    for entry in document.entries:
        if entry.name in TABLE_NAMES and isinstance(entry.value, mdc.Scope):
            found.setdefault(entry.name, Rows(entry.name, [])).rows.append(entry.value)
    return list(found.values())


class PipelineTables:
    """The tables with the columns that they have in one database."""

    def __init__(self, connection: Connection) -> None:
        self._kinds: dict[str, dict[str, str]] = {name: {} for name in TABLE_NAMES.values()}
        for name, column_name, kind in connection.execute(select(pipeline_column)):
            self._kinds[name][column_name] = kind
        self._tables: dict[str, TableClause] = {}

    def __iter__(self) -> Iterator[TableClause]:
        return map(self.named, self._kinds)

    def named(self, name: str) -> TableClause:
        """Return the table of that name in SQL."""
        if name not in self._tables:
            # All of them as ``Table``, which knows keys and indexes, would take 20 ms of each process.
            kinds = self._kinds[name].items()
            self._tables[name] = table(
                name,
                *(column(own, Integer()) for own in ("row_id", "fileset_id", "row_number")),
                *(column(each, _KINDS[kind]) for each, kind in kinds),
                column("other", LongText),
            )
        return self._tables[name]

    def missing_columns(self, found: Iterable[Rows], dialect: str) -> dict[str, dict[str, str]]:
        """Return the kinds of the columns that the rows have and the tables have not, by table and name.

        A table of :data:`MOST_COLUMNS` gets no more.
        """
        missing: dict[str, dict[str, str]] = {}
        for rows in found:
            name = TABLE_NAMES[rows.table]
            known = self._kinds[name]
            new: dict[str, str] = {}
            for scope in rows.rows:
                for entry in scope.entries:
                    kind = _kind_of(entry)
                    if kind and entry.name not in known and _PLAIN.fullmatch(entry.name):
                        new.setdefault(entry.name, kind)
            allowed = MOST_COLUMNS[dialect] - len(known)
            new = {each: kind for each, kind in new.items() if each not in _OWN | _OF_POSTGRESQL}
            if new and allowed > 0:
                missing[name] = dict(list(new.items())[:allowed])
        return missing

    def records(self, rows: Rows, fileset_id: int) -> tuple[TableClause, list[dict[str, Any]]]:
        """Return the table, and the values of its columns for each row."""
        name = TABLE_NAMES[rows.table]
        kinds = self._kinds[name]
        empty = dict.fromkeys(kinds)
        records = [
            {"fileset_id": fileset_id, "row_number": number, "other": None, **empty, **_values(scope, kinds)}
            for number, scope in enumerate(rows.rows, start=1)
        ]
        return self.named(name), records


def add_columns(connection: Connection, missing: Mapping[str, Mapping[str, str]]) -> None:
    """Add columns to the tables; one that another process has added meanwhile stays as it is."""
    dialect = connection.dialect
    for name, columns in missing.items():
        known = set(
            connection.execute(
                select(pipeline_column.c.column_name).where(pipeline_column.c.table_name == name)
            ).scalars()
        )
        for each, kind in columns.items():
            if each in known:
                continue
            definition = CreateColumn(Column(each, _KINDS[kind])).compile(dialect=dialect)
            exists = "" if dialect.name == "sqlite" else "IF NOT EXISTS "
            connection.exec_driver_sql(f"ALTER TABLE {name} ADD COLUMN {exists}{definition}")
            # MariaDB ends a transaction with each change of a table.
            recorded = insert(pipeline_column).prefix_with("IGNORE", dialect="mysql")
            connection.execute(recorded, {"table_name": name, "column_name": each, "kind": kind})


def _table(name: str, kinds: Mapping[str, str], metadata: MetaData) -> Table:
    indexes = [
        Index(f"{name}_{column}", column)
        for column in kinds
        if column in _INDEXED and column in _first_columns(name)
    ]
    return Table(
        name,
        metadata,
        Column("row_id", Key, primary_key=True),
        Column("fileset_id", Key, ForeignKey("fileset.fileset_id"), nullable=False, index=True),
        Column("row_number", Integer, nullable=False),
        *(Column(column, _KINDS[kind]) for column, kind in kinds.items()),
        Column("other", LongText),
        *indexes,
    )


def _first_columns(table: str) -> set[str]:
    name = next(name for name, snake in TABLE_NAMES.items() if snake == table)
    return {column.split()[0] for column in _FIRST_COLUMNS[name].split(", ")}


def _kind_of(entry: mdc.Entry) -> str | None:
    """Return the kind of an entry's column; None for a vector, a complex number or a nested scope."""
    return None if isinstance(entry.value, tuple | mdc.Scope) else _KIND_OF_TYPE.get(entry.type)


def _values(scope: mdc.Scope, kinds: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of the columns, and in ``other`` what has none or does not fit."""
    values: dict[str, Any] = {}
    other: dict[str, list[Any]] = {}
    for entry in scope.entries:
        kind = kinds.get(entry.name)
        if kind and entry.name not in values and _kind_of(entry) and _fits(entry.value, kind):
            values[entry.name] = _stored(entry, kind)
        else:
            other.setdefault(entry.name, []).append(_as_json(entry.value))
    if other:
        # Of a repeated name the values are a list.
        values["other"] = json.dumps(
            {name: each[0] if len(each) == 1 else each for name, each in other.items()}
        )
    return values


def _as_json(value: Any) -> Any:
    if isinstance(value, mdc.Scope):
        return {entry.name: _as_json(entry.value) for entry in value.entries}
    if isinstance(value, tuple):
        return [_as_json(each) for each in value]
    return value if value is None or isinstance(value, str | bool | int) else str(value)


def _fits(value: Any, kind: str) -> bool:
    """Return True if a column of that kind holds the value in each of the databases, or a null for nan."""
    match kind:
        case _ if value is None:
            return True
        case "text" | "name":
            return (
                isinstance(value, str)
                and "\0" not in value
                and (kind == "text" or len(value) <= LONGEST_NAME)
            )
        case "boolean":
            return isinstance(value, bool)
        case "time":
            # DATETIME of MariaDB begins with the year 1000, TAI and TT are ahead of UTC.
            return isinstance(value, datetime) and value.year > 1000
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) != math.inf
        case "unsigned":
            return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _stored(entry: mdc.Entry, kind: str) -> Any:
    """Return the value as the column holds it: nan as NULL, a time as UTC without a zone."""
    value: Any = entry.value
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return moment - timedelta(seconds=seconds_ahead_of_utc((moment - _MJD_ZERO) / _DAY, entry.type))
    if kind == "float" and value is not None:
        return None if math.isnan(value) else float(value)
    return Decimal(value) if kind == "unsigned" and value is not None else value
