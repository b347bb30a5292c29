"""Local listing of a product: every row ever received, one line each.

A listing may have a million rows, which are never in memory together: rows are read one by one, new ones are
appended, and only the end of the file is read for the newest rows.

A record beside it holds the length of the listing and a digest of its last bytes, written after new rows are
appended and flushed. A listing as its record says is whole. Bytes beyond are of rows that a kill or power cut
interrupted: they are cut off, and the rows discovered again. A listing whose record does not fit, such as one
that another program wrote, is read from end to end before it is used.
"""

import os
from collections import deque
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from hashlib import sha256
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

from pipeline.datastore.listing import (
    ENCODING,
    FilesetRow,
    fileset_columns,
    scan_filesets,
    write_filesets,
)
from pipeline.durable import flush, remove_files, write_whole
from pipeline.errors import ServerUnavailable
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import read_marker, write_marker

_BLOCK_BYTES = 1 << 16
# Bytes before the end of the whole listing of which its record has a digest: some thirty rows.
_TAIL_BYTES = 1 << 12


class Registration(NamedTuple):
    """Identity of one row of a listing: the fileset's name and its registration time."""

    name: str
    registered: str


class AllBut(Container[str]):
    """All names but some."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return name not in self._names


class LocalListing:
    """Listing of one product in a file; an absent file has no rows.

    Reading needs no lock: an unfinished last line is left out. ``repair``, ``add``, ``replace`` and ``drop``
    are for the holder of the mirror's lock.
    """

    def __init__(self, layout: Layout, product: str) -> None:
        self.path = layout.listing(product)
        self._record = layout.listing_record(product)

    def repair(self) -> bool:
        """Cut off rows whose appending was interrupted; return False when the listing is absent or damaged.

        Rows are read and compared only if the record does not fit.
        """
        try:
            with open(self.path, "r+b") as file:
                whole = self._recorded_bytes(file.fileno())
                end = _end_of_last_line(file.fileno()) if whole is None else whole
                if end < os.fstat(file.fileno()).st_size:
                    file.truncate(end)
                    flush(file.fileno())
                if whole is None:
                    if not self._is_valid():
                        return False
                    self._write_record(file.fileno())
        except (FileNotFoundError, IsADirectoryError):
            return False
        return True

    def rows(self, but: Container[str] = ()) -> Iterator[FilesetRow]:
        """Yield the rows in their order, without those of the filesets in ``but``.

        Raises ServerUnavailable where the listing is damaged, or when there is none.
        """
        try:
            yield from scan_filesets(self._lines(), str(self.path), but)
        except ServerUnavailable:
            self._drop_record()
            raise

    def registrations(self) -> Iterator[Registration]:
        """Yield the identities of all rows in order. Raises ServerUnavailable for a damaged listing."""
        return (_registration(line) for line in self._lines() if line[0] not in "#\n")

    def cells(self) -> Iterator[tuple[tuple[str, ...], list[str]]]:
        """Yield the columns in force and the fields of each row, with the blanks in its line.

        Nothing is checked, which takes a fifth of the time of ``rows``; there may be more fields than
        columns. Raises ServerUnavailable as ``registrations`` does.
        """
        columns: tuple[str, ...] = ()
        for line in self._lines():
            if line[0] == "#":
                columns = fileset_columns(line) or columns
            elif line != "\n":
                yield columns, line.split("|")

    def last(self, count: int, but: Container[str] = ()) -> list[Registration]:
        """Return the last rows, at most ``count``, without those of the filesets in ``but``; oldest first."""
        lines = (line for line in self._lines_from_the_end() if line and not line.startswith("#"))
        kept = (each for each in map(_registration, lines) if each.name not in but)
        return list(islice(kept, count))[::-1]

    def columns(self) -> set[str]:
        """Return the names of all columns that any row has."""
        names: set[str] = set()
        in_force: tuple[str, ...] = ()
        for line in self._lines():
            if line.startswith("#"):
                in_force = fileset_columns(line) or ()
            elif in_force:
                names.update(in_force)
                in_force = ()
        return names

    def count(self) -> int:
        """Return the number of rows, damaged ones included."""
        try:
            with open(self.path, "rb") as file:
                return _count_rows(file, _end_of_last_line(file.fileno()))
        except FileNotFoundError:
            return 0

    def state(self) -> dict[str, Any] | None:
        """Return size, digest of the end and modification time (ns): with another row one of them differs.

        None when the listing is not as its record says.
        """
        try:
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                if self._recorded_bytes(file.fileno()) != status.st_size:
                    return None
                tail = _tail(file.fileno(), status.st_size)
        except FileNotFoundError:
            return None
        return {"bytes": status.st_size, "tail": tail, "modified": status.st_mtime_ns}

    def add(self, rows: Sequence[FilesetRow], moved: Collection[str] = ()) -> None:
        """Append rows durably, and remove the earlier rows of the filesets in ``moved``."""
        if moved:
            self._rewrite(moved, rows)
            return
        with open(self.path, "r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(write_filesets(rows, self._columns_at_the_end()))
            file.flush()
            flush(file.fileno())
            self._write_record(file.fileno())

    def replace(self, rows: Iterable[FilesetRow]) -> None:
        """Replace the whole listing by these rows."""
        self._write(write_filesets(rows))

    def drop(self, filesets: Collection[str]) -> None:
        """Remove the rows of the filesets."""
        self._rewrite(filesets, [])

    def _rewrite(self, but: Collection[str], more: Sequence[FilesetRow]) -> None:
        body = bytearray()
        for line in self._lines():
            if line.startswith("#") or _name(line) not in but:
                body += line.encode(ENCODING)
        if more:
            body += write_filesets(more, self._columns_at_the_end())
        self._write(bytes(body))

    def _write(self, body: bytes) -> None:
        write_whole(self.path, body)
        with open(self.path, "rb") as file:
            self._write_record(file.fileno())

    def _write_record(self, descriptor: int) -> None:
        """Record that the listing is whole, all of it being on the disk."""
        size = os.fstat(descriptor).st_size
        write_marker(self._record, {"bytes": size, "tail": _tail(descriptor, size)})

    def _recorded_bytes(self, descriptor: int) -> int | None:
        """Return the number of bytes of the whole listing by its record; None if it does not fit."""
        record = read_marker(self._record) or {}
        size = record.get("bytes")
        if not isinstance(size, int) or not 0 < size <= os.fstat(descriptor).st_size:
            return None
        return size if record.get("tail") == _tail(descriptor, size) else None

    def _columns_at_the_end(self) -> tuple[str, ...]:
        headers = deque((line for line in self._lines() if line.startswith("#")), maxlen=1)
        return (fileset_columns(headers[0]) or ()) if headers else ()

    def _drop_record(self) -> None:
        """Remove the record of a damaged listing: the next update replaces the listing."""
        with suppress(OSError):
            remove_files([self._record])

    def _is_valid(self) -> bool:
        """Return True if every row is whole and none is repeated."""
        seen: set[str] = set()
        try:
            for row in self.rows():
                if row.name in seen or any("\0" in value for value in row.fields):
                    return False
                seen.add(row.name)
        except ServerUnavailable:
            return False
        return True

    def _lines(self) -> Iterator[str]:
        """Yield the whole lines. Raises ServerUnavailable where a name or time is damaged."""
        try:
            with open(self.path, encoding=ENCODING, newline="\n") as file:
                for line in file:
                    if not (line.isascii() or "".join(line.split("|", 2)[:2]).isascii()):
                        self._drop_record()
                        raise ServerUnavailable(
                            f"{self.path}: expected rows that begin with ASCII text, the file is damaged. "
                            "The next run fetches the listing again."
                        )
                    if line.endswith("\n"):
                        yield line
        except FileNotFoundError:
            return

    def _lines_from_the_end(self) -> Iterator[str]:
        with ExitStack() as opened:
            try:
                file = opened.enter_context(open(self.path, "rb"))
            except FileNotFoundError:
                return
            begin = _end_of_last_line(file.fileno())
            after = b""
            while begin:
                end, begin = begin, max(0, begin - _BLOCK_BYTES)
                lines = (os.pread(file.fileno(), end - begin, begin) + after).split(b"\n")
                after = lines.pop(0) if begin else b""
                yield from (line.decode(ENCODING) for line in reversed(lines))


def known_rows(layout: Layout, product: str) -> list[FilesetRow]:
    """Return every row of the product received so far; none when the local listing is absent or damaged."""
    try:
        return list(LocalListing(layout, product).rows())
    except ServerUnavailable:
        return []


def _registration(line: str) -> Registration:
    name, _, rest = line.partition("|")
    return Registration(name.strip(), rest.partition("|")[0].strip())


def _name(line: str) -> str:
    return line.partition("|")[0].strip()


def _count_rows(file: BinaryIO, end: int) -> int:
    """Return the number of rows in the first ``end`` bytes, which are whole lines.

    ``#`` lines and blank ones are no rows. No listing has two blank lines in a row.
    """
    count, before = 0, b"\n"
    while block := file.read(min(_BLOCK_BYTES, end - file.tell())):
        # With the byte before, a line that begins at the border of two blocks is seen as such.
        count += block.count(b"\n") - sum((before + block).count(begin) for begin in (b"\n#", b"\n\n"))
        before = block[-1:]
    return count


def _end_of_last_line(descriptor: int) -> int:
    """Return the number of bytes of the whole lines of the file."""
    end = os.fstat(descriptor).st_size
    while end:
        begin = max(0, end - _BLOCK_BYTES)
        at = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        end = begin
    return 0


def _tail(descriptor: int, end: int) -> str:
    """Return a digest of the last bytes of the file before ``end``."""
    begin = max(0, end - _TAIL_BYTES)
    return sha256(os.pread(descriptor, end - begin, begin)).hexdigest()
