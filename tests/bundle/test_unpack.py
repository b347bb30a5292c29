"""Archives that no honest writer makes: nothing of them is put in place, and nothing outside is touched."""

import contextlib
import gzip
import io
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bundles import bundle
from support.trees import tree

from pipeline.bundle.archive import UnpackLimits
from pipeline.bundle.unpack import Unpacking, expected_bytes, put_in_place
from pipeline.errors import BundleUnusable, HostileName


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o644
    return info


def unpack(tmp_path: Path, content: bytes, **limits: int) -> int:
    """Unpack a bundle of that content below ``root/data/c``; the bytes that it said it wrote."""
    path = tmp_path / "b.tgz"
    path.write_bytes(content)
    data = tmp_path / "root" / "data"
    wrote: list[int] = []
    put_in_place(
        Unpacking(path, data / "c", data, "tag", wrote.append, UnpackLimits(**{"ratio": 200} | limits)).run(),
        data,
    )
    return sum(wrote)


def header(name: str, kind: bytes, size: int = 0, **more: float) -> bytes:
    """One header block, whatever it says."""
    info = member(name, kind)
    info.size = size
    for attribute, value in more.items():
        setattr(info, attribute, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def attributes(text: bytes) -> bytes:
    """A header with attributes for the member behind it, in the pax format."""
    return header("p", tarfile.XHDTYPE, len(text)) + text + bytes(-len(text) % 512)


def attribute(name: str, value: str) -> bytes:
    """One attribute; its line begins with its own length."""
    rest = f" {name}={value}\n".encode()
    length = next(n for n in range(len(rest), 10**7) if n == len(rest) + len(str(n)))
    return str(length).encode() + rest


EMPTY = header("a", tarfile.REGTYPE) + bytes(1024)
GOOD = {"a.fits": b"A" * 3000, "deep/b.fits": b"B"}

HOSTILE = {
    "absolute": archive((member("/etc/passwd"), b"x")),
    "traversal": archive((member("../../escape"), b"x")),
    "inner traversal": archive((member("a/../../escape"), b"x")),
    "symlink": archive((member("l", tarfile.SYMTYPE, "/etc"), b""), (member("l/x"), b"x")),
    "hard link": archive((member("l", tarfile.LNKTYPE, "/etc/passwd"), b"")),
    "device": archive((member("d", tarfile.CHRTYPE), b"")),
    "pipe": archive((member("p", tarfile.FIFOTYPE), b"")),
    "control character": archive((member("a\x07b"), b"x")),
    "long name": archive((member("n" * 256), b"x")),
    "twice": archive((member("./a"), b"1"), (member("a"), b"2")),
    "no gzip": b"this is no archive",
    "no tar": gzip.compress(b"x" * 5000),
    "truncated": bundle({"a.fits": bytes(range(256)) * 400})[:-50],
    "a time out of range": gzip.compress(header("a", tarfile.REGTYPE, mtime=2**80) + bytes(1024)),
    "a time that is none": gzip.compress(attributes(attribute("mtime", "nan")) + EMPTY),
    "a size that is none": gzip.compress(attributes(attribute("GNU.sparse.size", "many")) + EMPTY),
    "headers without end": gzip.compress(attributes(attribute("comment", "c")) * 3000 + EMPTY),
    "an enormous header": gzip.compress(attributes(attribute("comment", "c" * 2_000_000)) + EMPTY),
    "a sparse file": gzip.compress(attributes(attribute("GNU.sparse.map", "0,1")) + EMPTY),
    "trailing rubbish": bundle(GOOD) + b"rubbish",
    "more archive behind": bundle(GOOD) + gzip.compress(b"rubbish"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_left_of_a_hostile_archive(name, tmp_path):
    with pytest.raises((BundleUnusable, HostileName)) as raised:
        unpack(tmp_path, HOSTILE[name])
    assert "b.tgz" in str(raised.value)
    assert tree(tmp_path / "root") == {}
    assert set(tree(tmp_path)) == {"b.tgz"}


def test_an_honest_archive(tmp_path):
    unpack(tmp_path, bundle(GOOD))
    assert tree(tmp_path / "root" / "data" / "c") == GOOD


def test_two_names_of_the_same_crc32(tmp_path):
    names = {"plumless": b"1", "buckeroo": b"2"}
    assert len({zlib.crc32(name.encode()) for name in names}) == 1
    unpack(tmp_path, bundle(names))
    assert tree(tmp_path / "root" / "data" / "c") == names


@pytest.mark.parametrize("order", [1, -1])
def test_a_name_that_is_a_file_and_a_folder(order, tmp_path):
    members = [(member("a"), b"1"), (member("a/b"), b"2"), (member("c"), b"3")]
    with pytest.raises(BundleUnusable, match=r"c/a: expected nothing where a bundle has a file"):
        unpack(tmp_path, archive(*members[::order]))
    assert not [path for path in tree(tmp_path / "root") if not path.endswith(".unpacking")]


def test_nothing_is_put_in_place_where_a_folder_has_one_of_the_names(tmp_path):
    folder = tmp_path / "root" / "data" / "c" / "deep" / "b.fits"
    (folder / "further").mkdir(parents=True)
    (folder / "further" / "x").write_bytes(b"in the way")
    with pytest.raises(BundleUnusable, match=r"b\.fits: expected nothing"):
        unpack(tmp_path, bundle(GOOD))
    assert (folder / "further" / "x").read_bytes() == b"in the way"
    assert not (tmp_path / "root" / "data" / "c" / "a.fits").exists()


def test_a_folder_without_files_gives_way(tmp_path):
    (tmp_path / "root" / "data" / "c" / "deep" / "b.fits" / "further").mkdir(parents=True)
    unpack(tmp_path, bundle(GOOD))
    assert tree(tmp_path / "root" / "data" / "c") == GOOD


@pytest.mark.parametrize("taken", ["c", "c/deep"])
def test_nothing_is_unpacked_where_a_file_stands_for_a_folder(taken, tmp_path):
    file = tmp_path / "root" / "data" / taken
    file.parent.mkdir(parents=True)
    file.write_bytes(b"in the way")
    with pytest.raises(BundleUnusable, match=f"b.tgz: expected a folder at .*{taken}"):
        unpack(tmp_path, bundle(GOOD))
    assert tree(tmp_path / "root" / "data") == {taken: b"in the way"}


FIELDS = {"name": (0, 100), "size": (124, 12), "mtime": (136, 12), "type": (156, 1), "magic": (257, 8)}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.sampled_from(["mtime", "size", "path", "GNU.sparse.major", "GNU.sparse.map", "uid"])),
    value=st.one_of(st.text(max_size=10), st.integers().map(str), st.floats().map(str)),
    field=st.sampled_from(sorted(FIELDS)),
    put=st.one_of(st.none(), st.binary(min_size=1, max_size=100)),
)
def test_any_header_is_read_or_refused(names, value, field, put, tmp_path):
    raw = bytearray(archive_of(attributes(b"".join(attribute(name, value) for name in names))))
    if put:
        start, length = FIELDS[field]
        raw[-2048 + start : -2048 + start + len(put[:length])] = put[:length]
        raw[-2048 + 148 : -2048 + 156] = b" " * 8
        raw[-2048 + 148 : -2048 + 156] = b"%06o\0 " % sum(raw[-2048 : -2048 + 512])
    with contextlib.suppress(BundleUnusable, HostileName):
        unpack(tmp_path, gzip.compress(raw))


def archive_of(before: bytes) -> bytes:
    """A tar archive of a member of three bytes, with something before it."""
    return before + header("a", tarfile.REGTYPE, 3) + b"abc".ljust(512, b"\0") + bytes(1024)


def test_concatenated_gzip_members_are_one_stream(tmp_path):
    whole = gzip.decompress(bundle(GOOD))
    unpack(tmp_path, gzip.compress(whole[:2000]) + gzip.compress(whole[2000:]))
    assert tree(tmp_path / "root" / "data" / "c") == GOOD


def test_a_setuid_bit_is_not_kept(tmp_path):
    info = member("a")
    info.mode = 0o6777
    unpack(tmp_path, archive((info, b"x")))
    assert (tmp_path / "root" / "data" / "c" / "a").stat().st_mode & 0o7022 == 0


def test_a_bomb_is_refused_before_it_is_written(tmp_path):
    with pytest.raises(BundleUnusable, match="bytes for each byte packed"):
        unpack(tmp_path, bundle({"zeros": bytes(5_000_000)}), ratio=10, always_allowed_bytes=1000)
    assert tree(tmp_path / "root") == {}


def test_too_many_members_are_refused(tmp_path):
    with pytest.raises(BundleUnusable, match="at most 10 files and folders"):
        unpack(tmp_path, bundle({f"m{number}": b"" for number in range(20)}), members=10)
    assert tree(tmp_path / "root") == {}


def test_a_link_in_the_way_that_leads_elsewhere_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "root" / "data" / "c"
    folder.mkdir(parents=True)
    (folder / "deep").symlink_to(outside)
    with pytest.raises(BundleUnusable, match="leads elsewhere"):
        unpack(tmp_path, bundle(GOOD))
    assert tree(folder) == {}
    assert tree(outside) == {}
    # A disk of its own for a part of data/ is for the site to decide.
    (folder / "deep").unlink()
    folder.rmdir()
    folder.symlink_to(outside)
    unpack(tmp_path, bundle(GOOD))
    assert tree(outside) == GOOD


@pytest.mark.parametrize("size", [0, 10, 5_000_000])
def test_what_a_bundle_unpacks_to_is_known_before(size, tmp_path):
    path = tmp_path / "b.tgz"
    path.write_bytes(bundle({"a.fits": bytes(size)}))
    assert size <= expected_bytes(path, UnpackLimits(ratio=200)) <= size + 10_240


@pytest.mark.parametrize(
    ("packed", "unpacked"), [(2 << 30, 5 << 30), (1 << 30, 4 << 30), (1 << 30, 1 << 30), (7 << 30, 19 << 30)]
)
def test_what_a_bundle_of_gigabytes_unpacks_to_is_known_before(packed, unpacked, tmp_path):
    path = tmp_path / "b.tgz"
    with open(path, "wb") as file:
        file.seek(packed - 4)
        file.write((unpacked % 2**32).to_bytes(4, "little"))
    assert expected_bytes(path, UnpackLimits(ratio=200)) == unpacked


@pytest.mark.parametrize("content", [b"", b"no", b"this is no archive\xff\xff\xff\xff"])
def test_what_is_no_bundle_cannot_ask_for_more_than_is_allowed(content, tmp_path):
    path = tmp_path / "b.tgz"
    path.write_bytes(content)
    limits = UnpackLimits(ratio=10, always_allowed_bytes=1000)
    assert len(content) <= expected_bytes(path, limits) <= 1000
