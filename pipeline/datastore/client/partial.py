"""What is here of a file that has not come whole: the note beside a part, and which bytes are to be fetched.

The note says under which ETag the part began, and the size and md5 that are listed. Without
``pieces`` the part holds the file from its start to its own end; with them it holds these ranges of bytes.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.datastore.listing import FileRow

Ranges = list[tuple[int, int]]
"""Ranges of bytes, each from its first to behind its last, in order, with gaps between them."""

# What may come back in If-Range: no weak ETag, nothing that breaks a header.
STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')


@dataclass(frozen=True)
class Known:
    """The ETag under which a part can be gone on with, and what it holds."""

    etag: str
    held: Ranges


@dataclass(frozen=True)
class Note:
    """The note at ``path``, about a part of the file that ``row`` lists."""

    path: Path
    row: FileRow

    def read(self, length: int) -> Known | None:
        """What it says of a part of ``length`` bytes; None when the file has to start afresh."""
        if not length or not self.row.md5:
            return None
        try:
            note = json.loads(self.path.read_bytes())
            same = (note["bytes"], note["md5"]) == (self.row.bytes, self.row.md5)
            if not same or not STRONG_ETAG.fullmatch(note["etag"]):
                return None
            return Known(
                note["etag"], _checked(note.get("pieces", [[0, length]]), min(length, self.row.bytes))
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, etag: str, held: Ranges | None = None) -> None:
        """Write it whole; without ``held`` the part holds all from its start to its end."""
        note = {"etag": etag, "bytes": self.row.bytes, "md5": self.row.md5}
        writing = self.path.with_suffix(".writing")
        writing.write_text(json.dumps(note if held is None else note | {"pieces": held}), encoding="ascii")
        os.replace(writing, self.path)

    def forget(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)


def _checked(pieces: list[list[int]], size: int) -> Ranges:
    """The ranges of a note. Raises ValueError or TypeError for what are none within ``size``."""
    bounds = [bound for first, end in pieces for bound in (first, end)]
    if {type(bound) for bound in bounds} - {int} or bounds != sorted(set(bounds)):
        raise ValueError(f"expected ranges in order, got {pieces}")
    if bounds and not 0 <= bounds[0] < bounds[-1] <= size:
        raise ValueError(f"expected ranges within {size} bytes, got {pieces}")
    return list(zip(bounds[::2], bounds[1::2], strict=True))


@dataclass
class Piece:
    """The bytes from ``start`` to before ``end``; those before ``at`` are here."""

    start: int
    end: int
    at: int


class Pieces:
    """A file of ``size`` bytes in pieces, of which some are ``held`` and the others are taken one by one.

    Each piece has one writer, who moves its ``at``. The rest is for one thread at a time.
    """

    def __init__(self, size: int, held: Ranges) -> None:
        self._pieces = {start: Piece(start, end, end) for start, end in held}
        edges = [0, *(edge for piece in held for edge in piece), size]
        self._missing = [gap for gap in zip(edges[::2], edges[1::2], strict=True) if gap[0] < gap[1]]
        self._whole = 0

    @property
    def missing(self) -> int:
        """The bytes of which nobody has taken charge."""
        return sum(end - start for start, end in self._missing)

    def take(self, most: int) -> Piece:
        """The first missing bytes, ``most`` at most; now they are not missing any more."""
        start, gap_end = self._missing.pop(0)
        end = min(gap_end, start + most)
        if end < gap_end:
            self._missing.insert(0, (end, gap_end))
        piece = self._pieces[start] = Piece(start, end, start)
        return piece

    def held(self) -> Ranges:
        """What is here, adjoining pieces as one."""
        held: Ranges = []
        for piece in sorted(self._pieces.values(), key=lambda piece: piece.start):
            at = piece.at
            if held and held[-1][1] == piece.start:
                held[-1] = (held[-1][0], at)
            elif at > piece.start:
                held.append((piece.start, at))
        return held

    def whole_to(self) -> int:
        """Up to where all is here. For one thread of its own, beside those that take and write."""
        while (piece := self._pieces.get(self._whole)) is not None:
            if piece.at < piece.end:
                return piece.at
            self._whole = piece.end
        return self._whole
