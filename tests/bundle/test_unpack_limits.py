"""Archives that unpack to more than is allowed: the disk never holds more than the limit and one buffer."""

import gzip
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from support.archives import END, attribute, attributes, data, header
from support.bundles import bundle
from support.trees import tree

from pipeline.bundle.archive import CHUNK_BYTES, UnpackLimits
from pipeline.bundle.config_dump import MAX_DUMP_BYTES
from pipeline.bundle.unpack import BLOCK_BYTES, UnpackedFile, Unpacking
from pipeline.errors import BundleUnusable

ALLOWED = 1 << 20
LIMITS = UnpackLimits(ratio=1, members=1000, always_allowed_bytes=ALLOWED)
ZEROS = bytes(300_000)
FILE = header("a", tarfile.REGTYPE, len(ZEROS)) + data(ZEROS)
DUMP = b"FILES.INPUT METADATA\n" + b"a MULTI\n" + b" a STR neb://V/x\n" * 30_000 + b"END\n"


class Disk:
    """Space that an unpacking takes on the disk: bytes of files, and the blocks of files and folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counted = self.measured = self.most = self.calls = 0

    def wrote(self, count: int) -> None:
        self.counted += count
        self.calls += 1
        if self.counted - self.measured >= CHUNK_BYTES // 8:
            self.measured = self.counted
            self.most = max(self.most, self.held())

    def held(self) -> int:
        paths = list(self.root.rglob("*"))
        return sum(path.stat().st_size if path.is_file() else 4096 for path in paths)


def unpacked(
    tmp_path: Path, content: bytes, limits: UnpackLimits = LIMITS
) -> tuple[Disk, list[UnpackedFile]]:
    path = tmp_path / "b.tgz"
    path.write_bytes(content)
    folder = tmp_path / ("root" + "t" * 80) / "data"
    folder.mkdir(parents=True)
    disk = Disk(folder)
    try:
        return disk, Unpacking(path, folder / "c", folder, "tag", disk.wrote, limits).run()
    finally:
        assert disk.most <= disk.counted
        assert disk.most <= ALLOWED + CHUNK_BYTES
        assert disk.calls <= 3 * LIMITS.members


def overlapping(times: int) -> bytes:
    """An archive in which each header of a negative size leads back into the content before it."""
    inner = b"".join(
        header(f"i{number}", tarfile.REGTYPE, 512 * 600) + header(f"n{number}", tarfile.REGTYPE, -512 * 600)
        for number in range(times)
    )
    return (
        header("first", tarfile.REGTYPE, len(inner))
        + inner
        + header("back", tarfile.REGTYPE, -len(inner) - 512)
    )


def many(count: int, name: str = "m{}", size: int = 0) -> bytes:
    return b"".join(
        header(name.replace("{}", str(number)), tarfile.REGTYPE, size) + bytes(-(-size // 512) * 512)
        for number in range(count)
    )


BOMBS = {
    "one large file": header("a", tarfile.REGTYPE, 5_000_000) + bytes(5_000_000),
    "one file that says so": header("a", tarfile.REGTYPE, 2**60) + bytes(5_000_000),
    "a size as an attribute": attributes(attribute("size", "5000000")) + FILE + bytes(5_000_000),
    "many files": many(20, size=100_000) + END,
    "files that are empty": many(900) + END,
    "files in folders of their own": many(300, "f{}/f/f/f/f/a") + END,
    "one file in many folders, many times": many(30, "/".join(["{}"] * 50)) + END,
    "members that lead back": overlapping(300) + END,
    "copies by hard links": FILE
    + b"".join(header(f"l{n}", tarfile.LNKTYPE, linkname="a") for n in range(50))
    + END,
    "a config dump with longer paths": header("a.mdc", tarfile.REGTYPE, len(DUMP)) + data(DUMP) + END,
    "zeros behind the end": FILE + END + bytes(5_000_000),
    "a folder with content": header("a", tarfile.DIRTYPE, 5_000_000) + bytes(5_000_000),
    "folders only": b"".join(header(f"d{number}/", tarfile.DIRTYPE) for number in range(3000)) + END,
    "attributes only": attributes(attribute("comment", "c" * 4000)) * 200 + FILE + END,
    "long names": b"".join(header(f"{'n' * 200}/{'n' * 200}/{n}", tarfile.REGTYPE) for n in range(900)) + END,
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("pieces", [1, 40])
def test_a_bomb_is_refused_before_more_than_the_limit_is_on_the_disk(name, pieces, tmp_path):
    """A gzip stream may have several members, and only the last one says how large it is."""
    content = BOMBS[name]
    step = -(-len(content) // pieces)
    packed = b"".join(gzip.compress(content[at : at + step]) for at in range(0, len(content), step))
    with pytest.raises(BundleUnusable):
        unpacked(tmp_path, packed)
    assert tree(tmp_path) == {"b.tgz": packed}


def test_what_is_allowed_is_unpacked_and_counted(tmp_path):
    disk, files = unpacked(tmp_path, gzip.compress(FILE + many(100) + END))
    assert disk.held() <= disk.counted == len(ZEROS) + 4096 * (101 + len({"c"}))
    assert sum(file.bytes for file in files) == len(ZEROS)


@pytest.mark.parametrize("name", ["one large file", "one file that says so", "a size as an attribute"])
def test_a_member_that_says_that_it_is_too_large_is_not_begun(name, tmp_path):
    path = tmp_path / "b.tgz"
    path.write_bytes(gzip.compress(BOMBS[name]))
    wrote: list[int] = []
    with pytest.raises(BundleUnusable, match="for each byte packed"):
        Unpacking(path, tmp_path / "c", tmp_path, "tag", wrote.append, LIMITS).run()
    assert wrote == [BLOCK_BYTES], "more than the folder"


def test_the_message_has_the_limits(tmp_path):
    with pytest.raises(
        BundleUnusable, match="at most 1000 files and folders, and 1 bytes for each byte packed, got"
    ):
        unpacked(tmp_path, gzip.compress(BOMBS["one large file"]))


def test_empty_gzip_members_are_passed_over(tmp_path):
    _, files = unpacked(
        tmp_path, gzip.compress(b"") * 50_000 + bundle({"a": b"x"}) + gzip.compress(b"") * 50_000
    )
    assert [file.bytes for file in files] == [1]


@pytest.mark.parametrize("size", [MAX_DUMP_BYTES + 1, 10 * MAX_DUMP_BYTES])
def test_a_large_document_costs_a_buffer_of_memory(size, tmp_path):
    packed = bundle({"a.mdc": bytes(size)})
    tracemalloc.start()
    try:
        path = tmp_path / "b.tgz"
        path.write_bytes(packed)
        unpacking = Unpacking(path, tmp_path / "c", tmp_path, "tag", lambda _: None, UnpackLimits(ratio=200))
        del packed
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        unpacking.run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 3 << 20
