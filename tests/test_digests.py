"""Checksums of files."""

import hashlib
from zlib import crc32

import pytest

from pipeline.digests import file_crc32, file_md5


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 2500], ids=len)
def test_checksums_are_those_of_the_whole_file(content, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(content)
    assert file_md5(path) == hashlib.md5(content).hexdigest()
    assert file_crc32(path) == f"{crc32(content):08x}"
