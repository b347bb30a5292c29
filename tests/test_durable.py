"""Durable writes: what is on the disk afterwards, and what a reader sees meanwhile."""

import ctypes
import errno
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.trees import tree

from pipeline import durable
from pipeline.durable import (
    can_flush_folders,
    flush_file_system,
    make_folder,
    publish_folder,
    remove_files,
    write_whole,
)

EXCHANGES = 200


def refuse_exchange(monkeypatch, code: int) -> None:
    """Put in a C library whose renameat2 fails, as it does on file systems that cannot exchange names."""

    class Library:
        def __init__(self, *_: object, **__: object) -> None: ...

        def renameat2(self, *_: object) -> int:
            ctypes.set_errno(code)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", Library)


@pytest.fixture(params=[True, False], ids=["exchanged", "renamed twice"])
def can_exchange(request, monkeypatch):
    """Both kinds of file systems: those that swap two names in one step, and those that cannot."""
    if not request.param:
        refuse_exchange(monkeypatch, errno.EINVAL)
    return request.param


def folder(path: Path, **files: bytes) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    path = tmp_path / "state" / "p" / "marker.json"
    write_whole(path, b"first")
    write_whole(path, b"second, longer")
    write_whole(path, b"3")
    assert tree(tmp_path) == {"state/p/marker.json": b"3"}


def test_the_longest_name_can_be_written(tmp_path):
    write_whole(tmp_path / ("x" * 255), b"content")
    assert tree(tmp_path) == {"x" * 255: b"content"}


def test_a_name_that_is_no_text_can_be_written(tmp_path):
    write_whole(tmp_path / "\udcff", b"content")
    assert (tmp_path / "\udcff").read_bytes() == b"content"


def test_what_a_killed_writer_left_is_written_over(tmp_path):
    path = tmp_path / "marker.json"
    script = (
        "import os, sys; from pathlib import Path; from pipeline import durable\n"
        "os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "durable.write_whole(Path(sys.argv[1]), b'half of it' * 1000)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert killed.returncode == -9
    (left,) = tree(tmp_path)
    assert left.startswith(".")
    assert left.endswith(durable.WRITING_SUFFIX)
    write_whole(path, b"whole")
    assert tree(tmp_path) == {"marker.json": b"whole"}


def test_a_reader_sees_the_old_content_or_the_new_one(tmp_path):
    path = tmp_path / "listing.txt"
    contents = [bytes([65 + number]) * 100_000 for number in range(4)]
    write_whole(path, contents[0])
    seen: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(path.read_bytes())

    with ThreadPoolExecutor(1) as readers:
        reader = readers.submit(read)
        try:
            for number in range(100):
                write_whole(path, contents[number % 4])
        finally:
            done.set()
        reader.result()
    assert len(seen) > 10
    assert set(seen) <= set(contents)


def test_processes_without_a_common_lock_write_one_file(tmp_path):
    path = tmp_path / "status.csv"
    contents = [bytes([65 + number]) * 50_000 for number in range(4)]

    def write(content: bytes) -> None:
        for _ in range(50):
            write_whole(path, content, shared=True)
            assert path.read_bytes() in contents

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write, contents))
    assert list(tree(tmp_path)) == ["status.csv"]


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path):
    write_whole(tmp_path / "listing.txt", b"old")
    for path in (tmp_path / "listing.txt", tmp_path / "new" / "listing.txt"):
        script = (
            "import resource, sys; from pathlib import Path; from pipeline.durable import write_whole\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "write_whole(Path(sys.argv[1]), bytes(200_000))\n"
        )
        failed = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
        )
        assert "OSError: [Errno 27] File too large" in failed.stderr
        assert tree(tmp_path) == {"listing.txt": b"old"}


def test_a_rename_that_fails_leaves_nothing_else(tmp_path):
    taken = folder(tmp_path / "marker.json", inside=b"kept")
    for change in (lambda: write_whole(taken, b"content"), lambda: remove_files([taken])):
        with pytest.raises(IsADirectoryError) as raised:
            change()
        assert raised.value.filename == str(taken)
        assert tree(tmp_path) == {"marker.json/inside": b"kept"}


def test_an_empty_folder_gives_way_to_a_file(tmp_path):
    for name in ("a.json", "b.json"):
        (tmp_path / name).mkdir()
    write_whole(tmp_path / "a.json", b"content")
    remove_files([tmp_path / "b.json"])
    assert tree(tmp_path) == {"a.json": b"content"}
    assert not (tmp_path / "b.json").exists()


def test_folders_are_made_with_their_parents(tmp_path):
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file" / "below")


def test_a_folder_is_published_under_a_new_name(tmp_path, can_exchange):
    publish_folder(folder(tmp_path / "incoming" / "files", a=b"1"), tmp_path / "store" / "p" / "f")
    assert tree(tmp_path) == {"store/p/f/a": b"1"}
    assert not (tmp_path / "incoming" / "files").exists()


def test_a_published_folder_is_replaced_as_a_whole(tmp_path, can_exchange):
    final = folder(tmp_path / "store" / "f", a=b"old", gone=b"old")
    publish_folder(folder(tmp_path / "incoming" / "files", a=b"new", more=b"new"), final)
    assert tree(tmp_path) == {"store/f/a": b"new", "store/f/more": b"new"}
    assert list((tmp_path / "incoming").iterdir()) == []


def test_what_an_earlier_replacement_left_is_no_hindrance(tmp_path, can_exchange):
    final = folder(tmp_path / "store" / "f", a=b"old")
    new = folder(tmp_path / "incoming" / "files", a=b"new")
    folder(tmp_path / "incoming" / "files.replaced", a=b"older")
    publish_folder(new, final)
    assert tree(tmp_path / "store") == {"f/a": b"new"}
    assert not new.exists()


def test_a_folder_is_whole_at_every_instant_of_its_exchange(tmp_path):
    final = folder(tmp_path / "store" / "f", **{f"f{i}": b"0" for i in range(5)})
    seen: list[set[bytes]] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            at = os.open(final, os.O_RDONLY | os.O_DIRECTORY)  # missing at any instant: FileNotFoundError
            try:
                seen.append({_content(at, f"f{i}") for i in range(5)})
            except FileNotFoundError:
                seen.append(set())  # this copy was replaced and removed meanwhile
            finally:
                os.close(at)

    with ThreadPoolExecutor(1) as readers:
        reader = readers.submit(look)
        try:
            for number in range(EXCHANGES):
                new = folder(tmp_path / "incoming" / "files", **{f"f{i}": b"%d" % number for i in range(5)})
                publish_folder(new, final)
        finally:
            done.set()
        reader.result()
    assert len(seen) > EXCHANGES // 10
    assert {len(contents) for contents in seen} <= {0, 1}
    assert tree(tmp_path) == {f"store/f/f{i}": b"%d" % (EXCHANGES - 1) for i in range(5)}


def _content(at: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY, dir_fd=at)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def test_a_replacement_that_fails_half_way_is_taken_back(tmp_path, monkeypatch):
    refuse_exchange(monkeypatch, errno.EINVAL)
    final = folder(tmp_path / "store" / "f", a=b"old")
    new = folder(tmp_path / "incoming" / "files", a=b"new")
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if source == new:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="Input/output error"):
        publish_folder(new, final)
    assert tree(tmp_path) == {"store/f/a": b"old", "incoming/files/a": b"new"}


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.ENOTSUP])
def test_where_names_cannot_be_exchanged_they_are_renamed(tmp_path, monkeypatch, code):
    refuse_exchange(monkeypatch, code)
    final = folder(tmp_path / "store" / "f", a=b"old")
    publish_folder(folder(tmp_path / "incoming" / "files", a=b"new"), final)
    assert tree(tmp_path) == {"store/f/a": b"new"}


def test_another_fault_of_the_exchange_is_raised(tmp_path, monkeypatch):
    refuse_exchange(monkeypatch, errno.EACCES)
    final = folder(tmp_path / "store" / "f", a=b"old")
    new = folder(tmp_path / "incoming" / "files", a=b"new")
    with pytest.raises(PermissionError) as raised:
        publish_folder(new, final)
    assert raised.value.filename == str(final)
    assert tree(tmp_path) == {"store/f/a": b"old", "incoming/files/a": b"new"}


def test_files_are_removed_whether_they_are_there_or_not(tmp_path):
    folder(tmp_path / "a", one=b"1", two=b"2")
    remove_files([tmp_path / "a" / "one", tmp_path / "a" / "none", tmp_path / "nowhere" / "x"])
    assert tree(tmp_path) == {"a/two": b"2"}


def fail_flushes(monkeypatch, code: int, of_files: bool) -> None:
    """Have fsync fail for folders, as on some network file systems, or for files too."""
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if of_files or stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)


def write_all_ways(root: Path) -> None:
    write_whole(root / "state" / "marker.json", b"content")
    publish_folder(folder(root / "incoming" / "files", a=b"1"), root / "store" / "f")
    folder(root / "gone", a=b"1")
    remove_files([root / "gone" / "a"])


NO_FLUSH = [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF]


@pytest.mark.parametrize("of_files", [False, True])
@pytest.mark.parametrize("code", NO_FLUSH)
def test_a_file_system_without_a_flush_is_no_hindrance(code, of_files, tmp_path, monkeypatch):
    assert can_flush_folders(tmp_path)
    fail_flushes(monkeypatch, code, of_files)
    write_all_ways(tmp_path)
    assert tree(tmp_path) == {"state/marker.json": b"content", "store/f/a": b"1"}
    assert not can_flush_folders(tmp_path)


@pytest.mark.parametrize("of_files", [False, True])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_flush_that_fails_is_raised(code, of_files, tmp_path, monkeypatch):
    fail_flushes(monkeypatch, code, of_files)
    with pytest.raises(OSError) as raised:
        write_all_ways(tmp_path)
    assert raised.value.errno == code


@pytest.mark.parametrize("code", [*NO_FLUSH, errno.EIO])
def test_a_flush_of_the_whole_file_system(code, tmp_path, monkeypatch):
    class Library:
        def __init__(self, *_: object, **__: object) -> None: ...

        def syncfs(self, *_: object) -> int:
            ctypes.set_errno(code)
            return -1

    flush_file_system(tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", Library)
    if code == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"):
            flush_file_system(tmp_path)
    else:
        flush_file_system(tmp_path)
