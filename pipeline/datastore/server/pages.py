"""HTML pages of a Data Store: a listing as a table with links.

Every link is relative, so the pages work below any prefix and behind a proxy that changes it; and the same
with or without a slash at the end of the requested URL.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.datastore.server.tables import Cells, Row, parse_rows

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
class Place:
    """Position of a page in the Data Store.

    ``names`` are the product and the fileset, as far as the URL has them; ``last`` is the text after the last
    slash of the requested URL, empty when the URL ends in a slash.
    """

    names: tuple[str, ...]
    last: str

    def down(self, *names: bytes) -> str:
        """Return a link to an item below."""
        return self._here() + "/".join(quote(name, safe="") for name in names)

    def up(self, levels: int) -> str:
        """Return a link to the page that many levels higher."""
        return self._here() + "../" * levels

    def _here(self) -> str:
        return f"./{self.last}/" if self.last else "./"


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


def render_page(place: Place, listing: bytes, number: int, *, rows_per_page: int) -> str:
    """Return the page of a listing as HTML.

    The filesets of a product are shown newest first, ``rows_per_page`` on a page, of which this is the
    ``number``-th or the nearest to it.
    """
    depth, rows = len(place.names), parse_rows(listing)
    size = rows_per_page if depth == 1 else max(len(rows), 1)
    last = max(-(-len(rows) // size), 1)
    number = min(max(number, 1), last)
    shown = (rows[::-1] if depth == 1 else rows)[(number - 1) * size : number * size]
    level = _LEVELS[depth]
    *above, here = ["Data Store", *map(_display, place.names)]
    return _TEMPLATES.get_template("listing.html").render(
        title=level.title.format(here),
        here=here,
        breadcrumb=[Text(name, place.up(depth - at)) for at, name in enumerate(above)],
        facts=_facts(level, rows),
        text_version=place.down(b"index.txt"),
        number=number,
        last=last,
        caption=f"{level.item.capitalize()}s",
        tables=list(_tables(place, shown)),
        empty=level.empty,
    )


def _facts(level: Level, rows: list[Row]) -> str:
    count = f"{len(rows):,} {level.item}{'' if len(rows) == 1 else 's'}"
    if level.item == "fileset":
        return f"{count}, newest first"
    if level.item == "file":
        return f"{count}, {sum(_size(cells[1]) for _, cells in rows if len(cells) > 1):,} bytes"
    return count


def _tables(place: Place, rows: list[Row]) -> Iterator[Table]:
    for header, group in groupby(rows, key=lambda row: row[0]):
        columns = [_decode(cell.lstrip(b"# ")) for cell in header]
        yield Table(columns, [_table_row(place, columns, cells) for _, cells in group])


def _table_row(place: Place, columns: list[str], cells: Cells) -> list[Text]:
    name, *values = cells
    rest = [
        _value(place, column or "", cell or b"", name) for column, cell in zip_longest(columns[1:], values)
    ]
    return [Text(_decode(name), place.down(name)), *rest]


def _value(place: Place, column: str, cell: bytes, name: bytes) -> Text:
    if cell in _MISSING:
        return Text("", None, column)
    if column == "Most recent":
        return Text(_decode(cell), place.down(name, cell), column)
    return Text(f"{_size(cell):,}" if column == "bytes" and _size(cell) else _decode(cell), None, column)


def _decode(cell: bytes) -> str:
    return cell.decode("utf-8", "replace")


def _display(name: str) -> str:
    """Return the name of a folder for display, bytes that are not UTF-8 as replacement characters."""
    return _decode(os.fsencode(name))


def _size(cell: bytes) -> int:
    return int(cell) if cell.isdigit() and len(cell) < 20 else 0
