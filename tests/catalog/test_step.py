"""Step of cataloging: its libraries are imported before a run forks its processes, if there is much to do."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from types import SimpleNamespace
from pipeline.catalog.step import CATALOG
from pipeline.config import Catalog, Settings
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import write_marker

root, url = sys.argv[1], sys.argv[2] or None
settings = Settings(
    source={"url": "http://127.0.0.1:1/ds"}, mirror={"root": root}, catalog=Catalog(enabled=True, url=url)
)
context = SimpleNamespace(layout=Layout(settings.mirror.root), settings=settings)
write_marker(context.layout.catalog_record, {"state": ["1"]})
CATALOG.load(context)
print("sqlalchemy" in sys.modules, end=" ")
write_marker(context.layout.catalog_record, {"state": None})
CATALOG.load(context)
print("sqlalchemy" in sys.modules, "alembic" in sys.modules)
"""


def loaded(root: Path, url: str) -> list[str]:
    """Names that are imported: SQLAlchemy after a record of the database, and without; Alembic."""
    command = [sys.executable, "-c", CODE, str(root), url]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_an_update_after_one_that_left_nothing_to_do_imports_nothing(tmp_path: Path):
    assert loaded(tmp_path, "") == ["False", "True", "False"]


def test_a_server_is_asked_in_every_update(tmp_path: Path):
    assert loaded(tmp_path, "postgresql://u@127.0.0.1:1/d")[0] == "True"
