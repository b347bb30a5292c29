"""Comparison of the catalog with the markers of the mirror."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from pipeline.catalog.database import Database, in_batches
from pipeline.catalog.tables import fileset, product
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import can_name_marker, read_marker

# One statement for all batches: each of its own would keep its names until a collection.
_TIMES = (
    select(fileset.c.name, fileset.c.cataloged)
    .join(product)
    .where(product.c.name == bindparam("of_product"), fileset.c.name.in_(bindparam("names", expanding=True)))
)
# Filesets whose rows are read at once, whatever their number.
_PAGE = 1000

MISSING = "missing: the catalog has no rows of it"
PENDING = "missing: not cataloged yet. The next update does it; of a product without settings, a rebuild"
STALE = "stale: its rows are those of another cataloging than its marker"
EXTRA = "extra: the mirror does not hold it"


@dataclass(frozen=True)
class Difference:
    """One fileset of which catalog and mirror do not agree: it is missing, stale or extra in the catalog."""

    product: str
    fileset: str
    what: str

    def as_row(self) -> dict[str, str]:
        """Return the difference for programs: ``kind`` is missing, stale or extra."""
        kind, _, text = self.what.partition(": ")
        return {"product": self.product, "fileset": self.fileset, "kind": kind, "text": text}

    def __str__(self) -> str:
        return f"{self.product}/{self.fileset}: {self.what}"


def differences(layout: Layout, database: Database, steps: Iterable[str]) -> Iterator[Difference]:
    """Yield the differences, product by product; those that the mirror does not hold come last.

    ``steps`` are the kinds of the markers of a complete fileset. A fileset that is cataloged by its marker
    and not by the database is *missing*, one with rows of an earlier cataloging *stale*, one that the mirror
    does not hold *extra*. Raises MachineFault.
    """
    first, *others = steps
    for name in layout.state_products():
        for some in in_batches(layout.each_name(first, name)):
            complete = [
                each for each in sorted(some) if all(_has_marker(layout, kind, name, each) for kind in others)
            ]
            yield from _of_complete(layout, database, name, complete)
    for gone in gone_filesets(layout, database):
        yield from (Difference(name, each, EXTRA) for _, name, each in gone)


def _of_complete(
    layout: Layout, database: Database, name: str, filesets: Sequence[str]
) -> Iterator[Difference]:
    """Yield the differences of complete filesets of a product."""
    # Before the rows: a marker is written after the rows that it promises.
    marked = {each for each in filesets if _has_marker(layout, MarkerKind.CATALOGED, name, each)}
    with database.reading() as connection:
        times = times_of(connection, name, marked)
    for each in filesets:
        marker = read_marker(layout.marker(MarkerKind.CATALOGED, name, each)) or {}
        if each not in marked:
            yield Difference(name, each, PENDING)
        elif each not in times:
            yield Difference(name, each, MISSING)
        elif marker.get("cataloged") != times[each]:
            yield Difference(name, each, STALE)


def times_of(connection: Connection, name: str, filesets: Collection[str]) -> dict[str, str | None]:
    """Return when the rows of these filesets of a product were written, as markers have it."""
    rows = connection.execute(_TIMES, {"of_product": name, "names": list(filesets)})
    return {each: time.isoformat() if time else None for each, time in rows}


def gone_filesets(layout: Layout, database: Database) -> Iterator[list[tuple[int, str, str]]]:
    """Yield the filesets with rows that the mirror does not hold, in lists: id, product and name of each.

    The mirror holds a fileset that is downloaded or unpacked, complete or not.
    """
    query = select(fileset.c.fileset_id, product.c.name, fileset.c.name).join(product)
    last = 0
    while True:
        page = query.where(fileset.c.fileset_id > last).order_by(fileset.c.fileset_id).limit(_PAGE)
        with database.reading() as connection:
            rows = connection.execute(page).all()
        if not rows:
            return
        last = rows[-1][0]
        yield [(id, name, each) for id, name, each in rows if not _is_held(layout, name, each)]


def _is_held(layout: Layout, name: str, fileset: str) -> bool:
    kinds = (MarkerKind.DOWNLOADED, MarkerKind.EXTRACTED)
    return can_name_marker(fileset) and any(_has_marker(layout, kind, name, fileset) for kind in kinds)


def _has_marker(layout: Layout, kind: str, name: str, fileset: str) -> bool:
    return layout.marker(kind, name, fileset).exists()
