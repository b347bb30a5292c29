"""Order of arrival: the filesets of a product in the order in which they became visible in ``store/``.

The order decides what a downstream reader gets for ``?FILESET`` (docs/protocol.md, "Since"), so that it is on
the disk before a fileset can be seen. ``arrivals.txt`` is a product listing with the rows as upstream sent
them, and three more columns:

* ``arrival``: number of the entry, ascending; ``~`` before it marks a place that is not known exactly;
* ``md5 of index.txt``: the entry holds as long as ``store/`` has that ``index.txt``, so that it is told apart
  from one whose fileset was not published, because of a kill;
* ``crc32`` of the ``#`` line in force and the rest of the row, in hex: damage does not go unnoticed.

Of several entries of one name the last one holds whose ``index.txt`` is that in ``store/``.
"""

import re
from collections.abc import Iterable, Iterator
from hashlib import md5
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from pipeline.datastore.listing import INDEX, FilesetRow, read_files, write_filesets
from pipeline.errors import MirrorError
from pipeline.names import checked_segment

TITLE = b"# The order in which the filesets became visible in store/; docs/on-disk.md\n"
HEADER_START = b"# filesetID|"
# The ``#`` line is repeated after as many bytes, so that the end of the file can be read without the rest.
REPEAT_HEADER_BYTES = 1 << 16
_COLUMNS = b"arrival|md5 of index.txt|crc32|"
_NUMBER = re.compile(rb"~?[0-9]{1,18}", re.ASCII)


class Entry(NamedTuple):
    """One row of ``arrivals.txt``: ``header`` and ``row`` are those of upstream, both without a line end."""

    header: bytes
    row: bytes
    number: int
    is_exact: bool
    index_md5: bytes

    @property
    def name(self) -> bytes:
        """Name of the fileset."""
        return self.row.split(b"|", 1)[0]

    @property
    def registered(self) -> bytes:
        """Time of registration in the row."""
        return self.row.split(b"|", 2)[1]

    @property
    def arrival(self) -> str:
        """The number as text, with ``~`` if the place is not known exactly."""
        return f"{'' if self.is_exact else '~'}{self.number}"

    @classmethod
    def of(cls, row: FilesetRow, number: int, is_exact: bool, index: bytes) -> "Entry":
        """Return the entry of a listing row, for a fileset with that ``index.txt``."""
        header, line = write_filesets([row]).rstrip(b"\n").split(b"\n")
        return cls(header, line, number, is_exact, md5_of(index))


def scan_arrivals(lines: Iterable[bytes]) -> Iterator[Entry | None]:
    """Yield the entries of a whole ``arrivals.txt`` as ``scan_entries``; None too if its begin is missing."""
    lines = iter(lines)
    if next(lines, b"") != TITLE:
        yield None
    yield from scan_entries(lines)


def scan_entries(lines: Iterable[bytes]) -> Iterator[Entry | None]:
    """Yield the entries in lines of ``arrivals.txt`` from a ``#`` line on, None for each damaged line.

    An unfinished last line is left out.

    >>> row = b"o1|2009-07-29T00:00:01Z|notset|"
    >>> entry = Entry(b"# filesetID|time registered|type|", row, 1, True, b"0" * 32)
    >>> list(scan_entries([*entry_lines(entry, b""), b"o2|2009-0"])) == [entry]
    True
    """
    header, header_crc = b"", 0
    for line in lines:
        if not line.endswith(b"\n"):
            return
        if line.startswith(HEADER_START):
            header = line[:-1].removesuffix(_COLUMNS)
            header_crc = crc32(line[:-1])
        else:
            yield _parse(line[:-1], header, header_crc)


def entry_lines(entry: Entry, header: bytes) -> Iterator[bytes]:
    """Yield the lines of the entry; its ``#`` line only if that is not ``header``, the one in force."""
    own = entry.header + _COLUMNS
    if entry.header != header:
        yield own + b"\n"
    start = entry.row + b"%s|%s|" % (entry.arrival.encode(), entry.index_md5)
    yield start + b"%08x|\n" % crc32(start, crc32(own))


def write_entries(entries: list[Entry]) -> bytes:
    """Return the content of ``arrivals.txt`` with these entries."""
    content = bytearray(TITLE)
    header, written_at = b"", 0
    for entry in entries:
        if len(content) - written_at > REPEAT_HEADER_BYTES:
            header = b""
        if entry.header != header:
            header, written_at = entry.header, len(content)
            content += header + _COLUMNS + b"\n"
        content += b"".join(entry_lines(entry, header))
    return bytes(content)


def stored_index_md5(folder: Path) -> bytes | None:
    """Return the md5 of the ``index.txt`` of a stored fileset; None unless all files in it are present."""
    try:
        index = (folder / INDEX).read_bytes()
        files = read_files(index, str(folder))
        complete = all((folder / checked_segment(file.name, str(folder))).is_file() for file in files)
    except (OSError, MirrorError):
        return None
    return md5_of(index) if complete else None


def md5_of(index: bytes) -> bytes:
    """Return the md5 of an ``index.txt`` as written in entries."""
    return md5(index).hexdigest().encode()


def parse_number(text: bytes) -> tuple[int, bool] | None:
    """Return the number of an entry, and whether its place is known exactly; None if the text is none."""
    if not _NUMBER.fullmatch(text):
        return None
    return int(text.lstrip(b"~")), not text.startswith(b"~")


def _parse(line: bytes, header: bytes, header_crc: int) -> Entry | None:
    parts = line.rsplit(b"|", 4)
    if len(parts) != 5 or not header or parts[3] != b"%08x" % crc32(line[:-9], header_crc):
        return None
    number = parse_number(parts[1])
    return number and Entry(header, parts[0] + b"|", *number, parts[2])
