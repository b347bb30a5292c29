"""Reading of bundles: gzipped tar archives, within limits."""

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from isal import igzip, igzip_lib

from pipeline.errors import BundleUnusable

CHUNK_BYTES = 1 << 18
# Limit of long names and other attributes of a member, which tarfile reads into memory.
MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class UnpackLimits:
    """Limits for one bundle: bytes unpacked for each byte packed, and number of members.

    A bundle may always unpack to ``always_allowed_bytes``: a few kB may hold a FITS image of zeros.
    """

    ratio: int
    members: int = 100_000
    always_allowed_bytes: int = 256 << 20

    def max_bytes(self, packed: int) -> int:
        """Return the bytes that a bundle of ``packed`` bytes may unpack to."""
        return max(self.always_allowed_bytes, packed * self.ratio)


class Header(tarfile.TarInfo):
    """Header of a member. Members that tarfile would read into memory without a limit raise ReadError."""

    _EXTENDED = frozenset(
        {
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
        }
    )

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in self._EXTENDED and not 0 <= self.size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes, more than {MAX_HEADER_BYTES}")
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


def refuse_more_than_padding(packed: IO[bytes], bundle: Path) -> None:
    """Read to the end, where the checksum of gzip is verified. Raises BundleUnusable for content."""
    while chunk := packed.read(CHUNK_BYTES):
        if chunk.strip(b"\0"):
            raise BundleUnusable(
                f"{bundle}: expected nothing after the end of the archive, got further bytes. "
                "The bundle is not unpacked; the next run tries again."
            )


@contextmanager
def unusable_archive(bundle: Path) -> Iterator[None]:
    """Turn the errors of the readers for invalid bytes into BundleUnusable."""
    try:
        yield
    except _UNUSABLE as error:
        raise BundleUnusable(
            f"{bundle}: expected a gzipped tar archive, got {error or type(error).__name__}. "
            "The bundle is not unpacked; the next run tries again."
        ) from None
