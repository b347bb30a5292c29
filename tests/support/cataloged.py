"""Mirror of many small filesets, downloaded and cataloged by their markers and rows alone."""

from contextlib import closing
from datetime import datetime
from pathlib import Path

from sqlalchemy import insert

from pipeline.catalog.opening import current_database
from pipeline.catalog.reconcile import reconcile
from pipeline.catalog.tables import fileset, product
from pipeline.config import Catalog, Settings
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import marker_text

PRODUCT = "P"
WHEN = datetime(2010, 1, 1)


class CatalogedMirror:
    """Mirror of ``PRODUCT`` at a root with a catalog that has rows of ``names``, all marked."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self.settings = Settings(
            source={"url": "http://127.0.0.1:1/ds"},
            mirror={"root": str(root)},
            catalog=Catalog(enabled=True),
        )
        self.layout = Layout(root)
        (root / "state").mkdir()
        reconcile(self.settings, self.layout)
        rows = [{"product_id": 1, "name": name, "cataloged": WHEN} for name in names]
        with closing(current_database(self.settings, self.layout)) as database:
            self._identity = {"database": database.setting("id"), "generation": 1}
            database.transact(lambda connection: connection.execute(insert(product), {"name": PRODUCT}))
            database.transact(lambda connection: connection.execute(insert(fileset), rows))
        for name in names:
            self.mark(MarkerKind.DOWNLOADED, name)
            self.mark_cataloged(name)

    def mark(self, kind: str, name: str) -> None:
        """Write a marker, unflushed."""
        self._write(kind, name, {})

    def mark_cataloged(self, name: str, when: str = WHEN.isoformat()) -> None:
        """Write the marker of a cataloging at the time ``when``, unflushed."""
        self._write(MarkerKind.CATALOGED, name, {**self._identity, "cataloged": when})

    def unmark(self, kind: str, name: str) -> None:
        """Remove a marker."""
        self.layout.marker(kind, PRODUCT, name).unlink()

    def _write(self, kind: str, name: str, content: dict) -> None:
        path = self.layout.marker(kind, PRODUCT, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(marker_text(content))
