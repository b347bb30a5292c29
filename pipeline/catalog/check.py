"""Comparison of the catalog with the markers of the mirror."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from pipeline.catalog.database import Database
from pipeline.catalog.tables import fileset, product
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker

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
    """Yield the differences, product by product.

    ``steps`` are the kinds of the markers of a complete fileset. A fileset that is cataloged by its marker
    and not by the database is *missing*, one with rows of an earlier cataloging *stale*, one that the mirror
    does not hold *extra*. Raises MachineFault.
    """
    kinds = tuple(steps)
    with database.reading() as connection:
        known = _cataloged(connection)
    for name in sorted({*layout.state_products(), *known}):
        rows = known.get(name, {})
        held = set.intersection(*(layout.names(kind, name) for kind in kinds))
        marked = layout.names(MarkerKind.CATALOGED, name)
        yield from (Difference(name, each, MISSING) for each in sorted((held & marked) - rows.keys()))
        yield from (Difference(name, each, PENDING) for each in sorted(held - marked))
        yield from (Difference(name, each, STALE) for each in _stale(layout, name, rows, held & marked))
        yield from (Difference(name, each, EXTRA) for each in sorted(rows.keys() - held - marked))


def _cataloged(connection: Connection) -> dict[str, dict[str, str]]:
    query = select(product.c.name, fileset.c.name, fileset.c.cataloged).join(
        product, fileset.c.product_id == product.c.product_id
    )
    found: dict[str, dict[str, str]] = {}
    for name, each, cataloged in connection.execute(query):
        found.setdefault(name, {})[each] = cataloged.isoformat() if cataloged else ""
    return found


def _stale(layout: Layout, name: str, rows: dict[str, str], marked: set[str]) -> Iterator[str]:
    for each in sorted(marked & rows.keys()):
        marker = read_marker(layout.marker(MarkerKind.CATALOGED, name, each)) or {}
        if marker.get("cataloged") != rows[each]:
            yield each
