"""Ledger of the bytes of all downloaded filesets of a product.

Reading hundreds of thousands of markers for one sum would take longer than the rest of a run. The ledger
keeps one sum for the markers of each minute of writing. The markers of a minute are read again only when one
of them was added, removed or written again.
"""

import contextlib
import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.durable import write_whole
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import SUFFIX, read_marker, scan_markers

_MINUTE_NS = 60 * 10**9


def stored_bytes(layout: Layout, product: str) -> int:
    """Return the listed bytes of all downloaded filesets of the product, and update the ledger."""
    cache = layout.ledger(product)
    known = _read(cache)
    folder = layout.state(product) / MarkerKind.DOWNLOADED
    minutes = _by_minute(folder, but=known.keys())
    same = {
        minute: sums
        for minute, sums in known.items()
        if minute in minutes and minutes[minute].digest == sums[:2]
    }
    if len(same) < len(known):
        known = same
        minutes = _by_minute(folder, but=known.keys())
    for minute, markers in minutes.items():
        if minute not in known:
            known[minute] = [*markers.digest, sum(_marked_bytes(folder, name) for name in markers.names)]
    # The ledger is only a cache: a run does not fail because the disk is too full to write it.
    with contextlib.suppress(OSError):
        write_whole(cache, json.dumps(known).encode())
    return sum(size for _, _, size in known.values())


@dataclass
class _Minute:
    """Markers of one minute: their number, the sum of their times within it (ns), some of their names."""

    count: int = 0
    times: int = 0
    names: list[str] = field(default_factory=list)

    @property
    def digest(self) -> list[int]:
        """Figures that change when a marker is added, removed or written again."""
        return [self.count, self.times]


def _by_minute(folder: Path, but: Collection[str]) -> dict[str, _Minute]:
    """Return the markers by the minute of their writing; with their names, except in the minutes ``but``."""
    minutes: defaultdict[str, _Minute] = defaultdict(_Minute)
    for name, written in scan_markers(folder):
        number, within = divmod(written, _MINUTE_NS)
        minute = minutes[str(number)]
        minute.count += 1
        minute.times += within
        if str(number) not in but:
            minute.names.append(name)
    return minutes


def _marked_bytes(folder: Path, name: str) -> int:
    marker = read_marker(folder / f"{name}{SUFFIX}") or {}
    return sum(file["bytes"] for file in marker.get("files", []))


def _read(cache: Path) -> dict[str, list[int]]:
    """Return the ledger's entries by minute: the two figures of the digest, and bytes."""
    try:
        known = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    entries = known.items() if isinstance(known, dict) else []
    return {minute: sums for minute, sums in entries if isinstance(sums, list) and len(sums) == 3}
