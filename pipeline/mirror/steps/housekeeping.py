"""Housekeeping of an update: leftovers removed before its filesets are done, and records written after."""

import contextlib
import os
import shutil
from pathlib import Path

from pipeline.durable import WRITING_SUFFIX, remove_files
from pipeline.mirror.context import RunContext
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.markers import Fileset, utc_now
from pipeline.mirror.state.snapshot import current_header, renew_snapshot
from pipeline.mirror.steps.extract import undo_unpacking
from pipeline.names import is_usable

_OF_VERIFICATIONS = {MarkerKind.VERIFIED, MarkerKind.COMPARED}


def finish_product(layout: Layout, product: str, run: str, *, failed: int) -> None:
    """Record that the update ``run`` went through the whole product, with ``failed`` filesets left failed."""
    held = renew_snapshot(layout.marker_folder(MarkerKind.DOWNLOADED, product))
    content = {"product": product, "run": run, "finished": utc_now(), "failed": failed, "bytes": held}
    write_marker(layout.updated(product), content)


def has_filesets_in_progress(layout: Layout, product: str) -> bool:
    """Return True if a killed run left a fileset of the product in progress."""
    incoming = layout.incoming_of(product)
    return incoming.is_dir() and any(incoming.iterdir())


def tidy_incoming(context: RunContext, product: str, pending: set[str]) -> None:
    """Remove the leftovers of transfers and unpackings of filesets that are not pending."""
    incoming = context.layout.incoming_of(product)
    if not incoming.is_dir():
        return
    for folder in incoming.iterdir():
        if folder.name not in pending:
            if is_usable(folder.name):
                undo_unpacking(context, Fileset(product, folder.name, ""))
            shutil.rmtree(folder, ignore_errors=True)


def remove_half_written(layout: Layout) -> None:
    """Remove the temporary files that a kill left in the root, ``state/`` and ``status/``.

    A folder of markers whose snapshot is current has none. The folders of verifications, which have a marker
    of each fileset, are left out: the next verification of a fileset writes over what is there.
    """
    folders = [layout.root, layout.root / "status", layout.root / "state"]
    for product in layout.state_products():
        folders.append(layout.state(product))
        markers = (each for each in layout.marker_folders(product) if each.name not in _OF_VERIFICATIONS)
        folders += (each for each in markers if current_header(each) is None)
    for folder in folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            remove_files(Path(entry.path) for entry in entries if entry.name.endswith(WRITING_SUFFIX))
