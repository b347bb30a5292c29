"""Before and after the filesets of an update: what is tidied up, and what is remembered."""

import contextlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.durable import WRITING_SUFFIX, remove_files, write_whole
from pipeline.mirror.context import Site
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import SUFFIX, read_marker, scan_markers, write_marker
from pipeline.mirror.state.markers import Fileset, utc_now
from pipeline.mirror.steps.extract import undo_unpacking
from pipeline.names import is_usable

_MINUTE = 60 * 10**9


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
    """Remove the temporary files that a kill left in the root folder, in ``state/`` and in ``status/``."""
    folders = [layout.root, layout.root / "status", layout.root / "state"]
    for product in layout.state_products():
        folders += [layout.state(product), *(layout.state(product) / step for step in MarkerKind)]
    for folder in folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            remove_files(Path(entry.path) for entry in entries if entry.name.endswith(WRITING_SUFFIX))


def _stored_bytes(layout: Layout, product: str) -> int:
    """The bytes of all downloaded filesets.

    ``sizes.json`` remembers them for the markers of each minute, so that only those of minutes in which a
    marker came or went are read.
    """
    cache = layout.state(product) / "sizes.json"
    known = _remembered(cache)
    folder = layout.state(product) / MarkerKind.DOWNLOADED
    minutes = _by_minute(folder, but=known.keys())
    same = {
        minute: sums
        for minute, sums in known.items()
        if minute in minutes and minutes[minute].seal == sums[:2]
    }
    if len(same) < len(known):
        known = same
        minutes = _by_minute(folder, but=known.keys())
    for minute, markers in minutes.items():
        if minute not in known:
            known[minute] = [*markers.seal, sum(_marked_bytes(folder, name) for name in markers.names)]
    # Only a cache: a disk too full for it is no reason to fail.
    with contextlib.suppress(OSError):
        write_whole(cache, json.dumps(known).encode())
    return sum(size for _, _, size in known.values())


@dataclass
class Minute:
    """The markers written in one minute: how many, the sum of their times in it (ns), some of their names."""

    count: int = 0
    times: int = 0
    names: list[str] = field(default_factory=list)

    @property
    def seal(self) -> list[int]:
        """Another one when a marker has come, gone, or been written again."""
        return [self.count, self.times]


def _by_minute(folder: Path, but: Collection[str]) -> dict[str, Minute]:
    """The markers by the minute of their writing; with their names, but for the minutes in ``but``."""
    minutes: defaultdict[str, Minute] = defaultdict(Minute)
    for name, written in scan_markers(folder):
        number, within = divmod(written, _MINUTE)
        minute = minutes[str(number)]
        minute.count += 1
        minute.times += within
        if str(number) not in but:
            minute.names.append(name)
    return minutes


def _marked_bytes(folder: Path, name: str) -> int:
    marker = read_marker(folder / f"{name}{SUFFIX}") or {}
    return sum(file["bytes"] for file in marker.get("files", []))


def _remembered(cache: Path) -> dict[str, list[int]]:
    """What is remembered of each minute: what tells that it is unchanged, and bytes."""
    try:
        known = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    entries = known.items() if isinstance(known, dict) else []
    return {minute: sums for minute, sums in entries if isinstance(sums, list) and len(sums) == 3}
