"""Checksums of files on the disk."""

import hashlib
from functools import partial
from pathlib import Path

from isal import isal_zlib

_BLOCK_BYTES = 1 << 18


def file_md5(path: Path) -> str:
    """Return the md5 of a file, as 32 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def file_crc32(path: Path) -> str:
    """Return the CRC-32 of a file, as 8 hex digits."""
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            crc = isal_zlib.crc32(block, crc)
    return f"{crc:08x}"
