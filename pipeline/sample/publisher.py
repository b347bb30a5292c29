"""Publication in a Data Store: a tree of products and filesets with their listings.

A fileset is complete before a listing names it, and listings are replaced in one step, so a store may be
extended while it is served.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path

from pipeline.cores import CORES
from pipeline.datastore.listing import FilesetRow, ProductRow, read_filesets, read_products, registered_time
from pipeline.errors import SettingsError
from pipeline.sample.archive import DigestingFile, Written
from pipeline.sample.plan import ReleaseSummary

_PRODUCT_COLUMNS = ("productID", "Most recent", "Time registered", "type", "Description")
_PRODUCT_WIDTHS = (13, 12, 20, 9, 32)
_FILE_COLUMNS = ("fileID", "bytes", "md5sum", "type")
_FILE_WIDTHS = (18, 8, 32, 12, 8)
_THREADS = min(8, CORES)


@dataclass(frozen=True)
class Product:
    """Product in the root listing, with the ``columns`` of its listing beyond the required three."""

    name: str
    type: str
    description: str
    columns: tuple[str, ...] = ()
    hidden: bool = False


@dataclass(frozen=True)
class PublishedFile:
    """File of a fileset, and its row in the listing.

    ``write`` writes the file to a path. ``extra`` are the values of ``columns``, beyond the required four;
    there may be fewer values than columns. The md5 is left blank unless ``md5_known``.
    """

    name: str
    type: str
    write: Callable[[Path], Written]
    columns: tuple[str, ...] = ("component",)
    extra: tuple[str, ...] = ()
    md5_known: bool = True


def writer_of(content: bytes) -> Callable[[Path], Written]:
    """Return the ``write`` of a file with this content."""

    def write(path: Path) -> Written:
        with DigestingFile(path) as file:
            file.write(content)
            return file.written

    return write


class Publication:
    """Extension of a product; new filesets are listed by ``announce``."""

    def __init__(self, out: Path, product: Product) -> None:
        self.product = product
        self._out = out
        self._folder = out / product.name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._columns = ("filesetID", "time registered", "type", *product.columns)
        self._rows = [row.fields for row in self._listed()]

    @property
    def names(self) -> list[str]:
        """Names of all filesets, oldest first."""
        return [fields[0] for fields in self._rows]

    @property
    def last_registered(self) -> datetime | None:
        """Time of registration of the newest fileset."""
        return registered_time(self._rows[-1][1]) if self._rows else None

    def add(
        self,
        fileset: str,
        registered: datetime,
        type: str,
        files: Sequence[PublishedFile],
        further: Sequence[str] = (),
    ) -> ReleaseSummary:
        """Write a fileset; ``further`` are the values of the columns that only this product has.

        Raises SettingsError if the product has a fileset of that name.
        """
        folder = self._folder / fileset
        try:
            folder.mkdir()
        except FileExistsError:
            raise SettingsError(f"{folder} exists already; it was left as it is") from None
        with ThreadPoolExecutor(_THREADS) as threads:
            written = list(threads.map(lambda file: file.write(folder / file.name), files))
        (folder / "index.txt").write_text(_files_listing(files, written), "ascii")
        time = registered.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._rows.append((fileset, time, type, *further))
        return ReleaseSummary(1, len(files), sum(each.bytes for each in written))

    def announce(self) -> None:
        """List the new filesets, in the product and at the root."""
        table = [self._columns, *self._rows]
        widths = [max(map(len, column)) for column in zip(*_marked(table), strict=True)]
        _replace(self._folder / "index.txt", _laid_out(table, widths))
        if not self.product.hidden:
            self._announce_at_root()

    def _announce_at_root(self) -> None:
        path = self._out / "index.txt"
        known = read_products(path.read_bytes(), str(path)) if path.exists() else []
        rows = {row.name: _product_fields(row) for row in known}
        name, time = self._rows[-1][:2] if self._rows else ("none", "2009-07-28T20:00:00Z")
        rows[self.product.name] = (self.product.name, name, time, self.product.type, self.product.description)
        _replace(path, _laid_out([_PRODUCT_COLUMNS, *rows.values()], _PRODUCT_WIDTHS))

    def _listed(self) -> list[FilesetRow]:
        path = self._folder / "index.txt"
        return read_filesets(path.read_bytes(), str(path)) if path.exists() else []


def _product_fields(row: ProductRow) -> tuple[str, ...]:
    return (row.name, row.most_recent or "none", row.registered, row.type, row.description)


def _files_listing(files: Sequence[PublishedFile], written: Sequence[Written]) -> str:
    """Return the listing of a fileset, with a ``#`` line wherever the columns change."""
    table: list[tuple[str, ...]] = []
    columns: tuple[str, ...] | None = None
    for file, facts in zip(files, written, strict=True):
        if file.columns != columns:
            columns = file.columns
            table.append((f"# {_FILE_COLUMNS[0]}", *_FILE_COLUMNS[1:], *columns))
        md5 = facts.md5 if file.md5_known else ""
        table.append((file.name, str(facts.bytes), md5, file.type, *file.extra))
    return _padded(table or [(f"# {_FILE_COLUMNS[0]}", *_FILE_COLUMNS[1:])], _FILE_WIDTHS)


def _laid_out(table: Sequence[tuple[str, ...]], widths: Sequence[int]) -> str:
    return _padded(_marked(table), widths)


def _marked(table: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Yield the lines of the table, with a ``#`` before the column names."""
    yield (f"# {table[0][0]}", *table[0][1:])
    yield from table[1:]


def _padded(table: Iterable[tuple[str, ...]], widths: Sequence[int]) -> str:
    lines = (
        "".join(f"{value:<{width}}|" for value, width in zip(values, chain(widths, repeat(0)), strict=False))
        for values in table
    )
    return "".join(f"{line}\n" for line in lines) + "\n"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, "ascii")
    temporary.replace(path)
