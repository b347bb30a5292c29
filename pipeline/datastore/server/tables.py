"""Listings as tables of bytes, parsed, and laid out as the original does (protocol notes, "Listings").

* The root listing has columns of fixed least widths; longer values push the rest to the right.
* A product listing has its columns padded to the widest value of the rows it shows, so an empty one is
  not padded at all. No column is padded to more than the longest name: one long value would multiply the
  size of the listing.
* Both end in a blank line.

Values are bytes from end to end: a server passes on what a publisher wrote, text or not. The strict reading
of listings is ``pipeline.datastore.listing``.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, repeat, zip_longest

from pipeline.names import MAX_SEGMENT_BYTES

Cells = tuple[bytes, ...]
"""Fields of one line of a listing, without blanks around them."""

Row = tuple[Cells, Cells]
"""Row with the header in force for it: (header, row)."""

ROOT_HEADER: Cells = (b"# productID", b"Most recent", b"Time registered", b"type", b"Description")
PRODUCT_HEADER: Cells = (b"# filesetID", b"time registered", b"type")

_ROOT_WIDTHS = (13, 12, 20, 9, 32)


def parse_tables(listing: bytes) -> Iterator[list[Cells]]:
    """Yield the tables of a listing: the cells of a ``#`` line (the first begins with ``#``), then its rows.

    >>> list(parse_tables(b"# fileID |bytes|\\na.fits   |    3|\\n"))
    [[(b'# fileID', b'bytes'), (b'a.fits', b'3')]]
    """
    table: list[Cells] = []
    for line in listing.split(b"\n"):
        line = line.strip()
        if line.startswith(b"#") and table:
            yield table
            table = []
        if line:
            table.append(split_cells(line))
    if table:
        yield table


def split_cells(line: bytes) -> Cells:
    """Return the cells of a line without blanks at its ends."""
    return tuple(cell.strip() for cell in line.removesuffix(b"|").split(b"|"))


def parse_rows(listing: bytes) -> list[Row]:
    """Return the rows of all tables of a listing, each with its header."""
    return [(table[0], cells) for table in parse_tables(listing) for cells in table[1:]]


def row_lines(listing: bytes) -> list[tuple[bytes, bytes]]:
    """Return the lines of the rows of all tables of a listing, each with the line of its header."""
    rows: list[tuple[bytes, bytes]] = []
    header = b""
    for line in listing.split(b"\n"):
        line = line.strip()
        if line.startswith(b"#") or not header:
            header = line
        elif line:
            rows.append((header, line))
    return rows


def write_lines(lines: Iterable[Cells]) -> bytes:
    """Return the lines as a listing without padding."""
    return b"".join(b"|".join(cells) + b"|\n" for cells in lines)


def rows_after(listing: bytes, fileset: bytes) -> bytes | None:
    """Return the part of a product listing below the row of the fileset, under the ``#`` line in force there.

    Upper and lower case are the same, but a row of exactly that name comes first; of several such rows the
    last one counts. None when no row below a ``#`` line has that name.
    """
    row = _find_row(listing, fileset.strip()) if fileset.strip() else None
    if row is None:
        return None
    header = listing.rfind(b"\n#", 0, row.start()) + 1
    if not listing.startswith(b"#", header):
        return None
    end = listing.find(b"\n", row.end()) + 1 or len(listing)
    return listing[header : listing.find(b"\n", header) + 1] + listing[end:]


def _find_row(listing: bytes, fileset: bytes) -> re.Match[bytes] | None:
    # A pattern that begins with a line end is searched for at the speed of the memory.
    row = rb"\n[ \t\r\f\v]*(%b)[ \t\r\f\v]*(?=[|\n]|\Z)" % re.escape(fileset)
    found = None
    for match in re.finditer(row, listing, re.IGNORECASE):
        if found is None or match[1] == fileset or found[1] != fileset:
            found = match
    return found


def lay_out_root(tables: Iterable[list[Cells]]) -> bytes:
    """Return the tables as the original prints its root listing."""
    return _lay_out(tables, _ROOT_WIDTHS)


def lay_out_product(listing: bytes) -> bytes:
    """Return a product listing as the original prints it."""
    return _lay_out(parse_tables(listing))


def _lay_out(tables: Iterable[list[Cells]], widths: tuple[int, ...] = ()) -> bytes:
    """Return the tables with their columns padded to ``widths``, or else to the widest of each, in bounds.

    Of tables without rows only the last is kept, and only when no other has any.
    """
    tables = list(tables)
    lines = []
    for table in [table for table in tables if len(table) > 1] or tables[-1:]:
        widest = (max(map(len, column)) for column in zip_longest(*table, fillvalue=b""))
        least = widths or [min(width, MAX_SEGMENT_BYTES) for width in widest]
        lines += [_pad(cells, least) for cells in table]
    return b"".join(lines) + b"\n"


def _pad(cells: Cells, widths: Iterable[int]) -> bytes:
    widths = chain(widths, repeat(0))
    return b"".join(cell.ljust(width) + b"|" for cell, width in zip(cells, widths, strict=False)) + b"\n"
