"""Filesets that a mirror holds, in the order of their arrival, and what is behind each of them."""

import os
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import chain
from pathlib import Path

from pipeline.datastore.server.tables import PRODUCT_HEADER, write_lines
from pipeline.mirror.state.arrivals_file import (
    HEADER_START,
    Entry,
    scan_arrivals,
    scan_entries,
    stored_index_md5,
)


@dataclass(frozen=True, slots=True)
class HeldRow:
    """Row of a fileset held, with its header; both without a line end.

    ``place`` is the place of its entry, ``first`` that of the first entry of the same registration: a reader
    that has the fileset has seen all before ``first``. None where no place is known. ``is_again`` is True for
    a fileset that had another registration before.
    """

    header: bytes
    row: bytes
    place: int = 0
    first: int | None = None
    is_again: bool = False

    @property
    def name(self) -> bytes:
        """Name of the fileset."""
        return self.row.split(b"|", 1)[0]


class HeldFilesets:
    """Rows of the filesets held, in the order of their arrival."""

    def __init__(self, rows: list[HeldRow]) -> None:
        self.listing = _write(rows)
        self._rows = rows

    def after(self, fileset: bytes) -> bytes | None:
        """Return the listing of all that a reader may lack whose newest fileset is this one, or last but one.

        That is the whole listing where it is not known what such a reader has seen. None for a fileset that
        is not held.
        """
        at = self._places.get(fileset)
        if at is None:
            at = self._places_in_lower_case.get(fileset.lower())
        if at is None:
            return None
        row = self._rows[at]
        if row.first is None:
            return self.listing
        start = at + 1 if row.first == row.place else bisect_right(self._rows, row.first, key=_place)
        # A reader with an earlier registration of this one may take a fileset that moved for the next one.
        if row.is_again and self._last_moved >= start:
            return self.listing
        return _write(self._rows[start:]) if start < len(self._rows) else row.header + b"\n"

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return {row.name: at for at, row in enumerate(self._rows)}

    @cached_property
    def _places_in_lower_case(self) -> dict[bytes, int]:
        return {name.lower(): at for name, at in self._places.items()}

    @cached_property
    def _last_moved(self) -> int:
        """The last row that moved without being registered again; -1 without one."""
        return max((at for at, row in enumerate(self._rows) if row.first != row.place), default=-1)


class StoredFolders:
    """Folders of one product in ``store/``; each is examined once per change of it.

    Several threads may ask ``is_complete`` while one asks ``complete``.
    """

    def __init__(self, product: Path) -> None:
        self._product = product
        self._known: dict[bytes, tuple[tuple[int, int], bytes | None]] = {}

    def complete(self) -> dict[bytes, bytes]:
        """Return the md5 of ``index.txt``, by name, of the filesets of which all files are present."""
        seen = {}
        with os.scandir(self._product) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    seen[os.fsencode(entry.name)] = self._examined(entry.name, entry.stat())
        complete = {name: index_md5 for name, (_, index_md5) in seen.items() if index_md5 is not None}
        # From here on other threads add to it.
        self._known = seen
        return complete

    def is_complete(self, fileset: str) -> bool:
        """Return True if all files of the fileset are present."""
        try:
            examined = self._examined(fileset, (self._product / fileset).stat())
        except OSError:
            return False
        self._known[os.fsencode(fileset)] = examined
        return examined[1] is not None

    def _examined(self, fileset: str, status: os.stat_result) -> tuple[tuple[int, int], bytes | None]:
        """Return the state of the fileset's folder, and the md5 of ``index.txt`` if all files are present."""
        state = (status.st_ino, status.st_mtime_ns)
        known = self._known.get(os.fsencode(fileset))
        if known is None or known[0] != state:
            known = (state, stored_index_md5(self._product / fileset))
        return known


class ArrivalOrder:
    """``arrivals.txt`` of one product; what was appended since it was read last is read alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._state = (0, 0, 0)
        self._offset = 0
        self._header = b""
        self._count = 0
        self._entries: dict[bytes, list[tuple[int, Entry]]] = {}
        self._rows: dict[bytes, tuple[int, bytes, HeldRow]] = {}

    def rows(self, folders: StoredFolders, marked: Callable[[set[str]], set[str]]) -> list[HeldRow] | None:
        """Return the rows of the complete filesets in the order of their arrival.

        None when the file is absent, damaged, or lacks a fileset that is ``marked`` as downloaded.
        """
        if not self._read():
            return None
        # In this order: what is entered is published before anything else is entered.
        complete = folders.complete()
        rows = [
            row
            for name, index_md5 in complete.items()
            if name in self._entries and (row := self._row(name, index_md5))
        ]
        without = complete.keys() - self._entries.keys()
        # Those that arrived in between have an entry by now.
        if without and self._read():
            without -= self._entries.keys()
        if marked({os.fsdecode(name) for name in without}):
            return None
        return sorted(rows, key=_place)

    def _row(self, name: bytes, index_md5: bytes) -> HeldRow | None:
        """Return the row of the last entry with that ``index.txt``."""
        entries = self._entries[name]
        known = self._rows.get(name)
        if known is not None and known[:2] == (len(entries), index_md5):
            return known[2]
        holding = [at for at, (_, entry) in enumerate(entries) if entry.index_md5 == index_md5]
        if not holding:
            return None
        row = _held(entries[: holding[-1] + 1])
        self._rows[name] = (len(entries), index_md5, row)
        return row

    def _read(self) -> bool:
        """Read what is new; return False when the file is absent or damaged."""
        try:
            with open(self._path, "rb") as file:
                status = os.fstat(file.fileno())
                state = (status.st_ino, status.st_size, status.st_mtime_ns)
                if state == self._state:
                    return True
                if state[0] != self._state[0] or state[1] <= self._state[1]:
                    self._forget()
                file.seek(self._offset)
                lines = file.read()
        except FileNotFoundError:
            self._forget()
            return False
        if not self._add(lines[: lines.rfind(b"\n") + 1]):
            self._forget()
            return False
        self._state = state
        return True

    def _add(self, content: bytes) -> bool:
        """Add the entries in whole lines; return False when one of them is damaged."""
        lines = list(BytesIO(content))
        scan = scan_entries(chain([self._header], lines)) if self._offset else scan_arrivals(lines)
        for entry in scan:
            if entry is None:
                return False
            self._entries.setdefault(entry.name, []).append((self._count, entry))
            self._count += 1
        headers = (line for line in reversed(lines) if line.startswith(HEADER_START))
        self._header = next(headers, self._header)
        self._offset += len(content)
        return True


def _held(entries: list[tuple[int, Entry]]) -> HeldRow:
    """Return the row of the last one of a fileset's entries."""
    place, last = entries[-1]
    same = [(at, entry) for at, entry in entries if entry.registered == last.registered]
    first = same[0][0] if all(entry.is_exact for _, entry in same) else None
    return HeldRow(last.header, last.row, place, first, is_again=len(same) < len(entries))


def _place(row: HeldRow) -> int:
    return row.place


def _write(rows: list[HeldRow]) -> bytes:
    """Return the rows as a listing, with a ``#`` line wherever the header changes."""
    lines: list[bytes] = []
    header = b""
    for row in rows:
        if row.header != header:
            header = row.header
            lines.append(header)
        lines.append(row.row)
    return b"\n".join([*lines, b""]) if lines else write_lines([PRODUCT_HEADER])
