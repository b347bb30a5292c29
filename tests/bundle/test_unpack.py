"""Archives that no honest writer makes: nothing of them is put in place, and nothing outside is touched."""

import contextlib
import gzip
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.archives import END, archive, attribute, attributes, data, header, member
from support.bundles import bundle
from support.trees import tree

from pipeline.bundle.archive import UnpackLimits
from pipeline.bundle.unpack import Unpacking, expected_bytes, put_in_place, temporary_name
from pipeline.errors import BundleUnusable, HostileName


def unpack(tmp_path: Path, content: bytes, **limits: int) -> None:
    """Unpack a bundle of that content below ``root/data/c``."""
    path = tmp_path / "b.tgz"
    path.write_bytes(content)
    folder = tmp_path / "root" / "data"
    limited = UnpackLimits(**{"ratio": 200} | limits)
    put_in_place(Unpacking(path, folder / "c", folder, "tag", lambda _: None, limited).run(), folder)


EMPTY = header("a", tarfile.REGTYPE) + END
GOOD = {"a.fits": b"A" * 3000, "deep/b.fits": b"B"}

GZIPPED = {
    "a time out of range": header("a", tarfile.REGTYPE, mtime=2**80) + END,
    "a time before 1970": header("a", tarfile.REGTYPE, mtime=-(2**40)) + END,
    "a time that is none": attributes(attribute("mtime", "nan")) + EMPTY,
    "a size that is none": attributes(attribute("GNU.sparse.size", "many")) + EMPTY,
    "a negative size": header("a", tarfile.REGTYPE, -1024) + EMPTY,
    "a negative size of attributes": header("p", tarfile.XHDTYPE, -1024) + EMPTY,
    "a negative size of a long name": header("p", tarfile.GNUTYPE_LONGNAME, -1024) + EMPTY,
    "an attribute that is a negative size": attributes(attribute("size", "-1024")) + EMPTY,
    "a size of all members": header("g", tarfile.XGLTYPE, 12) + data(attribute("size", "9")) + EMPTY,
    "a size beyond the archive": header("a", tarfile.REGTYPE, 5000) + data(b"a" * 1000) + END,
    "a size of 2**70 bytes": header("a", tarfile.REGTYPE, 2**70) + END,
    "headers without end": attributes(attribute("comment", "c")) * 3000 + EMPTY,
    "a long header": attributes(attribute("comment", "c" * 10_000)) + EMPTY,
    "an enormous header": attributes(attribute("comment", "c" * 2_000_000)) + EMPTY,
    "a sparse file": attributes(attribute("GNU.sparse.map", "0,1")) + EMPTY,
    "a sparse file of the old kind": header("a", tarfile.GNUTYPE_SPARSE) + END,
    "no end mark": header("a", tarfile.REGTYPE, 3) + data(b"abc"),
    "cut off in a header": header("a", tarfile.REGTYPE, 3) + data(b"abc") + header("b", tarfile.REGTYPE)[:99],
    "rubbish for a header": header("a", tarfile.REGTYPE, 3) + data(b"abc") + b"x" * 512 + END,
    "attributes of nothing": header("a", tarfile.REGTYPE) + attributes(attribute("comment", "c")) + END,
    "an attribute of no length": header("a", tarfile.REGTYPE) + attributes(b"0 size=1\n") + END,
}
LINK = tarfile.LNKTYPE
HOSTILE = {name: gzip.compress(content) for name, content in GZIPPED.items()} | {
    "absolute": archive((member("/etc/passwd"), b"x")),
    "traversal": archive((member("../../escape"), b"x")),
    "inner traversal": archive((member("a/../../escape"), b"x")),
    "symlink": archive((member("l", tarfile.SYMTYPE, "/etc"), b""), (member("l/x"), b"x")),
    "hard link to a symlink": archive(
        (member("l", tarfile.SYMTYPE, "a"), b""), (member("h", LINK, "l"), b"")
    ),
    "hard link to anywhere": archive((member("l", LINK, "/etc/passwd"), b"")),
    "hard link out of the folder": archive((member("l", LINK, "../b.tgz"), b"")),
    "hard link to nothing": archive((member("a"), b"x"), (member("l", LINK, "b"), b"")),
    "hard link to itself": archive((member("l", LINK, "l"), b"")),
    "hard link to what comes later": archive((member("l", LINK, "a"), b""), (member("a"), b"x")),
    "hard link to a folder": archive((member("a", tarfile.DIRTYPE), b""), (member("l", LINK, "a"), b"")),
    "hard link twice": archive((member("a"), b"x"), *[(member("l", LINK, "a"), b"")] * 2),
    "device": archive((member("d", tarfile.CHRTYPE), b"")),
    "pipe": archive((member("p", tarfile.FIFOTYPE), b"")),
    "a type that nobody knows": archive((member("p", b"Z"), b"x")),
    "control character": archive((member("a\x07b"), b"x")),
    "long name": archive((member("n" * 256), b"x")),
    "long path": archive((member("/".join(["n" * 200] * 6)), b"x")),
    "deep path": archive((member("a/" * 100 + "b"), b"x")),
    "a temporary name of ours": archive((member(temporary_name("a", "tag")), b"1"), (member("a"), b"2")),
    "a temporary name for a folder": archive((member(temporary_name("a", "other").upper() + "/a"), b"1")),
    "twice": archive((member("./a"), b"1"), (member("a"), b"2")),
    "no gzip": b"this is no archive",
    "no tar": gzip.compress(b"x" * 5000),
    "truncated": bundle({"a.fits": bytes(range(256)) * 400})[:-50],
    "trailing rubbish": bundle(GOOD) + b"rubbish",
    "more archive behind": bundle(GOOD) + gzip.compress(b"rubbish"),
    "another archive behind": bundle(GOOD) + bundle({"c": b""}),
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


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
