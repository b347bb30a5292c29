"""Answers as text: a table for people, CSV, JSON, VOTable.

Each format is made piece by piece, so that memory stays flat, except for VOTable, which astropy writes. Times
are ISO 8601 with a Z for UTC.
"""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from pipeline.catalog.columns import Column, ValueKind
from pipeline.catalog.reader import Row
from pipeline.names import escaped

if TYPE_CHECKING:
    from astropy.table import MaskedColumn, Table

# Rows of which the widths of the table's columns are taken.
_MEASURED = 1000
# Least width to which a column is cut.
_LEAST_WIDTH = 8
# Format of a number for people, by its unit.
_ROUNDED = {"deg": ".5f", "d": ".5f", "arcsec": ".2f", "s": ".1f"}
_DTYPES: dict[ValueKind, tuple[Any, type]] = {ValueKind.INTEGER: (0, int), ValueKind.REAL: (math.nan, float)}
_GAP = "  "
_NO_ROWS = " <DATA>\n    <TABLEDATA/>\n   </DATA>\n  "
# Characters that XML 1.0 cannot hold.
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_table(
    columns: Sequence[Column],
    rows: Iterable[Row],
    width: int | None,
    left_out: Iterable[tuple[str, ...]] = (),
) -> Iterator[str]:
    """Yield the lines of a table for people, at most ``width`` characters wide; None for any width.

    Where the lines would be wider, paths have lines of their own below the others, where they stay whole.
    Then columns of ``left_out`` are left out, the first ones first, which a line at the end says; and at
    last the widest columns are cut, with an ellipsis. What a terminal would obey is escaped.
    """
    rows = iter(rows)
    first = list(islice(rows, _MEASURED))
    head = [[escaped(column.name) for column in columns], *(_cells(columns, row) for row in first)]
    widths = [max(map(len, texts)) for texts in zip(*head, strict=True)]
    below = _places_below(columns, widths, width)
    beside = [place for place in range(len(columns)) if place not in below]
    without = _places_without(columns, widths, beside, width, left_out)
    beside = [place for place in beside if place not in without]
    fitted = dict(zip(beside, _fitted([widths[place] for place in beside], width), strict=True))
    numbers = {place for place in beside if any(isinstance(row[place], int | float) for row in first)}
    for line in chain(head, (_cells(columns, row) for row in rows)):
        cells = (
            _cut(line[place], size).rjust(size) if place in numbers else _cut(line[place], size).ljust(size)
            for place, size in fitted.items()
        )
        yield _GAP.join(cells).rstrip() + "\n"
        yield from (f"{_GAP}{line[place]}\n" for place in below)
    if without:
        names = ", ".join(columns[place].name for place in without)
        yield f"Without {names}, which do not fit; --columns A,B chooses.\n"


def _places_below(columns: Sequence[Column], widths: list[int], width: int | None) -> list[int]:
    """Return the places of the columns of paths if the lines would be too wide with them."""
    if width is None or _length(widths) <= width or len(columns) == 1:
        return []
    return [place for place, column in enumerate(columns) if column.name == "path"]


def _places_without(
    columns: Sequence[Column],
    widths: list[int],
    places: list[int],
    width: int | None,
    left_out: Iterable[tuple[str, ...]],
) -> list[int]:
    """Return the places of the columns to leave out, so that lines of the others are not too wide."""
    without: set[int] = set()
    for names in left_out:
        if width is None or _length([widths[place] for place in places if place not in without]) <= width:
            break
        without.update(place for place in places if columns[place].name in names)
    return sorted(without)


def _length(widths: list[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def as_csv(columns: Sequence[Column], rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of a CSV file (RFC 4180, with line feeds), its header first; NULL is nothing."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in chain([[column.name for column in columns]], rows):
        writer.writerow(map(_written, row))
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def as_json(columns: Sequence[Column], rows: Iterable[Row]) -> Iterator[str]:
    """Yield a JSON list of one object for each row, a line each; NULL and numbers that are none are null."""
    names = [column.name for column in columns]
    separator = "["
    for row in rows:
        values = [_written(value) for value in row]
        values = [
            None if isinstance(value, float) and not math.isfinite(value) else value for value in values
        ]
        yield f"{separator}\n{json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False)}"
        separator = ","
    yield "[]\n" if separator == "[" else "\n]\n"


def as_votable(columns: Sequence[Column], rows: Iterable[Row]) -> Iterator[str]:
    """Yield a VOTable with units, UCDs and descriptions.

    Numbers that are none are NULL; characters that XML cannot hold are escaped.
    """
    import warnings

    from astropy.io.votable import from_table
    from astropy.io.votable.exceptions import W03

    columns = [replace(column, name=_in_xml(column.name)) for column in columns]
    table = astropy_table(columns, (tuple(map(_in_xml, row)) for row in rows))
    with warnings.catch_warnings():
        # A name such as count(*) is no identifier: the field has another one beside.
        warnings.simplefilter("ignore", W03)
        document = from_table(table)
    for field in document.get_first_table().fields:
        if field.datatype == "unicodeChar":
            # Texts of one length are no array of that size in the next answer.
            field.arraysize = "*"
    buffer = io.BytesIO()
    document.to_xml(buffer)
    text = buffer.getvalue().decode()
    # STILTS and TOPCAT find no table in one without data, which astropy writes for no rows.
    yield text if len(table) else text.replace("</TABLE>", f"{_NO_ROWS}</TABLE>")


TEXT_FORMATS: dict[str, Callable[[Sequence[Column], Iterable[Row]], Iterator[str]]] = {
    "csv": as_csv,
    "json": as_json,
    "votable": as_votable,
}


def astropy_table(columns: Sequence[Column], rows: Iterable[Row]) -> "Table":
    """Return the rows as an astropy Table with units, UCDs and descriptions; NULL is masked."""
    from astropy.table import Table

    values = [*zip(*rows, strict=True)] or [()] * len(columns)
    return Table([_astropy_column(*each) for each in zip(columns, values, strict=True)])


def _astropy_column(column: Column, values: Sequence[Any]) -> "MaskedColumn":
    import numpy as np
    from astropy.table import MaskedColumn

    written = [_written(value) for value in values]
    is_null = all(value is None for value in written)
    # A column of obscore in an answer to SQL may have been given its name by the query.
    kind = column.kind if column.kind and (is_null or not column.utype) else _kind_of(written)
    fill, dtype = _DTYPES.get(kind, ("", str))
    texts_or_numbers = [fill if value is None else dtype(value) for value in written]
    made = MaskedColumn(
        np.array(texts_or_numbers, dtype=dtype),
        name=column.name,
        mask=[value is None for value in values],
        unit=column.unit or None,
        description=column.description or None,
    )
    made.info.meta = {
        name: text
        for name, text in (("ucd", column.ucd), ("utype", column.utype), ("xtype", column.xtype))
        if text
    }
    return made


def _kind_of(values: list[Any]) -> ValueKind:
    """Return the kind that holds all values of an answer to SQL."""
    types = {type(value) for value in values if value is not None}
    if types <= {int, bool} and types and all(abs(value) < 2**63 for value in values if value is not None):
        return ValueKind.INTEGER
    return ValueKind.REAL if types and types <= {int, float, bool} else ValueKind.TEXT


def _cells(columns: Sequence[Column], row: Row) -> list[str]:
    return [_cell(column.unit, value) for column, value in zip(columns, row, strict=True)]


def _cell(unit: str, value: Any) -> str:
    """Return a value for people: rounded, and in one line."""
    if value is None:
        return ""
    if isinstance(value, float):
        return format(value, _ROUNDED.get(unit, ".10g"))
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return escaped(str(_written(value)))


def _written(value: Any) -> Any:
    """Return a value for a program: a number, a text or None."""
    if isinstance(value, datetime):
        whole = value.replace(tzinfo=None)
        return f"{whole.isoformat(timespec='milliseconds' if whole.microsecond else 'seconds')}Z"
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _in_xml(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return _NOT_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), value)
    return value


def _fitted(widths: list[int], most: int | None) -> list[int]:
    """Return the widths, the largest ones reduced until a line with all columns has ``most`` characters."""
    if most is None:
        return widths
    available = most - len(_GAP) * (len(widths) - 1)
    limit = max(widths, default=0)
    while limit > _LEAST_WIDTH and sum(min(width, limit) for width in widths) > available:
        limit -= 1
    return [min(width, limit) for width in widths]


def _cut(text: str, width: int) -> str:
    """Return the text, without its middle where it is too long: names differ at their ends."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[-end:]}"
