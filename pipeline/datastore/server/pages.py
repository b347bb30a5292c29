"""HTML pages of a Data Store: a listing as a table with links.

Every link is relative to the URL of the page, which ends in a slash, so the pages work below any prefix and
behind a proxy that changes it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.datastore.server.tables import Cells, Row, row_lines, split_cells

_CSS_CLASSES = {"bytes": "number", "target_id": "number", "stage_id": "number", "md5sum": "md5"}
_MISSING = {b"", b"null", b"none"}

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals["css_classes"] = _CSS_CLASSES


@dataclass(frozen=True, slots=True)
class Level:
    """Wording of the pages of the root, of a product, of a fileset; ``item`` is one row of the listing."""

    title: str
    item: str
    empty: str


_LEVELS = (
    Level("Data Store", "product", "Nothing is published here yet."),
    Level("Product {}", "fileset", "This product has no filesets."),
    Level("Fileset {}", "file", "This fileset has no files."),
)


@dataclass(frozen=True, slots=True)
class Text:
    """Text of a cell or of the breadcrumb, empty for a missing value; a link unless ``href`` is None."""

    text: str
    href: str | None = None
    column: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a page; the first text of each row is the linked name of the item."""

    columns: list[str]
    rows: list[list[Text]]


def render_page(
    names: list[str], listing: bytes, number: int, *, rows_per_page: int, upward: bool = True
) -> str:
    """Return the page of a listing as HTML; ``names`` are the product and the fileset, if any.

    Links to the pages above are left out unless ``upward``. The filesets of a product are shown newest
    first, ``rows_per_page`` on a page, of which this is the ``number``-th or the nearest to it.
    """
    # A product may have a million rows, of which only those of the page are split into cells.
    depth, rows = len(names), row_lines(listing)
    size = rows_per_page if depth == 1 else max(len(rows), 1)
    last = max(-(-len(rows) // size), 1)
    number = min(max(number, 1), last)
    lines = (rows[::-1] if depth == 1 else rows)[(number - 1) * size : number * size]
    shown = [(split_cells(header), split_cells(line)) for header, line in lines]
    level = _LEVELS[depth]
    *above, here = ["Data Store", *map(_display, names)]
    return _TEMPLATES.get_template("listing.html").render(
        title=level.title.format(here),
        here=here,
        breadcrumb=[Text(name, "../" * (depth - at) if upward else None) for at, name in enumerate(above)],
        facts=_facts(level, len(rows), shown),
        text_version="./index.txt",
        number=number,
        last=last,
        caption=f"{level.item.capitalize()}s",
        tables=list(_tables(depth, shown)),
        empty=level.empty,
    )


def _facts(level: Level, number: int, shown: list[Row]) -> str:
    count = f"{number:,} {level.item}{'' if number == 1 else 's'}"
    if level.item == "fileset":
        return f"{count}, newest first"
    if level.item == "file":
        return f"{count}, {sum(_size(cells[1]) for _, cells in shown if len(cells) > 1):,} bytes"
    return count


def _tables(depth: int, rows: list[Row]) -> Iterator[Table]:
    for header, group in groupby(rows, key=lambda row: row[0]):
        columns = [_decode(cell.lstrip(b"# ")) for cell in header]
        yield Table(columns, [_table_row(depth, columns, cells) for _, cells in group])


def _table_row(depth: int, columns: list[str], cells: Cells) -> list[Text]:
    name, *values = cells
    rest = [_value(column or "", cell or b"", name) for column, cell in zip_longest(columns[1:], values)]
    return [Text(_decode(name), _link(name, is_folder=depth < 2)), *rest]


def _value(column: str, cell: bytes, name: bytes) -> Text:
    if cell in _MISSING:
        return Text("", None, column)
    if column == "Most recent":
        return Text(_decode(cell), _link(name, cell, is_folder=True), column)
    return Text(f"{_size(cell):,}" if column == "bytes" and _size(cell) else _decode(cell), None, column)


def _link(*names: bytes, is_folder: bool) -> str:
    """Return a link to an item below the page."""
    return "./" + "/".join(quote(name, safe="") for name in names) + ("/" if is_folder else "")


def _decode(cell: bytes) -> str:
    return cell.decode("utf-8", "replace")


def _display(name: str) -> str:
    """Return the name of a folder for display, bytes that are not UTF-8 as replacement characters."""
    return _decode(os.fsencode(name))


def _size(cell: bytes) -> int:
    return int(cell) if cell.isdigit() and len(cell) < 20 else 0
