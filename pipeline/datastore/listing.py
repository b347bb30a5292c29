"""Listings: the ``index.txt`` of the root, of a product and of a fileset (protocol notes, "Listings").

Rules of the protocol, without network and disk:

* A listing is valid only if it has its ``#`` line with the expected first column. Anything else,
  whatever the status code, means that the server had no listing to send; never that the listing is empty.
* Every row ends in ``|``; a last row without it was cut off in the transfer.
* A ``#`` line whose first column is the expected one puts new columns in force for the rows below. Another
  one is a comment, unless it has the fields of a row: no name begins with ``#``, such a row is damaged.
* Rows may be shorter than the header; further columns are kept by name; unknown types are kept.
* Columns with free text may have any byte, a ``|`` and even a line end in it. Names, times, sizes and md5
  sums are ASCII. Text is read and written as latin-1, so that every byte stays as it came.
* Of two rows of one name in the listing of the root or of a product, the later one holds.
"""

import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from io import BytesIO
from itertools import islice
from typing import TypeVar

from pipeline.errors import ContentMismatch, ServerUnavailable

# Name of each listing; in the folder of a fileset, no other file has it.
INDEX = "index.txt"
ENCODING = "latin-1"
# Type of filesets of bundles, in capitals.
DISTRIBUTION = "IPP-DIST"
_MD5 = re.compile(r"[0-9a-f]{32}")
_SHOWN = 120
# Without groups that capture, which take half of the time.
_TIME = re.compile(
    r"\d\d\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ", re.ASCII
)
# Rows of one listing that are left out, each with a message.
_MESSAGES_AT_MOST = 20
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


@dataclass
class LeftOut:
    """Rows of listings that are left out, with a message about each of the first ones.

    Those that are not ``damaged`` are earlier rows of a name that is listed again.
    """

    damaged: int = 0
    repeated: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, message: str) -> None:
        """Add a damaged row."""
        self.damaged += 1
        self._describe(message)

    def add_repeated(self, message: str) -> None:
        """Add an earlier row of a name that is listed again."""
        self.repeated += 1
        self._describe(message)

    def extend(self, others: "LeftOut") -> None:
        """Add the rows that are left out of another listing."""
        self.damaged += others.damaged
        self.repeated += others.repeated
        self.named += others.named[: _MESSAGES_AT_MOST - len(self.named)]

    def messages(self) -> list[str]:
        """Return a sentence for each of the first rows, and one with the number of the others."""
        others = self.damaged + self.repeated - len(self.named)
        said = [f"{message}. The row is left out." for message in self.named]
        more = "1 more row is" if others == 1 else f"{others} more rows are"
        return said + ([f"{more} left out."] if others else [])

    def _describe(self, message: str) -> None:
        if len(self.named) < _MESSAGES_AT_MOST:
            self.named.append(message)


def read_products(body: bytes, source: str, left_out: LeftOut | None = None) -> list[ProductRow]:
    """Return the products of a root listing. Raises ServerUnavailable when it is not a valid listing.

    A damaged row is left out, and added to ``left_out``.
    """
    found = LeftOut()
    rows = [
        ProductRow(fields[0], None if fields[1] == "none" else fields[1], fields[2], fields[3], fields[4])
        for _, fields in _rows(_rejoined(body, Level.PRODUCTS), Level.PRODUCTS, source, damaged=found.add)
    ]
    return _later_of_each_name(rows, source, found, left_out)


def read_filesets(body: bytes, source: str, left_out: LeftOut | None = None) -> list[FilesetRow]:
    """Return the filesets of a product listing, oldest registration first.

    Raises ServerUnavailable when it is not a valid listing. A damaged row is left out, and added to
    ``left_out``.
    """
    found = LeftOut()
    rows = [
        FilesetRow(fields[0], fields[1], fields[2], columns, fields)
        for columns, fields in _rows(
            _rejoined(body, Level.FILESETS), Level.FILESETS, source, damaged=found.add
        )
    ]
    return _later_of_each_name(rows, source, found, left_out)


def scan_filesets(lines: Iterable[str], source: str, but: Container[str] = ()) -> Iterator[FilesetRow]:
    """Yield the filesets of the lines of a product listing, without those whose names are in ``but``.

    Only the names of the latter are parsed. Raises ServerUnavailable at the first line that is not valid.
    """
    for columns, fields in _rows(enumerate(lines, start=1), Level.FILESETS, source, but):
        yield FilesetRow(fields[0], fields[1], fields[2], columns, fields)


def fileset_columns(line: str) -> tuple[str, ...] | None:
    """Return the columns that a ``#`` line of a product listing puts in force; None when it puts none."""
    return _header(line, Level.FILESETS)


def read_files(body: bytes, source: str) -> list[FileRow]:
    """Return the files of a fileset listing.

    Raises ServerUnavailable when it is not a valid listing, ContentMismatch when a row makes no sense
    (a size that is no number, an md5 that is no md5, a file listed twice).
    """
    numbered = _rejoined(body, Level.FILES)
    rows = [_file_row(columns, fields, source) for columns, fields in _rows(numbered, Level.FILES, source)]
    _refuse_repeats(rows, source)
    return rows


def write_products(rows: Iterable[ProductRow]) -> bytes:
    """Return the rows as a root listing."""
    lines = ["# productID|Most recent|Time registered|type|Description|"]
    lines += [
        f"{row.name}|{row.most_recent or 'none'}|{row.registered}|{row.type}|{row.description}|"
        for row in rows
    ]
    return ("\n".join(lines) + "\n").encode(ENCODING)


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
    return ("\n".join(lines) + "\n").encode(ENCODING)


def registered_order(registered: str) -> str:
    """Return a key by which registration times are in order; a text of another form is the earliest.

    Texts of one form are in the order of the times, and faster to compare.
    """
    return registered if _TIME.fullmatch(registered) else ""


def registered_time(registered: str) -> datetime | None:
    """Return the registration time of a row (UTC); None when the server's text is not a time."""
    try:
        return datetime.strptime(registered, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _refuse(message: str) -> None:
    raise ServerUnavailable(f"{message}. The next run tries again.")


def _rows(
    numbered: Iterator[tuple[int, str]],
    level: Level,
    source: str,
    but: Container[str] = (),
    damaged: Callable[[str], None] = _refuse,
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield the columns in force and the fields of each row whose first field is not in ``but``.

    ``damaged`` is called with a message for each row that makes no sense.
    """
    columns: tuple[str, ...] | None = None
    start: list[str] = []
    for number, line in numbered:
        if columns is not None and line.partition("|")[0].strip() in but:
            continue
        if columns is None:
            start.append(line)
        line = line.strip()
        if line.startswith("#"):
            header = _header(line, level)
            if columns is not None and header is None and _has_fields_of_row(line, level):
                damaged(f"{source}, line {number}: expected a name without '#', got {line[:_SHOWN]!a}")
            columns = header or columns
        elif line and columns is None:
            break
        elif line and columns is not None:
            fields = _fields(line, level, f"{source}, line {number}", damaged)
            if fields is not None:
                yield columns, fields
    if columns is None:
        shown = "".join([*start, *(line for _, line in islice(numbered, _SHOWN))]).encode(ENCODING)
        raise ServerUnavailable(
            f"{source}: expected a listing with a '# {level.first_column} |…' line, got {_excerpt(shown)}. "
            "Nothing is changed in the mirror; the next run tries again."
        )


def _rejoined(body: bytes, level: Level) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers, a row with a line end in its free text as one line.

    Such a row goes on in the next lines until one ends in ``|``. It has no more fields than columns:
    otherwise the next line is a row of its own, and the unfinished one keeps the fields that it has.
    """
    width = 0
    unfinished: list[str] = []
    begin, bars = 0, 0
    for number, line in enumerate(_lines(body), start=1):
        if not unfinished and line.endswith("|\n") and not line.startswith("#"):
            yield number, line  # nearly every line
            continue
        header = _header(line.strip(), level) if line.startswith("#") else None
        width = len(header) if header else width
        bars += line.count("|")
        if unfinished and (header or bars > width):
            yield begin, f"{' '.join(unfinished)}|"
            unfinished = []
        if unfinished or (width and _is_unfinished(line)):
            if not unfinished:
                begin, bars = number, line.count("|")
            unfinished.append(line.strip())
            if line.rstrip().endswith("|"):
                yield begin, " ".join(unfinished)
                unfinished = []
        else:
            yield number, line
    if unfinished:
        yield begin, " ".join(unfinished)


def _is_unfinished(line: str) -> bool:
    line = line.strip()
    return bool(line) and not line.startswith("#") and not line.endswith("|")


def _lines(body: bytes) -> Iterator[str]:
    """Yield the lines one by one: a list of a million lines would be a second copy in memory.

    NUL bytes become blanks: in a local listing they mean that the file is damaged.
    """
    if b"\0" in body:
        body = body.replace(b"\0", b" ")
    return (line.decode(ENCODING) for line in BytesIO(body))


def _header(line: str, level: Level) -> tuple[str, ...] | None:
    if len(line) > _LONGEST_ROW:
        return None
    columns = tuple(column.strip() for column in line.lstrip("#").strip().removesuffix("|").split("|"))
    return columns if columns[0] == level.first_column and len(columns) >= level.required else None


def _has_fields_of_row(line: str, level: Level) -> bool:
    return len(line) <= _LONGEST_ROW and line.endswith("|") and line.count("|") >= level.required


def _fields(line: str, level: Level, where: str, damaged: Callable[[str], None]) -> tuple[str, ...] | None:
    """Return the fields of a row; None for one that makes no sense, after a call of ``damaged``.

    Raises ServerUnavailable for a row that is cut off.
    """
    if len(line) > _LONGEST_ROW:
        damaged(f"{where}: expected at most {_LONGEST_ROW} bytes, got {len(line)}: {line[:_SHOWN]!a}")
        return None
    if not line.endswith("|"):
        raise ServerUnavailable(
            f"{where}: every row ends in '|', this one is cut off: {line[-_SHOWN:]!a}. "
            "The next run tries again."
        )
    fields = tuple(value.strip() for value in line[:-1].split("|"))
    if len(fields) < level.required:
        damaged(f"{where}: expected at least {level.required} fields, got {len(fields)}: {line[:_SHOWN]!a}")
    elif not (fields[0].isascii() and fields[1].isascii()):
        damaged(f"{where}: expected a row that begins with ASCII text, got {line[:_SHOWN]!a}")
    else:
        return fields
    return None


def _file_row(columns: tuple[str, ...], fields: tuple[str, ...], source: str) -> FileRow:
    name, size, md5, kind = fields[:4]
    md5 = md5.lower()
    if not (size.isascii() and size.isdigit() and len(size) < 20 and int(size) <= _LARGEST_FILE):
        raise ContentMismatch(
            f"{source}: expected a size in bytes (at most 10**14) for file {name!r}, got {size[:_SHOWN]!r}"
        )
    if md5 and not _MD5.fullmatch(md5):
        raise ContentMismatch(f"{source}: expected an md5 of 32 hex digits for file {name!r}, got {md5!r}")
    extra = dict(zip(columns[4:], fields[4:], strict=False))
    if len(fields) > 4 and fields[4] and (len(columns) == 4 or not columns[4]):
        # The name of the fifth column may be missing (protocol notes, "Listings").
        extra = {"component": fields[4], **{name: value for name, value in extra.items() if name}}
    return FileRow(name, int(size), md5 or None, kind, extra)


Row = TypeVar("Row", ProductRow, FilesetRow)


def _later_of_each_name(rows: list[Row], source: str, found: LeftOut, left_out: LeftOut | None) -> list[Row]:
    """Return the rows without those of whose name there is a later one (protocol notes, "Listings").

    Those and the ones in ``found`` are added to ``left_out``.
    """
    last = {row.name: number for number, row in enumerate(rows)}
    for number, row in enumerate(rows) if len(last) < len(rows) else ():
        if last[row.name] != number:
            found.add_repeated(f"{source}: {row.name!r} is listed more than once, and its last row holds")
    if left_out is not None:
        left_out.extend(found)
    return [row for number, row in enumerate(rows) if last[row.name] == number]


def _refuse_repeats(rows: list[FileRow], source: str) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.name in seen:
            raise ContentMismatch(f"{source}: {row.name!r} is listed twice; expected each name once")
        seen.add(row.name)


def _excerpt(body: bytes) -> str:
    text = body[:_SHOWN].decode(ENCODING).strip()
    return f"{text!a}{'…' if len(body) > _SHOWN else ''}" if text else "an empty body"
