"""A mirror that a newer version has worked on: every command refuses, and changes nothing."""

import json
import sys
from pathlib import Path

import pytest
from support.command import ended
from support.follower import Follower
from support.trees import tree
from support.upstream import File, Upstream

PRODUCT = "md-all-rel-200907"
COMMANDS = {
    "update": ["update"],
    "worker": ["worker", "--scheduler-port", "9"],
    "verify": ["verify"],
    "status": ["status"],
    "serve": ["serve", "--port", "0"],
    "skip": ["skip", PRODUCT, "plain", "--reason", "none"],
    "unskip": ["unskip", PRODUCT, "skipped"],
    "plan": ["plan"],
    "retry": ["retry"],
    "pause": ["pause"],
    "resume": ["resume"],
}
REFUSED = {
    '{"format": 3, "id": "5f0c"}': "format 3, this program supports formats up to 2. Use a newer version",
    '{"format": ': "the file is damaged",
}


def files_and_folders(folder: Path) -> tuple[dict[str, bytes], set[Path]]:
    return tree(folder), set(folder.rglob("*"))


@pytest.fixture
def mirrored(upstream: Upstream, follower: Follower) -> Follower:
    """A mirror with something to do for each of the commands."""
    upstream.add(PRODUCT, "plain", [File("t.fits", b"T" * 70)])
    upstream.add(PRODUCT, "skipped", [File("u.fits", b"U")])
    assert follower.update().code == 0
    skip = ["skip", PRODUCT, "skipped", "--reason", "none"]
    config = ["--mirror-config", str(follower.config)]
    assert ended([sys.executable, "-m", "tasks", skip[0], *config, *skip[1:]]).code == 0
    upstream.add(PRODUCT, "later", [File("l.fits", b"L")])
    return follower


@pytest.mark.parametrize("content", REFUSED, ids=["newer", "damaged"])
def test_every_command_refuses_a_root_it_does_not_know(content, mirrored, server):
    (mirrored.root / "mirror.json").write_text(content)
    before = files_and_folders(mirrored.root)
    server.clear()
    config = ["--mirror-config", str(mirrored.config)]
    for name, arguments in COMMANDS.items():
        result = ended([sys.executable, "-m", "tasks", arguments[0], *config, *arguments[1:]])
        assert result.code == 40, (name, result.output)
        (sentence,) = [line for line in result.output.splitlines() if not line.startswith("scheduler: ")]
        assert f"{mirrored.root}/mirror.json: " in sentence, name
        assert REFUSED[content] in sentence, name
        assert "nothing was started" in sentence, name
        assert files_and_folders(mirrored.root) == before, name
    assert server.requests == []


def test_an_update_keeps_keys_that_it_does_not_know(mirrored):
    path = mirrored.root / "mirror.json"
    written = json.loads(path.read_bytes())
    assert written.keys() == {"format", "id"}
    text = json.dumps({"later": [1], "id": written["id"], "format": 2})
    path.write_text(text)
    result = mirrored.update()
    assert result.code == 0, result.output
    assert path.read_text() == text


def test_a_half_written_file_of_a_killed_update_goes(mirrored):
    half = mirrored.root / ".0123456789abcdef0123456789abcdef.writing"
    half.write_bytes(b"{")
    assert mirrored.update().code == 0
    assert not half.exists()
