"""The pages of a Data Store for people: what a listing says, as a table with links.

Every link is relative, so the pages work below any prefix and behind a proxy that changes it; and the same
with or without a slash at the end of the URL that was asked for.
"""

import os
from dataclasses import dataclass
from html import escape
from itertools import groupby, zip_longest
from urllib.parse import quote

from pipeline.datastore.server.tree import Cells, tables_of

ROWS_PER_PAGE = 200

_NUMBERS = {"bytes", "target_id", "stage_id"}
_TITLES = ("Data Store", "Product {}", "Fileset {}")
_THINGS = ("product", "fileset", "file")
_EMPTY = ("Nothing is published here yet.", "This product has no filesets.", "This fileset has no files.")

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #667; --link: #0b57b0; --head: #8881; }
@media (prefers-color-scheme: dark) { :root { --dim: #99a; --link: #8ab8f5; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 90rem; padding: 1rem 1.5rem 3rem; }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus { text-decoration: underline; }
nav ol { list-style: none; padding: 0; margin: 0; display: flex; flex-wrap: wrap; }
nav ol li + li::before { content: "/"; color: var(--dim); padding: 0 .5rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .75rem 0 .25rem; overflow-wrap: anywhere; }
.facts { color: var(--dim); margin: 0 0 1rem; }
.tables { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
table + table { margin-top: 1.5rem; }
caption { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
th, td { text-align: left; padding: .3rem 1.25rem .3rem .5rem; white-space: nowrap; }
thead th { background: var(--head); border-bottom: 2px solid var(--line); }
tbody th { font-weight: normal; }
tbody tr { border-bottom: 1px solid var(--line); }
tbody tr:hover { background: var(--head); }
.number { text-align: right; }
.none { color: var(--dim); }
td.md5 { font-family: ui-monospace, monospace; font-size: .8125rem; }
.pages { list-style: none; padding: 0; margin: 0 0 1rem; display: flex; flex-wrap: wrap; gap: 1.25rem; }
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the Data Store a page is.

    ``names`` are its product and fileset, as far as there are any; ``last`` is what follows the last slash of
    the URL that was asked for, empty when that ends in a slash.
    """

    names: tuple[str, ...]
    last: str

    def down(self, *names: bytes) -> str:
        """A link to what lies below."""
        return self._here() + "/".join(quote(name, safe="") for name in names)

    def up(self, levels: int) -> str:
        """A link to the page that many levels higher."""
        return self._here() + "../" * levels

    def _here(self) -> str:
        return f"./{self.last}/" if self.last else "./"


def page(place: Place, listing: bytes, number: int = 1) -> str:
    """The page of a listing; of a product, the ``number``-th page of its filesets, newest first."""
    level = len(place.names)
    rows = [(table[0], cells) for table in tables_of(listing) for cells in table[1:]]
    size = ROWS_PER_PAGE if level == 1 else max(len(rows), 1)
    last = max(-(-len(rows) // size), 1)
    number = min(max(number, 1), last)
    shown = (rows[::-1] if level == 1 else rows)[(number - 1) * size : number * size]
    tables = "".join(
        _table(place, header, [cells for _, cells in group])
        for header, group in groupby(shown, key=lambda row: row[0])
    )
    text_version = escape(place.down(b"index.txt"))
    return _document(
        _TITLES[level].format(*map(_shown, place.names[-1:])),
        _breadcrumb(place),
        f'<p class="facts">{_facts(level, rows)} · <a href="{text_version}">text version</a></p>',
        _page_links(number, last),
        f'<div class="tables">{tables}</div>' if tables else f"<p>{_EMPTY[level]}</p>",
    )


def _document(title: str, *parts: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"{parts[0]}\n<main>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts[1:])
        + "\n</main>\n</body>\n</html>\n"
    )


def _breadcrumb(place: Place) -> str:
    names = ["Data Store", *map(_shown, place.names)]
    *above, here = (escape(name) for name in names)
    links = "".join(
        f'<li><a href="{escape(place.up(len(above) - level))}">{name}</a></li>'
        for level, name in enumerate(above)
    )
    return f'<nav aria-label="Breadcrumb"><ol>{links}<li aria-current="page">{here}</li></ol></nav>'


def _facts(level: int, rows: list[tuple[Cells, Cells]]) -> str:
    count = f"{len(rows):,} {_THINGS[level]}{'' if len(rows) == 1 else 's'}"
    if level == 1:
        return f"{count}, newest first"
    if level == 2:
        return f"{count}, {sum(_size(cells[1]) for _, cells in rows if len(cells) > 1):,} bytes"
    return count


def _table(place: Place, header: Cells, rows: list[Cells]) -> str:
    columns = [_text(cell.lstrip(b"# ")) for cell in header]
    head = "".join(f'<th scope="col"{_kind(column)}>{escape(column)}</th>' for column in columns)
    body = "\n".join(_row(place, columns, cells) for cells in rows)
    caption = f"<caption>{_THINGS[len(place.names)].capitalize()}s</caption>"
    return f"<table>\n{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _row(place: Place, columns: list[str], cells: Cells) -> str:
    name = _link(place.down(cells[0]), cells[0])
    rest = [
        f"<td{_kind(column)}>{_value(place, column, cell, cells[0])}</td>"
        for column, cell in zip_longest(columns[1:], cells[1:], fillvalue="")
    ]
    return f'<tr><th scope="row">{name}</th>{"".join(rest)}</tr>'


def _value(place: Place, column: str, cell: bytes | str, name: bytes) -> str:
    if not cell or cell in {b"null", b"none"}:
        return '<span class="none">–</span>'
    if column == "Most recent":
        return _link(place.down(name, cell), cell)
    return f"{_size(cell):,}" if column == "bytes" and _size(cell) else escape(_text(cell))


def _link(target: str, name: bytes) -> str:
    return f'<a href="{escape(target)}">{escape(_text(name))}</a>'


def _kind(column: str) -> str:
    if column in _NUMBERS:
        return ' class="number"'
    return ' class="md5"' if column == "md5sum" else ""


def _page_links(number: int, last: int) -> str:
    if last == 1:
        return ""
    steps = [("Newest", 1), ("Newer", number - 1), ("Older", number + 1), ("Oldest", last)]
    links = [
        f'<li><a href="?page={to}">{word}</a></li>'
        if 1 <= to <= last and to != number
        else f"<li>{word}</li>"
        for word, to in steps
    ]
    links.append(f"<li>Page {number:,} of {last:,}</li>")
    return f'<nav aria-label="Pages"><ul class="pages">{"".join(links)}</ul></nav>'


def _text(cell: bytes) -> str:
    return cell.decode("utf-8", "replace")


def _shown(name: str) -> str:
    """The name of a folder, with what is not UTF-8 in it made visible."""
    return _text(os.fsencode(name))


def _size(cell: bytes) -> int:
    return int(cell) if cell.isdigit() and len(cell) < 20 else 0
