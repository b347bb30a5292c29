"""Reading of archives in all the formats in which an honest writer may pack a bundle."""

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from support.archives import END, attribute, attributes, data, header
from support.bundles import bundle

from pipeline.bundle.archive import MAX_HEADERS_BYTES, Allowance, UnpackLimits, read_members
from pipeline.errors import BundleUnusable


def read(path: Path) -> dict[str, bytes | str]:
    """The content of each regular file, and the target of each hard link."""
    members = read_members(path, Allowance(path, UnpackLimits(ratio=200)))
    return {member.name: member.link or b"".join(member.content) for member in members}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_headers_is_read(format, tmp_path):
    long = "/".join(["folder" * 10] * 2) + "/" + "n" * 80
    files = {"a.fits": b"a" * 1000, "b.log.bz2": b"BZh9", long: b"", "block": b"b" * 512}
    with tarfile.open(tmp_path / "b.tgz", "w:gz", format=format) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mtime = len(content), 1_250_000_000
            tar.addfile(info, io.BytesIO(content))
    assert read(tmp_path / "b.tgz") == files


def test_sizes_in_base_256_and_as_attributes(tmp_path):
    base_256 = bytearray(header("a", tarfile.REGTYPE))
    base_256[124:136] = b"\x80" + (1000).to_bytes(11, "big")
    base_256[148:156] = b" " * 8
    base_256[148:156] = b"%06o\0 " % sum(base_256[:512])
    content = bytes(base_256) + data(b"a" * 1000)
    content += attributes(attribute("size", "700")) + header("b", tarfile.REGTYPE) + data(b"b" * 700)
    (tmp_path / "b.tgz").write_bytes(gzip.compress(content + header("c", tarfile.REGTYPE) + END))
    assert read(tmp_path / "b.tgz") == {"a": b"a" * 1000, "b": b"b" * 700, "c": b""}


def test_gzip_members_are_one_stream_and_zeros_may_follow(tmp_path):
    whole = gzip.decompress(bundle({"a": b"a" * 3000, "b": b"b"}))
    packed = b"".join(gzip.compress(whole[at : at + 700]) for at in range(0, len(whole), 700))
    (tmp_path / "b.tgz").write_bytes(packed + gzip.compress(bytes(20_000)) + bytes(1000))
    assert read(tmp_path / "b.tgz") == {"a": b"a" * 3000, "b": b"b"}


def test_what_tar_writes_when_it_follows_links(tmp_path):
    """Two links to one file are a file and a hard link to it in the archive."""
    folder = tmp_path / "from" / "deep"
    folder.mkdir(parents=True)
    (tmp_path / "dump").write_bytes(b"content")
    for name in ("one", "two"):
        os.symlink(tmp_path / "dump", folder / name)  # noqa: PTH211
    command = ["tar", "-C", str(tmp_path / "from"), "--sort=name", "-czhf", str(tmp_path / "b.tgz"), "."]
    subprocess.run(command, check=True)
    assert read(tmp_path / "b.tgz") == {"deep/one": b"content", "deep/two": "deep/one"}


def test_the_rest_of_a_member_may_be_left_unread(tmp_path):
    (tmp_path / "b.tgz").write_bytes(bundle({"a": b"a" * 3000, "b": b"b"}))
    members = read_members(tmp_path / "b.tgz", Allowance(tmp_path / "b.tgz", UnpackLimits(ratio=200)))
    assert [member.name for member in members] == ["a", "b"]


def test_the_attributes_of_all_members_together_are_limited(tmp_path):
    text = attribute("comment", "c" * 4000)
    count = MAX_HEADERS_BYTES // len(text) + 1
    members = b"".join(attributes(text) + header(f"m{number}", tarfile.REGTYPE) for number in range(count))
    (tmp_path / "b.tgz").write_bytes(gzip.compress(members + END))
    with pytest.raises(BundleUnusable, match=f"attributes of .*{MAX_HEADERS_BYTES} in all"):
        read(tmp_path / "b.tgz")
