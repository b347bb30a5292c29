"""Before and after the filesets of an update: what is tidied up, and what is remembered."""

import contextlib
import json
import shutil

from pipeline.durable import WRITING_SUFFIX, remove_files, write_whole
from pipeline.mirror.extract import undo_unpacking
from pipeline.mirror.layout import Layout, Step
from pipeline.mirror.marker_file import read_marker, write_marker
from pipeline.mirror.markers import Fileset, utc_now
from pipeline.mirror.site import Site
from pipeline.names import is_usable


def finish_product(site: Site, product: str, started: str, *, done: int, failed: int) -> None:
    """Note that the update which began at ``started`` went through the whole product."""
    layout = site.layout
    before = read_marker(layout.updated(product))
    held = before["bytes"] if before and not (done or failed) else _stored_bytes(layout, product)
    content = {"product": product, "run": started, "finished": utc_now(), "failed": failed, "bytes": held}
    write_marker(layout.updated(product), content)


def in_hand(layout: Layout, product: str) -> bool:
    """Whether a fileset of the product has been begun and not ended, which a run leaves when it is killed."""
    incoming = layout.root / "incoming" / product
    return incoming.is_dir() and any(incoming.iterdir())


def tidy_incoming(site: Site, product: str, pending: set[str]) -> None:
    """Remove what is left of transfers and unpackings that nobody will go on with."""
    incoming = site.layout.root / "incoming" / product
    if not incoming.is_dir():
        return
    for folder in incoming.iterdir():
        if folder.name not in pending:
            if is_usable(folder.name):
                undo_unpacking(site.layout, site.ownership, Fileset(product, folder.name, ""))
            shutil.rmtree(folder, ignore_errors=True)


def remove_half_written(layout: Layout) -> None:
    """Remove the temporary files of markers and listings that a kill left in ``state/`` and ``status/``."""
    folders = [layout.root / "status", layout.root / "state"]
    for product in layout.state_products():
        folders += [layout.state(product), *(layout.state(product) / step for step in Step)]
    for folder in folders:
        if folder.is_dir():
            remove_files(path for path in folder.iterdir() if path.name.endswith(WRITING_SUFFIX))


def _stored_bytes(layout: Layout, product: str) -> int:
    """The bytes of all downloaded filesets. Sizes of markers seen before are remembered, by their time."""
    cache = layout.state(product) / "sizes.json"
    try:
        known = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        known = {}
    sizes = {}
    for name in layout.marked(Step.DOWNLOADED, product):
        path = layout.marker(Step.DOWNLOADED, product, name)
        written = path.stat().st_mtime_ns
        if known.get(name, (0, 0))[0] == written:
            sizes[name] = known[name]
        else:
            files = (read_marker(path) or {}).get("files", [])
            sizes[name] = (written, sum(file["bytes"] for file in files))
    # Only a cache: a disk too full for it is no reason to fail.
    with contextlib.suppress(OSError):
        write_whole(cache, json.dumps(sizes).encode())
    return sum(size for _, size in sizes.values())
