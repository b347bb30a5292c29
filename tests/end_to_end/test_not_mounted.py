"""A mirror whose disk is not mounted: every command refuses, and nothing is begun on the disk below."""

import sys

import pytest
from support.command import ended
from support.follower import Follower
from support.trees import tree
from support.upstream import File, Upstream, served_filesets

PRODUCT = "md-all-rel-200907"
COMMANDS = {
    "update": [],
    "verify": [],
    "worker": ["--scheduler-port", "9"],
    "status": [],
    "serve": ["--port", "0"],
    "skip": [PRODUCT, "plain", "--reason", "none"],
    "unskip": [PRODUCT, "plain"],
    "plan": [],
    "retry": [],
    "pause": [],
    "resume": [],
}


@pytest.mark.parametrize("kept", [True, False], ids=["note", "must_exist"])
def test_a_mirror_that_is_not_mounted(kept, upstream: Upstream, follower: Follower, server, tmp_path):
    upstream.add(PRODUCT, "plain", [File("t.fits", b"T" * 70)])
    assert follower.update().code == 0
    note = tmp_path / ".mirror.yaml.id"
    assert note.is_file()
    if not kept:
        note.unlink()
        follower.mirror["must_exist"] = True
    follower.root.rename(tmp_path / "unmounted")
    follower.root.mkdir()
    server.clear()
    for name, arguments in COMMANDS.items():
        command = [sys.executable, "-m", "tasks", name, "--config", str(follower.config), *arguments]
        result = ended(command)
        assert result.code == 40, (name, result.output)
        (sentence,) = [line for line in result.output.splitlines() if not line.startswith("scheduler: ")]
        assert "Mount the disk of the mirror" in sentence, name
        assert str(follower.root) in sentence, name
        assert list(follower.root.iterdir()) == [], name
    assert server.requests == []
    follower.root.rmdir()
    (tmp_path / "unmounted").rename(follower.root)
    before = tree(follower.root / "store")
    assert follower.update().code == 0
    assert follower.content("store") == before == served_filesets(upstream)


def test_a_mirror_that_is_to_begin_anew(upstream: Upstream, follower: Follower, tmp_path):
    upstream.add(PRODUCT, "plain", [File("t.fits", b"T" * 70)])
    assert follower.update().code == 0
    follower.root.rename(tmp_path / "old")
    assert follower.update().code == 40
    (tmp_path / ".mirror.yaml.id").unlink()
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(upstream)
