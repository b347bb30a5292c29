"""Agreement of catalog and markers, for more filesets than are looked at together."""

from contextlib import closing
from datetime import datetime
from pathlib import Path

from sqlalchemy import insert, select

from pipeline.catalog.opening import current_database
from pipeline.catalog.reconcile import reconcile
from pipeline.catalog.tables import fileset, product
from pipeline.config import Catalog, Settings
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import marker_text

# More than a page of rows, and several batches of names.
FILESETS = 1050
GONE = {"f0", "f999", "f1000", "f1001", f"f{FILESETS - 1}"}
STALE = {"f1", "f499", "f500"}
WHEN = datetime(2010, 1, 1)


def mark(layout: Layout, kind: str, name: str, content: dict) -> None:
    """Write a marker, unflushed."""
    path = layout.marker(kind, "P", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(marker_text(content))


def test_all_batches_are_compared(tmp_path: Path):
    settings = Settings(
        source={"url": "http://127.0.0.1:1/ds"},
        mirror={"root": str(tmp_path)},
        catalog=Catalog(enabled=True),
    )
    layout = Layout(tmp_path)
    (tmp_path / "state").mkdir()
    reconcile(settings, layout)
    names = [f"f{number}" for number in range(FILESETS)]
    with closing(current_database(settings, layout)) as database:
        identity = {"database": database.setting("id"), "generation": 1}
        database.transact(lambda connection: connection.execute(insert(product), {"name": "P"}))
        rows = [{"product_id": 1, "name": name, "cataloged": WHEN} for name in names]
        database.transact(lambda connection: connection.execute(insert(fileset), rows))
    for name in names:
        of_rows = "earlier" if name in STALE else WHEN.isoformat()
        mark(layout, MarkerKind.CATALOGED, name, {**identity, "cataloged": of_rows})
        if name not in GONE:
            mark(layout, MarkerKind.DOWNLOADED, name, {})
    # Marked, but not in the catalog.
    mark(layout, MarkerKind.CATALOGED, "other", {**identity, "cataloged": WHEN.isoformat()})
    reconcile(settings, layout)
    assert layout.names(MarkerKind.CATALOGED, "P") == set(names) - GONE - STALE
    with closing(current_database(settings, layout)) as database, database.reading() as connection:
        assert set(connection.execute(select(fileset.c.name)).scalars()) == set(names) - GONE
