"""Bytes that a run has still to fetch: from the listings that it has read, and estimated for all others.

The filesets of which no listing was read are taken to be like those of their product and stage of which one
was, or like those that are here; where there is none, roughly like those of other stages and products.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.reporting.amounts import mean_of_stages, stored_bytes_by_stage

# Stage of a product; None in a listing without the column.
_Stage = tuple[str, str | None]


@dataclass(frozen=True)
class BytesLeft:
    """Bytes of filesets whose fetching has not started.

    Those of ``rough`` filesets are taken from other stages; 0 without any.
    """

    bytes: float
    rough: int


@dataclass
class _Listed:
    filesets: int = 0
    bytes: int = 0


@dataclass
class Backlog:
    """Filesets of a run whose fetching has not begun. Safe for use by several threads."""

    layout: Layout
    _expected: list[tuple[str, Sequence[FilesetRow]]] = field(default_factory=list)
    # By product: the stages of the filesets that wait, by name.
    _waiting: dict[str, dict[str, str | None]] = field(default_factory=lambda: defaultdict(dict))
    _counts: Counter[_Stage] = field(default_factory=Counter)
    # Filesets that began before they were counted.
    _begun: set[tuple[str, str]] = field(default_factory=set)
    _listed: dict[_Stage, _Listed] = field(default_factory=lambda: defaultdict(_Listed))
    _here: dict[str, dict[str | None, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, product: str, rows: Sequence[FilesetRow]) -> None:
        """Add the filesets; those that are here already are found when ``left`` is called."""
        with self._lock:
            self._expected.append((product, rows))

    def begin(self, product: str, fileset: str, stage: str | None, size: int) -> None:
        """Note the bytes of a fileset by its listing, as its fetching begins."""
        with self._lock:
            listed = self._listed[product, stage]
            listed.filesets += 1
            listed.bytes += size
        self.end(product, fileset)

    def end(self, product: str, fileset: str) -> None:
        """Note that a fileset was fetched, or failed."""
        with self._lock:
            if fileset in self._waiting[product]:
                self._counts[product, self._waiting[product].pop(fileset)] -= 1
            else:
                self._begun.add((product, fileset))

    def left(self) -> BytesLeft:
        """Return the bytes of the filesets that are not begun. Raises OSError."""
        with self._lock:
            expected, self._expected = self._expected, []
        for product, rows in expected:
            here = self.layout.names(MarkerKind.DOWNLOADED, product)
            with self._lock:
                self._count(product, rows, here)
        with self._lock:
            if not self._expected:
                self._begun.clear()
            counts = {stage: count for stage, count in self._counts.items() if count}
        sizes = {stage: self._usual_size(stage) for stage in counts}
        known = sum(count * (sizes[stage] or 0) for stage, count in counts.items())
        rough = sum(count for stage, count in counts.items() if sizes[stage] is None)
        return BytesLeft(known + (rough and rough * self._mean_size()), rough)

    def _count(self, product: str, rows: Sequence[FilesetRow], here: set[str]) -> None:
        for row in rows:
            if row.name not in here and (product, row.name) not in self._begun:
                stage = row.column("stage")
                self._waiting[product][row.name] = stage
                self._counts[product, stage] += 1

    def _usual_size(self, stage: _Stage) -> float | None:
        """Return the mean bytes of a fileset of the stage; None where none like it is known."""
        if listed := self._listed.get(stage):
            return listed.bytes / listed.filesets
        product, name = stage
        if product not in self._here:
            self._here[product] = stored_bytes_by_stage(self.layout, product)
        return self._here[product].get(name)

    def _mean_size(self) -> float:
        """Return the mean bytes of the filesets whose listings were read, else of those here; else 0."""
        filesets = sum(each.filesets for each in self._listed.values())
        if filesets:
            return sum(each.bytes for each in self._listed.values()) / filesets
        return mean_of_stages([size for sizes in self._here.values() for size in sizes.values()])
