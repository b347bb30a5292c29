"""Catalog of one mirror: for the commands, for programs and for notebooks."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from stat import S_ISDIR
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pipeline.catalog.columns import WRITTEN, Column, columns_named
from pipeline.catalog.criteria import Criteria, criteria_of
from pipeline.catalog.find import count, find, find_paths
from pipeline.catalog.generations import current_file, file_of, how_to_make
from pipeline.catalog.reader import Reader, Row, ServerReader, SqliteReader
from pipeline.catalog.unmatched import unmatched
from pipeline.catalog.view_columns import described
from pipeline.config import Settings, read_settings
from pipeline.errors import MachineFault, SettingsError
from pipeline.mirror.resources.file_systems import is_shared
from pipeline.mirror.state.layout import Layout

if TYPE_CHECKING:
    from astropy.table import Table

_EXPECTED = (
    "expected the root folder of a mirror, its settings file, or a snapshot of its catalog "
    "(status/catalog.sqlite)"
)


class Catalog(AbstractContextManager["Catalog"]):
    """Catalog of a mirror, for queries. Use it in a ``with`` statement, or close it."""

    def __init__(self, reader: Reader, root: Path) -> None:
        self._reader = reader
        self._root = str(root)

    def find(self, columns: Sequence[str] = WRITTEN, **criteria: Any) -> "Table":
        """Return a table of the images that meet all criteria, in the order of their paths.

        ``at`` is a position (ICRS): a text, ra and dec in degrees, or a SkyCoord. Without ``radius`` images
        that cover the position are found; with it (degrees, a text such as ``"5arcmin"``, a Quantity) those
        that meet the cone.
        ``stage``, ``filter``, ``exposure``, ``object``, ``skycell``, ``product``, ``data_group`` and ``kind``
        are shell patterns, or lists of them; ``kind`` is ``"image"`` unless it is given. ``night`` is a UTC
        date; ``after`` and ``before`` bound the start of the exposure; ``arrived_since`` is a time, or a
        duration such as ``"7d"``. Paths are absolute.

        Raises ValueError for a criterion or a column of another form, TypeError for a criterion of another
        name, and MachineFault when the database fails.
        """
        from pipeline.catalog.formats import astropy_table

        named = columns_named(columns)
        return astropy_table(named, find(self._reader, criteria_of(**criteria), named, self._root))

    def count(self, criteria: Criteria) -> int:
        """Return the number of images that meet the criteria. Raises MachineFault."""
        return count(self._reader, criteria)

    def unmatched(self, criteria: Criteria) -> list[str]:
        """Return a sentence on each condition that no image here meets. Raises MachineFault."""
        return list(unmatched(self._reader, criteria))

    def sql(self, query: str) -> "Table":
        """Return the answer to an SQL query that reads. Raises SettingsError or MachineFault."""
        from pipeline.catalog.formats import astropy_table

        return astropy_table(*self.answer(query))

    def rows(self, criteria: Criteria, columns: Sequence[Column], absolute: bool = True) -> Iterator[Row]:
        """Yield the values of the columns for each image. Raises MachineFault."""
        return find(self._reader, criteria, columns, self._root if absolute else "")

    def paths(self, criteria: Criteria) -> Iterator[str]:
        """Yield the absolute path of each file with such an image, once. Raises MachineFault."""
        return find_paths(self._reader, criteria, self._root)

    def answer(self, query: str) -> tuple[list[Column], Iterator[Row]]:
        """Return the columns and the rows of the answer to an SQL query. Raises as ``sql`` does."""
        names, rows = self._reader.answer(query)
        return [described(name) for name in _each_once(names)], rows

    def close(self) -> None:
        """Close the connections to the database."""
        self._reader.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_catalog(mirror: str | Path) -> Catalog:
    """Return the catalog of a mirror, named by its root folder, its settings or a snapshot (``.sqlite``).

    A catalog outside of the root folder is found by the settings file only. Raises SettingsError when there
    is none, and MachineFault.
    """
    path = Path(mirror).expanduser()
    try:
        is_root = S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise SettingsError(f"{path}: {_EXPECTED}, got: {error.strerror}.") from None
    if path.suffix == ".sqlite":
        reader = SqliteReader(path, immutable=True)
        ((root,),) = reader.rows("SELECT value FROM catalog_setting WHERE name = 'root'", {})
        return Catalog(reader, Path(root))
    if is_root:
        layout = Layout(path.absolute())
        if not (layout.root_format.exists() or layout.catalog.exists()):
            raise SettingsError(f"{path}: {_EXPECTED}, got a folder without {layout.root_format.name}.")
        return catalog_of(layout, None)
    settings = read_settings(path)
    return catalog_of(Layout(settings.mirror.root), settings)


def catalog_of(layout: Layout, settings: Settings | None) -> Catalog:
    """Return the catalog of a mirror; without settings, that in its own folder. Raises SettingsError."""
    reader = current_reader(layout, settings)
    if reader is None:
        named = file_of(settings, layout) if settings and settings.catalog.url else None
        raise SettingsError(
            f"expected a catalog of the mirror at {layout.root}, found {f'no {named}' if named else 'none'}. "
            + how_to_make(settings)
        )
    return Catalog(reader, layout.root)


def current_reader(layout: Layout, settings: Settings | None) -> Reader | None:
    """Return a reader of the catalog of a mirror; None before an SQLite file was made.

    Raises SettingsError, or MachineFault for a file that cannot be read.
    """
    if settings is None or settings.catalog.url is None:
        return _generation_reader(layout)
    if not settings.catalog.is_file:
        from pipeline.catalog.opening import required_database

        return ServerReader(required_database(settings, layout))
    file = file_of(settings, layout)
    return _file_reader(layout, file) if file and file.is_file() else None


def _generation_reader(layout: Layout) -> SqliteReader | None:
    """Return an open reader of the current generation, which a rebuild may replace and remove meanwhile."""
    while (file := current_file(layout)) is not None:
        reader = _file_reader(layout, file)
        try:
            reader.open()
        except MachineFault:
            if file != current_file(layout):
                continue
            if file.is_file():
                raise
            return None
        return reader
    return None


def _file_reader(layout: Layout, file: Path) -> SqliteReader:
    # Only processes of the host that writes to a file see all of its write-ahead log.
    if is_shared(file.parent) and layout.catalog_snapshot.is_file():
        return SqliteReader(layout.catalog_snapshot, immutable=True)
    return SqliteReader(file)


def _each_once(names: Sequence[str]) -> list[str]:
    """Return the names of columns, with a number behind one that came before."""
    unique: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in unique:
            number += 1
            candidate = f"{name}_{number}"
        unique.append(candidate)
    return unique
