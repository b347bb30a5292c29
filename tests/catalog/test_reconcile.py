"""Agreement of catalog and markers, for more filesets than are looked at together."""

from contextlib import closing
from pathlib import Path

from sqlalchemy import select
from support.cataloged import PRODUCT, CatalogedMirror

from pipeline.catalog.opening import current_database
from pipeline.catalog.reconcile import reconcile
from pipeline.catalog.tables import fileset
from pipeline.mirror.state.layout import MarkerKind

# More than a page of rows, and several batches of names.
FILESETS = 1050
GONE = {"f0", "f999", "f1000", "f1001", f"f{FILESETS - 1}"}
STALE = {"f1", "f499", "f500"}


def test_all_batches_are_compared(tmp_path: Path):
    names = [f"f{number}" for number in range(FILESETS)]
    mirror = CatalogedMirror(tmp_path, names)
    for name in STALE:
        mirror.mark_cataloged(name, "earlier")
    for name in GONE:
        mirror.unmark(MarkerKind.DOWNLOADED, name)
    # Marked, but not in the catalog.
    mirror.mark_cataloged("other")
    reconcile(mirror.settings, mirror.layout)
    assert mirror.layout.names(MarkerKind.CATALOGED, PRODUCT) == set(names) - GONE - STALE
    with (
        closing(current_database(mirror.settings, mirror.layout)) as database,
        database.reading() as connection,
    ):
        assert set(connection.execute(select(fileset.c.name)).scalars()) == set(names) - GONE
