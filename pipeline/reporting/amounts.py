"""Amounts of filesets: files and bytes by their markers; rates within the limit of the settings."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.config import HourlyRates
from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker
from pipeline.mirror.state.markers import Fileset, fresh_marker

# Markers that are read for the size of a product's filesets.
MARKERS_READ = 400
T = TypeVar("T")


@dataclass(frozen=True)
class Amount:
    """Files, bytes, and those bytes that are ``packed`` in bundles; of one fileset, or of several."""

    files: float = 0
    bytes: float = 0
    packed: float = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.files + other.files, self.bytes + other.bytes, self.packed + other.packed)

    def times(self, factor: float) -> "Amount":
        """Return the amount of so many filesets like this one."""
        return Amount(self.files * factor, self.bytes * factor, self.packed * factor)


def total(amounts: Iterable[Amount]) -> Amount:
    """Return the sum of the amounts."""
    return sum(amounts, Amount())


def mean(amounts: Collection[Amount]) -> Amount:
    """Return the amount of a fileset like these, of which there is one at least."""
    return total(amounts).times(1 / len(amounts))


def stored_amounts(layout: Layout, product: str, rows: Iterable[FilesetRow]) -> Iterator[Amount]:
    """Yield the amounts of those of the filesets that are here, by their markers."""
    for row in rows:
        if marker := fresh_marker(layout, MarkerKind.DOWNLOADED, Fileset.of(product, row)):
            files = marker["files"]
            packed = sum(file["bytes"] for file in files if file["type"] == "tgz" and file["component"])
            yield Amount(len(files), sum(file["bytes"] for file in files), packed)


def stored_bytes_by_stage(layout: Layout, product: str, most: int = MARKERS_READ) -> dict[str | None, float]:
    """Return the mean bytes of a fileset by its stage, by at most so many markers of those that are here."""
    names = spread(sorted(layout.names(MarkerKind.DOWNLOADED, product)), most)
    sizes: dict[str | None, list[int]] = defaultdict(list)
    for name in names:
        marker = read_marker(layout.marker(MarkerKind.DOWNLOADED, product, name))
        if marker is not None:
            stage = marker.get("columns", {}).get("stage", "null")
            sizes[None if stage == "null" else stage].append(sum(file["bytes"] for file in marker["files"]))
    return {stage: sum(each) / len(each) for stage, each in sizes.items()}


def mean_of_stages(sizes: Collection[float]) -> float:
    """Return the bytes of a fileset of a stage of which none is known, by other stages; 0 without any."""
    return sum(sizes) / len(sizes) if sizes else 0.0


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return at most ``count`` of the items, evenly spread."""
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]


def limited(rate: float | None, limit: int | HourlyRates | None) -> float | None:
    """Return the rate within the limit, on the average of a day; None where neither is known."""
    limits = limit.by_minute() if isinstance(limit, HourlyRates) else [limit]
    known = [[each for each in (rate, now) if each is not None] for now in limits]
    return sum(map(min, known)) / len(known) if all(known) else None
