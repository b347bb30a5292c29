"""Folders of a mirror that are links to another disk, and file systems that cannot flush."""

import shutil

import pytest
from support.command import ended
from support.follower import Follower
from support.running import leftovers, tree_is_true
from support.upstream import served_filesets

PRODUCT = "md-all-rel-200907"


def link(follower: Follower, other_disk, *folders: str) -> None:
    follower.root.mkdir()
    for folder in folders:
        (other_disk / folder).mkdir()
        (follower.root / folder).symlink_to(other_disk / folder)


def test_filesets_that_could_not_be_published_are_not_fetched(release, server, follower, other_disk):
    link(follower, other_disk, "store")
    result = follower.update()
    assert result.code == 40, result.output
    assert result.output.count("\n") == 1
    assert f"{follower.root}/store and {follower.root}/incoming lie on two file systems" in result.output
    assert server.requests == []
    assert list((other_disk / "store").iterdir()) == []


def test_all_but_the_store_may_lie_on_another_disk(release, server, follower, other_disk):
    link(follower, other_disk, "data", "info", "state", "status", "log")
    assert follower.update().code == 0
    # Registered again: what it unpacked is replaced.
    release.add_bundles(PRODUCT, "o1.chip.1.1.1", {"XY01": {"b.fits": b"B" * 500}})
    result = follower.update()
    assert result.code == 0, result.output
    assert follower.content("store") == served_filesets(release)
    assert follower.content("data") == {"gpc1/MD01/o1.XY01/b.fits": b"B" * 500}
    tree_is_true(follower.root, PRODUCT, set(release.products[PRODUCT]))
    assert leftovers(follower.root) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("error", ["EINVAL", "ENOSYS"])
def test_a_file_system_without_a_flush(error, release, server, follower):
    failing = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"inject=fsync:error={error}"]
    result = ended([*failing, *follower.command()])
    assert result.code == 0, result.output
    assert result.output.count("\n") == 1
    assert follower.content("store") == served_filesets(release)
    log = (follower.root / "log" / "update_mirror.log").read_text()
    assert log.count("this file system cannot flush folders") == 1


def test_documents_hold_the_root_as_it_is_configured(release, server, follower, tmp_path):
    """A link, which leads to another disk later."""
    (tmp_path / "disk1").mkdir()
    follower.root.symlink_to(tmp_path / "disk1")
    assert follower.update().code == 0
    (document,) = follower.content(f"info/{PRODUCT}/o1.chip.1.1.1").values()
    assert f"{follower.root}/data/gpc1/MD01".encode() in document
    assert b"disk1" not in document
    shutil.move(tmp_path / "disk1", tmp_path / "disk2")
    follower.root.unlink()
    follower.root.symlink_to(tmp_path / "disk2")
    server.clear()
    assert follower.update().code == 0
    assert all("index.txt" in entry.target for entry in server.requests)
    tree_is_true(follower.root, PRODUCT, set(release.products[PRODUCT]))
