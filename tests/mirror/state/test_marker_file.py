"""Marker files: which ones a folder scan counts as good."""

import json
import os
from pathlib import Path

import pytest
from support.audit import opened_below

from pipeline.mirror.state.marker_file import SCHEMA, good_markers, read_marker, write_marker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b.c"):
        write_marker(tmp_path / f"{name}.json", {"files": [1, 2, 3]})
    return tmp_path


def test_good_markers_are_not_read(folder):
    with opened_below(folder) as opened:
        assert good_markers(folder) == {"a", "b.c"}
    assert opened == ["."]
    assert good_markers(folder / "absent") == set()


@pytest.mark.parametrize(
    "content", [b"", b'{"schema": 1, "files": [1,', b'{"schema": 0}', b"[1]", b"null", b"\xff\xfe"]
)
def test_a_damaged_marker_counts_as_absent(content, folder):
    (folder / "a.json").write_bytes(content)
    assert good_markers(folder) == {"b.c"}
    assert read_marker(folder / "a.json") is None


def test_damage_is_seen_whatever_the_time_of_the_file(folder):
    """A truncated copy that kept its time: the checksum is made from the size."""
    path = folder / "a.json"
    status = path.stat()
    path.write_bytes(path.read_bytes()[:-5])
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert good_markers(folder) == {"b.c"}


def test_a_marker_without_a_valid_checksum_is_read(folder):
    path = folder / "a.json"
    os.utime(path, (1, 1))
    assert good_markers(folder) == {"a", "b.c"}
    assert read_marker(path)["files"] == [1, 2, 3]
    assert json.loads(path.read_text())["schema"] == SCHEMA


def test_a_marker_that_this_machine_cannot_read_does_not_pass_for_absent(folder):
    (folder / "a.json").unlink()
    # The kernel answers a read at the beginning of this file with EIO.
    (folder / "a.json").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output"):
        read_marker(folder / "a.json")
