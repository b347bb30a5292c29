"""Header cards of FITS files, unit by unit; the data between the headers is skipped, not read.

A header becomes a table of the places of its keywords; only the cards that are asked for are parsed. Rules
are those of the FITS standard 4.0, sections 3 and 4.
"""

import gzip
import math
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO, cast

from isal import igzip, igzip_lib

from pipeline.errors import BundleUnusable

BLOCK = 2880
CARD = 80
MAX_HEADER_BLOCKS = 1000
"""Most blocks of one header: 36,000 cards."""
MAX_AXES = 999
MAX_DATA = 1 << 62
"""Most bytes of the data of one unit, as its header says."""
MAX_UNITS = 2000
"""Most units of one file; 60 chips with seven tables each are 421."""
MAX_INFLATED = 1 << 32
"""Most bytes of a compressed file that are inflated: units that begin after them are left out."""
_GZIP_MAGIC = b"\x1f\x8b"
# (The stubs of isal declare its exception class as an instance.)
_NOT_GZIP: tuple[type[Exception], ...] = (  # type: ignore[assignment]
    gzip.BadGzipFile,
    EOFError,
    igzip_lib.IsalError,
)
_BUFFER = 12 * BLOCK
_END = b"END     "
_KEYWORDS = struct.Struct(f"{'8s72x' * (BLOCK // CARD)}")
_HIERARCH = b"HIERARCH "
# Keyword, and the value: a quoted string, or all up to a comment.
_VALUE = re.compile(rb"(?:HIERARCH[^=]*|.{8})=\s*(?:'((?:[^']|'')*)'|([^/]*))", re.DOTALL)


class Cards:
    """Cards of one header. Of a keyword that is repeated the first card counts."""

    __slots__ = ("_places", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        keywords = struct.unpack("8s72x" * (len(raw) // CARD), raw)
        self._places = dict(zip(reversed(keywords), range(len(raw) - CARD, -1, -CARD), strict=True))

    def text(self, *names: str) -> str | None:
        """Return the value of the first of the keywords that has one, without blanks around it.

        Keywords with a dot, or of more than eight characters, are those of HIERARCH cards. A string that
        goes on in CONTINUE cards ends with its first card.
        """
        for name in names:
            at = self._place(name)
            if at is not None and (value := _value(self.raw[at : at + CARD])):
                return value
        return None

    def number(self, *names: str) -> float | None:
        """Return the first finite number among the values of the keywords, quoted or not."""
        for name in names:
            text = self.text(name)
            if text is not None and (value := _number(text)) is not None:
                return value
        return None

    def integer(self, name: str) -> int | None:
        """Return the value as an integer, or None if it is none."""
        try:
            return int(self.text(name) or "")
        except ValueError:
            return None

    def has_any(self, *names: str) -> bool:
        """Return True if one of the keywords is there, with or without a value."""
        return any(self._place(name) is not None for name in names)

    def matching(self, keyword: re.Pattern[bytes]) -> bytes:
        """Return the cards whose keyword the pattern matches, one for each keyword."""
        places = (at for name, at in self._places.items() if keyword.fullmatch(name.rstrip()))
        return b"".join(self.raw[at : at + CARD] for at in places)

    def _place(self, name: str) -> int | None:
        keyword = _keyword(name)
        if keyword is not None:
            return self._places.get(keyword)
        if _HIERARCH[:8] not in self._places:
            return None
        # A search for the word HIERARCH too takes five times as long.
        sought = name.encode()
        at = self.raw.find(sought)
        while at >= 0:
            card = at - len(_HIERARCH)
            if (
                card % CARD == 0
                and self.raw.startswith(_HIERARCH, card)
                and self.raw[at + len(sought)] in b" ="
            ):
                return card
            at = self.raw.find(sought, at + 1)
        return None


@dataclass(frozen=True)
class Unit:
    """Header and data unit: its number (0 is the primary one), and the bytes that its data lacks."""

    number: int
    cards: Cards
    missing: int = 0


def read_units(path: Path) -> Iterator[Unit]:
    """Yield the units of a FITS file, plain or compressed by gzip, whatever its name.

    Raises BundleUnusable, with the number of the unit and its first byte, for what is not FITS, for headers
    that are damaged or beyond the limits, and at the end of a compressed file whose last data are cut off,
    as their unit is out by then; OSError if the file cannot be read.
    """
    with path.open("rb", buffering=_BUFFER) as file:
        is_gzip = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        if not is_gzip:
            yield from _units(file, os.fstat(file.fileno()).st_size)
            return
        try:
            with igzip.open(file) as inflated:  # type: ignore[no-untyped-call]
                yield from _units(cast(BinaryIO, inflated), None)
        except _NOT_GZIP as error:
            raise BundleUnusable(f"expected a gzip file, got: {error}") from None


def _units(file: BinaryIO, size: int | None) -> Iterator[Unit]:
    """Yield the units; ``size`` is that of the file, None if only reading to its end would tell."""
    start = 0
    for number in range(MAX_UNITS):
        place = f"unit {number} at byte {start}"
        raw = _header(file, number, place)
        if raw is None:
            return
        cards = Cards(raw)
        data = start + _padded(len(raw) + CARD)
        end = data + _data_size(cards, place)
        yield Unit(number, cards, 0 if size is None else max(0, end - size))
        start = data + _padded(end - data)
        if start >= (MAX_INFLATED if size is None else size):
            return
        if (lacking := end - file.seek(start)) > 0:
            raise BundleUnusable(f"{place}: the file is cut off, {lacking} bytes of the data are missing")
    raise BundleUnusable(f"expected at most {MAX_UNITS} units, got more")


def _padded(size: int) -> int:
    """Return the size with the padding to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def _header(file: BinaryIO, number: int, place: str) -> bytes | None:
    """Return the cards up to END, or None after the last unit: at the end, or at records of another kind."""
    expected = b"XTENSION" if number else b"SIMPLE  "
    raw = bytearray()
    for _ in range(MAX_HEADER_BLOCKS):
        block = file.read(BLOCK)
        if not raw and not block.startswith(expected):
            if number:
                return None
            raise BundleUnusable(f"{place}: expected the keyword SIMPLE of a FITS file, got {block[:8]!r}")
        if len(block) < BLOCK:
            raise BundleUnusable(f"{place}: the header ends after {len(raw) + len(block)} bytes without END")
        keywords = _KEYWORDS.unpack(block)
        if _END in keywords:
            return bytes(raw + block[: keywords.index(_END) * CARD])
        raw += block
    raise BundleUnusable(f"{place}: expected END within {MAX_HEADER_BLOCKS} blocks of the header")


def _data_size(cards: Cards, place: str) -> int:
    """Return the bytes of the data, without padding (FITS standard, equations 1 and 2)."""
    bits = cards.integer("BITPIX")
    if bits not in {8, 16, 32, 64, -32, -64}:
        raise BundleUnusable(
            f"{place}: expected 8, 16, 32, 64, -32 or -64 as BITPIX, got {cards.text('BITPIX')!r}"
        )
    number = _count(cards, "NAXIS", place)
    if number > MAX_AXES:
        raise BundleUnusable(f"{place}: expected at most {MAX_AXES} as NAXIS, got {number}")
    axes = [_count(cards, f"NAXIS{axis + 1}", place) for axis in range(number)]
    if not axes:
        return 0
    if axes[0] == 0 and cards.text("GROUPS") == "T":
        axes = axes[1:]
    values = _count(cards, "PCOUNT", place, default=0) + math.prod(axes)
    size = abs(bits) // 8 * _count(cards, "GCOUNT", place, default=1) * values
    if size > MAX_DATA:
        raise BundleUnusable(
            f"{place}: expected at most {MAX_DATA} bytes of data, by NAXIS, PCOUNT and GCOUNT"
        )
    return size


def _count(cards: Cards, name: str, place: str, default: int | None = None) -> int:
    value = cards.integer(name)
    if value is None and cards.text(name) is None:
        value = default
    if value is None or value < 0:
        raise BundleUnusable(f"{place}: expected a whole number as {name}, got {cards.text(name)!r}")
    return value


@cache
def _keyword(name: str) -> bytes | None:
    """Return the first eight bytes of the cards of a keyword, None for one of HIERARCH cards."""
    return name.encode().ljust(8) if len(name) <= 8 and "." not in name else None


# Image, mask and weight of a chip or a sky cell have most cards in common, and so do those of an exposure.
@lru_cache(maxsize=1024)
def _value(card: bytes) -> str:
    """Return the value of a card, empty if it has none. Bytes that are not ASCII are Latin-1."""
    found = _VALUE.match(card)
    if found is None:
        return ""
    quoted, plain = found.groups()
    value: bytes = plain if quoted is None else quoted.replace(b"''", b"'")
    return value.decode("latin-1").strip()


@lru_cache(maxsize=1024)
def _number(text: str) -> float | None:
    """Return the finite number of a value, None for another value."""
    try:
        number = float(text.replace("D", "E").replace("d", "e"))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
