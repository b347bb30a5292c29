"""Snapshots of folders of markers: always right about names, and nothing is read that they know."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.audit import opened_below
from support.many_filesets import modify_hours_ago

from pipeline.mirror.state.clock import file_system_time
from pipeline.mirror.state.marker_file import SCHEMA, marker_text, write_marker
from pipeline.mirror.state.snapshot import (
    count_markers,
    current_header,
    good_in_all,
    good_markers,
    held_bytes,
    marker_names,
    renew_snapshot,
)

NAMES = {f"fileset.{number}" for number in range(20)}
BYTES = 10
SECOND = 10**9


def mark(folder: Path, name: str, size: int = BYTES) -> None:
    folder.mkdir(exist_ok=True)
    text = marker_text({"files": [{"name": "a", "bytes": size - 3}, {"bytes": 3}]})
    (folder / f"{name}.json").write_bytes(text)


def snapshot_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.snapshot")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of markers to which nothing has come for an hour, and its snapshot."""
    folder = tmp_path / "downloaded"
    for name in NAMES:
        mark(folder, name)
    modify_hours_ago(folder, 1)
    assert renew_snapshot(folder) == BYTES * len(NAMES)
    return folder


def names_and_markers_read(folder: Path) -> tuple[set[str], list[str]]:
    """The good names, and which files of the folder are opened to find them."""
    with opened_below(folder) as opened:
        names = good_markers(folder)
    return names, [path for path in opened if path.endswith(".json")]


def test_while_nothing_changes_the_folder_is_not_looked_at(folder):
    before = snapshot_of(folder).stat()
    with opened_below(folder) as opened:
        assert good_markers(folder) == NAMES
        assert count_markers(folder) == len(NAMES)
        assert renew_snapshot(folder) == BYTES * len(NAMES)
    assert set(opened) == {"."}, "opened for its time, and not scanned"
    after = snapshot_of(folder).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_of_a_folder_that_changed_only_new_markers_are_read(folder):
    mark(folder, "new", 7)
    (folder / "fileset.3.json").unlink()
    names = NAMES - {"fileset.3"} | {"new"}
    assert names_and_markers_read(folder) == (names, ["new.json"])
    assert renew_snapshot(folder) == BYTES * (len(NAMES) - 1) + 7
    assert names_and_markers_read(folder) == (names, [])


def test_a_marker_that_comes_again_after_a_look_is_read(folder):
    (folder / "fileset.3.json").unlink()
    assert renew_snapshot(folder) == BYTES * (len(NAMES) - 1)
    mark(folder, "fileset.3", 1000)
    assert renew_snapshot(folder) == BYTES * (len(NAMES) - 1) + 1000


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "files": [', b'{"schema": 0}', b"[1]", b"\xff"])
def test_a_damaged_marker_does_not_count_when_it_comes(content, folder):
    (folder / "bad.json").write_bytes(content)
    (folder / "folder.json").mkdir()
    assert good_markers(folder) == NAMES
    assert renew_snapshot(folder) == BYTES * len(NAMES)
    assert json.loads(snapshot_of(folder).read_bytes().splitlines()[0])["count"] == len(NAMES)
    assert marker_names(folder) == NAMES | {"bad", "folder"}


def test_a_marker_that_is_damaged_in_its_place_is_left_to_those_who_read_it(folder):
    (folder / "fileset.3.json").write_bytes(b"{")
    assert names_and_markers_read(folder) == (NAMES, [])


@pytest.mark.parametrize("age", [-5 * SECOND, 0, 1, SECOND, 2 * SECOND - 1])
@pytest.mark.parametrize("change", ["added", "removed"])
def test_a_change_in_the_tick_of_the_clock_in_which_the_folder_was_looked_at(change, age, folder):
    """The folder has the same time before and after the change."""
    modified = (file_system_time(folder.parent) // SECOND) * SECOND - age
    snapshot_of(folder).unlink()
    os.utime(folder, ns=(modified, modified))
    # The clock of whole seconds, which may have gone on since.
    renew_in_second_of(folder, modified + age)
    if change == "added":
        mark(folder, "new")
    else:
        (folder / "fileset.3.json").unlink()
    os.utime(folder, ns=(modified, modified))
    assert current_header(folder) is None
    assert good_markers(folder) == (NAMES | {"new"} if change == "added" else NAMES - {"fileset.3"})
    assert count_markers(folder) == len(NAMES) + (1 if change == "added" else -1)


def renew_in_second_of(folder: Path, taken: int) -> None:
    """Write the snapshot as on a file system whose clock stands at ``taken``."""
    renew_snapshot(folder)
    head, _, body = snapshot_of(folder).read_bytes().partition(b"\n")
    header = json.loads(head) | {"taken": taken}
    snapshot_of(folder).write_bytes(json.dumps(header).encode() + b"\n" + body)


def test_whatever_happens_in_whole_seconds_the_names_are_right(folder):
    """Each change leaves a time in whole seconds; now and then hours go by."""
    chance = random.Random(42)
    names, hours = set(NAMES), 1000
    for step in range(300):
        action = chance.choice(["add", "remove", "renew", "wait"])
        if action == "add":
            mark(folder, f"new.{step}")
            names.add(f"new.{step}")
        elif action == "remove":
            name = chance.choice(sorted(names))
            (folder / f"{name}.json").unlink()
            names.remove(name)
        elif action == "renew":
            assert renew_snapshot(folder) == BYTES * len(names)
        if action == "wait":
            hours -= 1
            modify_hours_ago(folder, hours)
        elif action != "renew":
            seconds = folder.stat().st_mtime_ns // SECOND
            os.utime(folder, (seconds, seconds))
        assert good_markers(folder) == names
        assert count_markers(folder) == len(names)


def flipped_everywhere(content: bytes) -> list[bytes]:
    return [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(len(content))]


DAMAGES: dict[str, Callable[[bytes], list[bytes]]] = {
    "empty": lambda _: [b""],
    "cut": lambda content: [content[:end] for end in range(0, len(content), 7)],
    "a flipped byte": flipped_everywhere,
    "a digit": lambda content: [content.replace(b":10", b":11", 1), content.replace(b":10", b":1x", 1)],
    "of another kind": lambda _: [b"[1]\n", b"1\n", b"{}\n", b'"x"\n', b"\0" * 500],
    "lines of another kind": lambda content: [content.partition(b"\n")[0] + b"\n[1]\n"],
    "of markers of another schema": lambda content: [
        content.replace(b'"schema": %d' % SCHEMA, b'"schema": %d' % (SCHEMA + 1))
    ],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_counts_as_absent(damage, folder):
    snapshot = snapshot_of(folder)
    content = snapshot.read_bytes()
    for damaged in DAMAGES[damage](content):
        assert damaged != content
        snapshot.write_bytes(damaged)
        assert good_markers(folder) == NAMES


def test_a_lost_snapshot_is_written_again(folder):
    snapshot = snapshot_of(folder)
    content = snapshot.read_bytes().partition(b"\n")[2]
    snapshot.unlink()
    names, read = names_and_markers_read(folder)
    assert (names, len(read)) == (NAMES, len(NAMES))
    assert not snapshot.exists(), "only the holder of the lock writes"
    renew_snapshot(folder)
    assert snapshot.read_bytes().partition(b"\n")[2] == content
    assert names_and_markers_read(folder) == (NAMES, [])


@pytest.mark.parametrize("keeps_times", [True, False])
def test_a_copy_is_looked_at_once_and_no_marker_is_read(keeps_times, folder, tmp_path):
    copy = tmp_path / "copy" / folder.name
    shutil.copytree(folder, copy)
    shutil.copy2(snapshot_of(folder), snapshot_of(copy))
    if not keeps_times:
        os.utime(copy)
    assert (current_header(copy) is not None) == keeps_times
    assert names_and_markers_read(copy) == (NAMES, [])
    modify_hours_ago(copy, 2)
    with opened_below(copy) as opened:
        renew_snapshot(copy)
    assert "./" in opened
    assert not [path for path in opened if path.endswith(".json")]
    assert current_header(copy)


@pytest.mark.parametrize("change", ["none", "added", "removed", "one for another"])
def test_another_look_leaves_a_snapshot_that_is_true(change, folder):
    names = set(NAMES)
    if change in {"added", "one for another"}:
        mark(folder, "new")
        names.add("new")
    if change in {"removed", "one for another"}:
        (folder / "fileset.3.json").unlink()
        names.remove("fileset.3")
    for hours in (3, 2):
        modify_hours_ago(folder, hours)
        assert renew_snapshot(folder) == BYTES * len(names)
        assert names_and_markers_read(folder) == (names, [])
        assert current_header(folder).count == len(names)


def test_a_folder_with_a_half_written_file_has_no_snapshot(folder):
    mark(folder, "new")
    (folder / ".x.writing").write_bytes(b"")
    modify_hours_ago(folder, 2)
    renew_snapshot(folder)
    assert current_header(folder) is None
    (folder / ".x.writing").unlink()
    modify_hours_ago(folder, 1)
    renew_snapshot(folder)
    assert current_header(folder)


def test_a_snapshot_that_cannot_be_written_stops_nothing(folder):
    snapshot_of(folder).unlink()
    snapshot_of(folder).mkdir()
    mark(folder, "new")
    assert renew_snapshot(folder) == BYTES * (len(NAMES) + 1)
    assert good_markers(folder) == NAMES | {"new"}


def test_without_a_folder_there_is_nothing(tmp_path, folder):
    shutil.rmtree(folder)
    absent = tmp_path / "absent"
    for each in (folder, absent):
        assert good_markers(each) == marker_names(each) == set()
        assert count_markers(each) == renew_snapshot(each) == 0
    assert not snapshot_of(absent).exists()


def test_a_marker_that_this_machine_cannot_read_does_not_pass_for_absent(folder):
    (folder / "new.json").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output"):
        good_markers(folder)


def test_of_folders_with_the_same_names_one_snapshot_is_read(folder, tmp_path):
    other = tmp_path / "extracted"
    for name in NAMES:
        mark(other, name, size=77)
    modify_hours_ago(other, 1)
    renew_snapshot(other)
    snapshot = snapshot_of(folder)
    head, _, body = snapshot.read_bytes().partition(b"\n")
    snapshot.write_bytes(head + b"\n" + body.replace(b"fileset.3", b"FILESET.3"))
    assert good_in_all([folder, other]) == NAMES, "the damage is not seen"
    mark(other, "new")
    (other / "fileset.3.json").unlink()
    assert good_in_all([folder, other]) == good_in_all([other, folder]) == NAMES - {"fileset.3"}
    assert good_in_all([other]) == NAMES - {"fileset.3"} | {"new"}
    assert good_in_all([folder, tmp_path / "absent"]) == set()


@pytest.mark.parametrize("files", [None, 5, [5], [{"bytes": "x"}], {"bytes": 5}, [{}]])
def test_markers_with_other_contents_record_no_bytes(files, folder):
    write_marker(folder / "new.json", {"files": files})
    assert renew_snapshot(folder) == BYTES * len(NAMES)
    assert good_markers(folder) == NAMES | {"new"}


def test_a_snapshot_of_several_lines_is_one(tmp_path):
    folder = tmp_path / "downloaded"
    folder.mkdir()
    mark(tmp_path, "one")
    names = {f"n{number}" for number in range(10_001)}
    for name in names:
        os.link(tmp_path / "one.json", folder / f"{name}.json")
    modify_hours_ago(folder, 1)
    renew_snapshot(folder)
    assert len(snapshot_of(folder).read_bytes().splitlines()) == 3
    with opened_below(folder) as opened:
        assert good_markers(folder) == names
    assert set(opened) == {"."}


def test_bytes_of_many_markers_are_exact_or_estimated(tmp_path):
    folder = tmp_path / "downloaded"
    assert held_bytes(folder, read_at_most=5) == (0, True)
    for number in range(10):
        mark(folder, f"fileset.{number}", size=20)
    assert held_bytes(folder, read_at_most=10) == (200, True)
    # Estimated from those that are read.
    assert held_bytes(folder, read_at_most=5) == (200, False)
    modify_hours_ago(folder, 2)
    renew_snapshot(folder)
    with opened_below(folder) as opened:
        assert held_bytes(folder, read_at_most=5) == (200, True)
    assert not [path for path in opened if path.endswith(".json")]
    for number in range(10, 20):
        mark(folder, f"fileset.{number}", size=30)
    # Estimated from the snapshot, exact where all may be read.
    assert held_bytes(folder, read_at_most=5) == (400, False)
    assert held_bytes(folder, read_at_most=20) == (500, True)
