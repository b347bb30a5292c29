"""Archives that no honest writer makes: nothing of them is put in place, and nothing outside is touched."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from conftest import bundle, tree

from pipeline.bundle.unpack import Unpacking, UnpackLimits, put_in_place
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


def unpack(tmp_path: Path, content: bytes, **limits: int) -> None:
    path = tmp_path / "b.tgz"
    path.write_bytes(content)
    folder = tmp_path / "root" / "data" / "c"
    put_in_place(Unpacking(path, folder, tmp_path / "root" / "data", "tag", UnpackLimits(**limits)).run())


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
    with pytest.raises(BundleUnusable, match="at most 10 members"):
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
    # A disk of its own for a part of data/ is the site's own affair.
    (folder / "deep").unlink()
    folder.rmdir()
    folder.symlink_to(outside)
    unpack(tmp_path, bundle(GOOD))
    assert tree(outside) == GOOD
