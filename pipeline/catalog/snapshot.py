"""Snapshot of an SQLite catalog in ``status/catalog.sqlite``, for readers on other hosts and other users.

It is a whole copy that is renamed into place: who has opened the one before reads that to the end.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from pipeline.catalog.damage import advice
from pipeline.durable import WRITING_SUFFIX, flush_file
from pipeline.errors import MachineFault, machine_faults
from pipeline.mirror.state.layout import Layout


def write_snapshot(layout: Layout, catalog: Path) -> None:
    """Copy the catalog to ``status/catalog.sqlite``. Raises MachineFault."""
    path = layout.catalog_snapshot
    writing = path.with_name(f".{path.name}{WRITING_SUFFIX}")
    with machine_faults(f"writing the snapshot of the catalog {path}"):
        path.parent.mkdir(exist_ok=True)
        writing.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(f"file:{quote(str(catalog))}?mode=ro", uri=True)) as connection:
                connection.execute("VACUUM INTO ?", [str(writing)])
        except sqlite3.Error as error:
            writing.unlink(missing_ok=True)
            raise MachineFault(
                f"writing the snapshot of the catalog {path}: {error}. The files of the mirror are not "
                "concerned; " + advice(error, catalog, "the next run with news tries again.")
            ) from error
        flush_file(writing)
        os.rename(writing, path)
