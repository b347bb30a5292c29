"""Partial files: the resume record beside each, and the map of the byte ranges of a large file.

The record holds the size and md5 that the listing had when the partial file began. A record with ``pieces``
lists the byte ranges that the partial file holds; one without them stands for all bytes from the start of the
file to the end of the partial file.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.datastore.listing import FileRow

Ranges = list[tuple[int, int]]
"""Byte ranges, each from its first byte to the byte behind its last, in order, with gaps between them."""


@dataclass(frozen=True)
class ResumeRecord:
    """Resume record at ``path``, for a partial file of the file that ``row`` lists."""

    path: Path
    row: FileRow

    def read(self, length: int) -> Ranges:
        """Return the ranges that a partial file of ``length`` bytes holds; none if it has to start afresh."""
        if not length or not self.row.md5:
            return []
        try:
            record = json.loads(self.path.read_bytes())
            if (record["bytes"], record["md5"]) != (self.row.bytes, self.row.md5):
                return []
            ranges = record.get("pieces", [[0, length]])
            return _checked(ranges, min(length, self.row.bytes))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []

    def write(self, held: Ranges | None = None) -> None:
        """Write the record by one rename; ``held`` None stands for all bytes of the partial file."""
        record: dict[str, object] = {"bytes": self.row.bytes, "md5": self.row.md5}
        if held is not None:
            record["pieces"] = held
        writing = self.path.with_suffix(".writing")
        writing.write_text(json.dumps(record), encoding="ascii")
        os.replace(writing, self.path)

    def remove(self) -> None:
        """Remove the record, if there is one."""
        self.path.unlink(missing_ok=True)


def _checked(ranges: list[list[int]], size: int) -> Ranges:
    """Return the byte ranges of a record. Raises ValueError or TypeError unless they lie within ``size``."""
    bounds = [bound for first, end in ranges for bound in (first, end)]
    if {type(bound) for bound in bounds} - {int} or bounds != sorted(set(bounds)):
        raise ValueError(f"expected ranges in order, got {ranges}")
    if bounds and not 0 <= bounds[0] < bounds[-1] <= size:
        raise ValueError(f"expected ranges within {size} bytes, got {ranges}")
    return list(zip(bounds[::2], bounds[1::2], strict=True))


@dataclass
class ByteRange:
    """Bytes from ``start`` to before ``end``; those before ``at`` have been received."""

    start: int
    end: int
    at: int

    @property
    def missing(self) -> int:
        """Number of bytes that have not been received."""
        return self.end - self.at


class RangeMap:
    """Byte ranges of a file of ``size`` bytes: those ``held``, those claimed one by one, and the others.

    Each range has one writer, which advances its ``at``. All other use is for one thread at a time.
    """

    def __init__(self, size: int, held: Ranges) -> None:
        self._ranges = {start: ByteRange(start, end, end) for start, end in held}
        edges = [0, *(edge for edges in held for edge in edges), size]
        self._gaps = [gap for gap in zip(edges[::2], edges[1::2], strict=True) if gap[0] < gap[1]]
        self._complete = 0

    @property
    def unclaimed(self) -> int:
        """Number of bytes that are neither held nor claimed."""
        return sum(end - start for start, end in self._gaps)

    def claim(self, most: int) -> ByteRange:
        """Return the first unclaimed bytes, ``most`` of them at most."""
        start, gap_end = self._gaps.pop(0)
        end = min(gap_end, start + most)
        if end < gap_end:
            self._gaps.insert(0, (end, gap_end))
        claimed = self._ranges[start] = ByteRange(start, end, start)
        return claimed

    def held(self) -> Ranges:
        """Return the bytes that have been received, adjoining ranges as one."""
        held: Ranges = []
        for each in sorted(self._ranges.values(), key=lambda each: each.start):
            at = each.at
            if held and held[-1][1] == each.start:
                held[-1] = (held[-1][0], at)
            elif at > each.start:
                held.append((each.start, at))
        return held

    def complete_to(self) -> int:
        """Return the end of the bytes without a gap from the start.

        May be called by one further thread, beside those that claim and write.
        """
        while (first := self._ranges.get(self._complete)) is not None:
            if first.missing:
                return first.at
            self._complete = first.end
        return self._complete
