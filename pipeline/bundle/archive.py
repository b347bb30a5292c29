"""Reading of bundles: the members of a gzipped tar archive, once from begin to end, within limits.

A bundle holds folders, regular files, and hard links to files before them in the same bundle (protocol notes,
"Distribution filesets"). Whatever its headers say, no byte is read twice, and every byte that is read or
written counts against the limits.
"""

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NoReturn, Self

from isal import igzip, igzip_lib

from pipeline.errors import BundleUnusable
from pipeline.names import checked_member_path

CHUNK_BYTES = 1 << 18
# Limits of long names and other attributes, of a member and of all members. tarfile reads those of a member
# into memory, and needs time that grows as the square of their length.
MAX_HEADER_BYTES = 1 << 12
MAX_HEADERS_BYTES = 1 << 22
# Modification times from 1970 to the year 4147 (seconds): file systems and Python know no others for sure.
MAX_TIME = 1 << 36


@dataclass(frozen=True)
class UnpackLimits:
    """Limits for one bundle: bytes unpacked for each byte packed, and number of files and folders.

    A bundle may always unpack to ``always_allowed_bytes``: a few kB may hold a FITS image of zeros.
    """

    ratio: int
    members: int = 100_000
    always_allowed_bytes: int = 256 << 20

    def max_bytes(self, packed: int) -> int:
        """Return the bytes that a bundle of ``packed`` bytes may unpack to."""
        return max(self.always_allowed_bytes, packed * self.ratio)


class Allowance:
    """Rest of the limits for one bundle: ``bytes`` and ``members`` that may still come."""

    def __init__(self, bundle: Path, limits: UnpackLimits) -> None:
        self._bundle = bundle
        self._limits = limits
        self.bytes = limits.max_bytes(bundle.stat().st_size)
        self.members = limits.members

    def use(self, *, bytes: int = 0, members: int = 0) -> None:
        """Subtract what has come. Raises BundleUnusable when it is more than the rest."""
        self.bytes -= bytes
        self.members -= members
        if self.bytes < 0 or self.members < 0:
            self.refuse()

    def refuse(self) -> NoReturn:
        """Raise BundleUnusable for a bundle beyond the limits."""
        raise BundleUnusable(
            f"{self._bundle}: expected at most {self._limits.members} files and folders, and "
            f"{self._limits.ratio} bytes for each byte packed, got more. "
            "It is not unpacked; the next run tries again."
        )


@dataclass(frozen=True)
class Member:
    """File in a bundle: a regular file of ``size`` bytes, or a hard link.

    ``name`` is a relative path, ``modified`` is in seconds since 1970. ``link`` is the name of the member
    before this one whose content it has; None for a regular file. ``content`` is to be read before the next
    member.
    """

    name: str
    size: int
    modified: float
    link: str | None
    content: Iterator[bytes] = field(repr=False)


def read_members(bundle: Path, allowance: Allowance) -> Iterator[Member]:
    """Yield the files of a bundle in their order.

    Raises BundleUnusable or HostileName for an archive that no writer of bundles makes, OSError from the
    disk; so does reading the content of a member.
    """
    with _unusable_archive(bundle), igzip.open(bundle, "rb") as packed:  # type: ignore[no-untyped-call]
        stream = _ForwardStream(packed, allowance)
        # tarfile needs only these methods of a file.
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header) as archive:  # type: ignore[call-overload]
            while (header := archive.next()) is not None:
                # The list of all headers is of no use here, and could be of any size.
                archive.members.clear()
                allowance.use(members=1)
                if not header.isdir():
                    yield _member(bundle, header, stream, allowance)
                elif header.name.strip("./"):
                    checked_member_path(header.name, f"{bundle}, folder")
        _refuse_more_than_padding(stream, bundle)


def _member(bundle: Path, header: tarfile.TarInfo, stream: "_ForwardStream", allowance: Allowance) -> Member:
    name = checked_member_path(header.name, f"{bundle}, member")
    if not 0 <= header.mtime < MAX_TIME:
        raise tarfile.ReadError(f"a modification time of {header.mtime} s")
    if header.islnk():
        link = checked_member_path(header.linkname, f"{bundle}, target of hard link {name}")
        return Member(name, 0, header.mtime, link, iter(()))
    if not header.isreg():
        raise BundleUnusable(
            f"{bundle}: expected regular files, folders and hard links, got member {name[:300]!r} "
            f"of tar type {header.type!r}. The bundle is not unpacked; the next run tries again."
        )
    if header.size < 0:
        raise tarfile.ReadError(f"a member of {header.size} bytes")
    if header.size > allowance.bytes:
        allowance.refuse()
    return Member(name, header.size, header.mtime, None, _content(bundle, header, stream))


def _content(bundle: Path, header: tarfile.TarInfo, stream: "_ForwardStream") -> Iterator[bytes]:
    with _unusable_archive(bundle):
        yield from stream.chunks(header.offset_data, header.size)


class _ForwardStream:
    """Inflated bytes of a bundle as a file that ``tarfile`` reads, forwards only.

    All bytes count against the allowance, those that are passed over too.
    """

    def __init__(self, packed: IO[bytes], allowance: Allowance) -> None:
        self._packed = packed
        self._allowance = allowance
        self._position = 0
        self._attributes = 0

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer at the end. Raises BundleUnusable beyond the limits."""
        chunk = self._packed.read(size)
        self._position += len(chunk)
        self._allowance.use(bytes=len(chunk))
        return chunk

    def tell(self) -> int:
        """Return the number of bytes before the next one."""
        return self._position

    def seek(self, position: int) -> None:
        """Pass over the bytes before ``position``; it stays at the end if there are fewer.

        Raises ReadError for a position that is behind.
        """
        if position < self._position:
            raise tarfile.ReadError("members that overlap")
        while self._position < position:
            if not self.read(min(CHUNK_BYTES, position - self._position)):
                break

    def chunks(self, start: int, size: int) -> Iterator[bytes]:
        """Yield ``size`` bytes from ``start`` on, in chunks. Raises ReadError if there are fewer."""
        self.seek(start)
        while size:
            chunk = self.read(min(CHUNK_BYTES, size))
            if not chunk:
                raise tarfile.ReadError("the end in the middle of a member")
            size -= len(chunk)
            yield chunk

    def expect_attributes(self, size: int) -> None:
        """Count ``size`` bytes of attributes that come next. Raises ReadError beyond the limits."""
        self._attributes += size
        if not 0 <= size <= MAX_HEADER_BYTES or self._attributes > MAX_HEADERS_BYTES:
            raise tarfile.ReadError(
                f"attributes of {size} bytes, {self._attributes} bytes in all "
                f"(at most {MAX_HEADER_BYTES} for a member, and {MAX_HEADERS_BYTES} in all)"
            )


class _Header(tarfile.TarInfo):
    """Header of a member.

    Raises ReadError where ``tarfile`` would take an invalid header for the end of the archive, and for
    members that it would read into memory without a limit.
    """

    _EXTENDED = frozenset(
        {
            tarfile.XHDTYPE,
            tarfile.SOLARIS_XHDTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
        }
    )

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        """Return the next header. Raises ReadError for an invalid one, EOFHeaderError at the end mark."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no header and no end mark: {error}") from None

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in self._EXTENDED and isinstance(archive.fileobj, _ForwardStream):
            archive.fileobj.expect_attributes(self.size)
        if self.type == tarfile.XGLTYPE:
            # Such attributes override those of the members, and add up in memory.
            raise tarfile.ReadError("attributes for all members")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]

    def _refuse_sparse(self, *_: object) -> NoReturn:
        # No writer of bundles makes sparse files, and the maps of their holes can be of any size.
        raise tarfile.ReadError("a sparse file")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


# Raised by the readers for invalid bytes; the last three for numbers that are invalid or out of range, and
# for an endless chain of headers.
# (The stubs of isal declare its exception class as an instance.)
_UNUSABLE: tuple[type[Exception], ...] = (  # type: ignore[assignment]
    tarfile.TarError,
    EOFError,
    zlib.error,
    igzip_lib.IsalError,
    igzip.BadGzipFile,
    ValueError,
    OverflowError,
    RecursionError,
)


def _refuse_more_than_padding(stream: _ForwardStream, bundle: Path) -> None:
    """Read to the end, where the checksum of gzip is verified. Raises BundleUnusable for content."""
    while chunk := stream.read(CHUNK_BYTES):
        if chunk.strip(b"\0"):
            raise BundleUnusable(
                f"{bundle}: expected nothing after the end of the archive, got further bytes. "
                "The bundle is not unpacked; the next run tries again."
            )


@contextmanager
def _unusable_archive(bundle: Path) -> Iterator[None]:
    try:
        yield
    except _UNUSABLE as error:
        raise BundleUnusable(
            f"{bundle}: expected a gzipped tar archive, got {error or type(error).__name__}. "
            "The bundle is not unpacked; the next run tries again."
        ) from None
