"""Marker files: which ones are good."""

from pathlib import Path

import pytest

from pipeline.mirror.state.marker_file import SCHEMA, read_marker, write_marker


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "b.c.json"
    write_marker(path, {"files": [1, 2, 3]})
    return path


def test_a_marker_is_read_as_it_was_written(path):
    assert read_marker(path) == {"schema": SCHEMA, "files": [1, 2, 3]}
    assert path.read_text() == '{\n "schema": 1,\n "files": [\n  1,\n  2,\n  3\n ]\n}\n'


@pytest.mark.parametrize(
    "content", [b"", b'{"schema": 1, "files": [1,', b'{"schema": 0}', b"[1]", b"null", b"\xff\xfe"]
)
def test_a_damaged_marker_counts_as_absent(content, path):
    path.write_bytes(content)
    assert read_marker(path) is None


def test_what_is_no_file_counts_as_absent(path):
    assert read_marker(path.parent) is None
    assert read_marker(path.parent / "absent.json") is None
    assert read_marker(path / "below.json") is None


def test_a_marker_that_this_machine_cannot_read_does_not_pass_for_absent(path):
    path.unlink()
    # The kernel answers a read at the beginning of this file with EIO.
    path.symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output"):
        read_marker(path)
