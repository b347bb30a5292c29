"""Listings: the ``index.txt`` of the root, of a product and of a fileset (protocol notes, "Listings").

Rules of the protocol, without network and disk:

* A listing is valid only if it has its ``#`` line with the expected first column. Anything else,
  whatever the status code, means that the server had no listing to send; never that the listing is empty.
* Every row ends in ``|``; a last row without it was cut off in the transfer.
* A ``#`` line whose first column is the expected one puts new columns in force for the rows below.
* Rows may be shorter than the header; further columns are kept by name; unknown types are kept.
"""

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from io import BytesIO
from itertools import islice

from pipeline.errors import ContentMismatch, ServerUnavailable

_MD5 = re.compile(r"[0-9a-f]{32}")
_SHOWN = 120
# Far beyond any row of a listing: to split a longer one into fields takes time and memory for nothing.
_LONGEST_ROW = 1 << 16
# Bytes. No disk holds such a file: a larger size is an error of its row, not of this machine.
_LARGEST_FILE = 10**14


class Level(Enum):
    """Kind of listing: name of its first column, and least number of columns of a row."""

    PRODUCTS = ("productID", 5)
    FILESETS = ("filesetID", 3)
    FILES = ("fileID", 4)

    def __init__(self, first_column: str, required: int) -> None:
        self.first_column = first_column
        self.required = required


@dataclass(frozen=True, slots=True)
class ProductRow:
    """Product of the root listing; ``most_recent`` is None for an empty product."""

    name: str
    most_recent: str | None
    registered: str
    type: str
    description: str


@dataclass(frozen=True, slots=True)
class FilesetRow:
    """Fileset of a product listing.

    ``registered`` is UTC as the server writes it (``2009-07-29T03:02:13Z``). ``columns`` are the
    names in force for this row and ``fields`` its values, both from the first column on.
    """

    name: str
    registered: str
    type: str
    columns: tuple[str, ...] = field(repr=False)
    fields: tuple[str, ...] = field(repr=False)

    def column(self, name: str) -> str | None:
        """Return the value of the column of that name; None where the row has none, or ``null``."""
        for column, value in zip(self.columns, self.fields, strict=False):
            if column == name:
                return None if value == "null" else value
        return None


@dataclass(frozen=True, slots=True)
class FileRow:
    """File of a fileset listing: size in bytes, ``md5`` None when the server publishes none."""

    name: str
    bytes: int
    md5: str | None
    type: str
    extra: dict[str, str]

    @property
    def component(self) -> str | None:
        """Component to which the file belongs, as listed."""
        return self.extra.get("component")

    @property
    def is_bundle(self) -> bool:
        """True for the archive of a component (protocol notes, "Distribution filesets")."""
        return self.type == "tgz" and bool(self.component)


def read_products(body: bytes, source: str) -> list[ProductRow]:
    """Return the products of a root listing. Raises ServerUnavailable when it is not a valid listing."""
    return [
        ProductRow(fields[0], None if fields[1] == "none" else fields[1], fields[2], fields[3], fields[4])
        for _, fields in _rows(_lines(body, source), Level.PRODUCTS, source)
    ]


def read_filesets(body: bytes, source: str) -> list[FilesetRow]:
    """Return the filesets of a product listing, oldest registration first.

    Raises ServerUnavailable when it is not a valid listing, or lists one name twice.
    """
    rows = list(scan_filesets(_lines(body, source), source))
    _refuse_repeats((row.name for row in rows), source, ServerUnavailable)
    return rows


def scan_filesets(lines: Iterable[str], source: str, but: Container[str] = ()) -> Iterator[FilesetRow]:
    """Yield the filesets of the lines of a product listing, without those whose names are in ``but``.

    Only the names of the latter are parsed. Raises ServerUnavailable at the first line that is not valid.
    """
    for columns, fields in _rows(lines, Level.FILESETS, source, but):
        yield FilesetRow(fields[0], fields[1], fields[2], columns, fields)


def fileset_columns(line: str) -> tuple[str, ...] | None:
    """Return the columns that a ``#`` line of a product listing puts in force; None when it puts none."""
    return _header(line, Level.FILESETS)


def read_files(body: bytes, source: str) -> list[FileRow]:
    """Return the files of a fileset listing.

    Raises ServerUnavailable when it is not a valid listing, ContentMismatch when a row makes no sense
    (a size that is no number, an md5 that is no md5, a file listed twice).
    """
    lines = _lines(body, source)
    rows = [_file_row(columns, fields, source) for columns, fields in _rows(lines, Level.FILES, source)]
    _refuse_repeats((row.name for row in rows), source, ContentMismatch)
    return rows


def write_products(rows: Iterable[ProductRow]) -> bytes:
    """Return the rows as a root listing."""
    lines = ["# productID|Most recent|Time registered|type|Description|"]
    lines += [
        f"{row.name}|{row.most_recent or 'none'}|{row.registered}|{row.type}|{row.description}|"
        for row in rows
    ]
    return ("\n".join(lines) + "\n").encode()


def write_filesets(rows: Iterable[FilesetRow], columns: tuple[str, ...] = ()) -> bytes:
    """Return the rows as a product listing, with a ``#`` line wherever the columns change.

    ``columns`` are those in force already, when the rows are added to a listing.
    """
    lines: list[str] = []
    for row in rows:
        if row.columns != columns:
            columns = row.columns
            lines.append("# " + "".join(f"{column}|" for column in columns))
        lines.append("".join(f"{value}|" for value in row.fields))
    if not lines:
        lines.append("# filesetID|time registered|type|")
    return ("\n".join(lines) + "\n").encode()


def registered_time(registered: str) -> datetime | None:
    """Return the registration time of a row (UTC); None when the server's text is not a time."""
    try:
        return datetime.strptime(registered, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _rows(
    lines: Iterable[str], level: Level, source: str, but: Container[str] = ()
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield the columns in force and the fields of each row whose first field is not in ``but``."""
    columns: tuple[str, ...] | None = None
    start: list[str] = []
    numbered = enumerate(lines, start=1)
    for number, line in numbered:
        if columns is not None and line.partition("|")[0].strip() in but:
            continue
        if columns is None:
            start.append(line)
        line = line.strip()
        if line.startswith("#"):
            columns = _header(line, level) or columns
        elif line and columns is None:
            break
        elif line and columns is not None:
            yield columns, _fields(line, level, f"{source}, line {number}")
    if columns is None:
        shown = "".join([*start, *(line for _, line in islice(numbered, _SHOWN))]).encode()
        raise ServerUnavailable(
            f"{source}: expected a listing with a '# {level.first_column} |…' line, got {_excerpt(shown)}. "
            "Nothing is changed in the mirror; the next run tries again."
        )


def _lines(body: bytes, source: str) -> Iterator[str]:
    """Yield the lines one by one: a list of a million lines would be a second copy in memory."""
    if not body.isascii():
        raise ServerUnavailable(
            f"{source}: expected a listing of ASCII text, got {_excerpt(body)}. The next run tries again."
        )
    return (line.decode("ascii") for line in BytesIO(body))


def _header(line: str, level: Level) -> tuple[str, ...] | None:
    if len(line) > _LONGEST_ROW:
        return None
    columns = tuple(column.strip() for column in line.lstrip("#").strip().removesuffix("|").split("|"))
    return columns if columns[0] == level.first_column and len(columns) >= level.required else None


def _fields(line: str, level: Level, where: str) -> tuple[str, ...]:
    if len(line) > _LONGEST_ROW:
        raise ServerUnavailable(
            f"{where}: expected a row of at most {_LONGEST_ROW} bytes, got {len(line)}: {line[:_SHOWN]!r}. "
            "The next run tries again."
        )
    if not line.endswith("|"):
        raise ServerUnavailable(
            f"{where}: every row ends in '|', this one is cut off: {line[-_SHOWN:]!r}. "
            "The next run tries again."
        )
    fields = tuple(value.strip() for value in line[:-1].split("|"))
    if len(fields) < level.required:
        raise ServerUnavailable(
            f"{where}: expected at least {level.required} fields, got {len(fields)}: {line[:_SHOWN]!r}. "
            "The next run tries again."
        )
    return fields


def _file_row(columns: tuple[str, ...], fields: tuple[str, ...], source: str) -> FileRow:
    name, size, md5, kind = fields[:4]
    md5 = md5.lower()
    if not (size.isascii() and size.isdigit() and len(size) < 20 and int(size) <= _LARGEST_FILE):
        raise ContentMismatch(
            f"{source}: expected a size in bytes (at most 10**14) for file {name!r}, got {size[:_SHOWN]!r}"
        )
    if md5 and not _MD5.fullmatch(md5):
        raise ContentMismatch(f"{source}: expected an md5 of 32 hex digits for file {name!r}, got {md5!r}")
    return FileRow(name, int(size), md5 or None, kind, dict(zip(columns[4:], fields[4:], strict=False)))


def _refuse_repeats(names: Iterable[str], source: str, error: type[Exception]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise error(f"{source}: {name!r} is listed twice; expected each name once")
        seen.add(name)


def _excerpt(body: bytes) -> str:
    text = body[:_SHOWN].decode("ascii", "backslashreplace").strip()
    return f"{text!r}{'…' if len(body) > _SHOWN else ''}" if text else "an empty body"
