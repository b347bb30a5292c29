"""Several processes put files into the same folders: one at a time in each, and the latest fileset wins."""

import multiprocessing
import os
import signal
import threading
import zlib
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from support.audit import opened_below

from pipeline.bundle.unpack import UnpackedFile, put_in_place
from pipeline.errors import MachineFault
from pipeline.mirror.resources.byte_locks import ByteLocks
from pipeline.mirror.resources.ownership import Ownership, owners_of
from pipeline.mirror.state.layout import Layout, MarkerKind, short_digest
from pipeline.mirror.state.markers import Fileset, mark_done
from pipeline.mirror.state.owner_records import restore_owner_records, unrecorded

FRESH = multiprocessing.get_context("spawn")
TIMEOUT_SECONDS = 60
ROUNDS = 40


def ownership_at(root: Path) -> Ownership:
    layout = Layout(root)
    return Ownership(layout, ByteLocks(layout.ownership_lock))


def unpacked(layout: Layout, fileset: Fileset, folders: list[str]) -> list[UnpackedFile]:
    """A file of the same name in each folder, with the fileset's name in it."""
    files = []
    for folder in folders:
        path = layout.data / folder / "a.cmf"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{fileset.name}.unpacking")
        content = fileset.name.encode()
        temporary.write_bytes(content)
        files.append(UnpackedFile(path, temporary, len(content), f"{zlib.crc32(content):08x}"))
    return files


def alone_in(layout: Layout, folders: list[str]) -> None:
    """Fail when another process is in one of the folders."""
    marks = [layout.data / folder / "occupied" for folder in folders]
    for mark in marks:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    for mark in marks:
        mark.unlink()


def put_files(ownership: Ownership, fileset: Fileset, folders: list[str]) -> None:
    """Put files in place as an extraction does."""
    layout = ownership.layout
    files = unpacked(layout, fileset, folders)
    with ownership.claimed(fileset, files, set()) as verdict:
        alone_in(layout, folders)
        put_in_place(verdict.placed, layout.data)
        mine = [
            {"path": layout.relative(file.path), "bytes": file.bytes, "crc32": file.crc32} for file in files
        ]
        mark_done(layout, MarkerKind.EXTRACTED, fileset, "", {"files": mine})


def work(root: Path, number: int) -> None:
    """One process, ``ROUNDS`` filesets: two threads, an order of its own, folders from both ends."""
    ownership = ownership_at(root)
    errors: list[BaseException] = []

    def half(which: int) -> None:
        try:
            for turn in range(which, ROUNDS, 2):
                at = (turn * 7 + number * 3) % ROUNDS
                fileset = Fileset("p", f"o{at:03}.{number}", f"2009-07-29T00:{at:02}:{number:02}Z")
                put_files(ownership, fileset, ["x", "y/z", f"only.{at}"][:: 1 if number % 2 else -1])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=half, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ownership.locks.close()
    if errors:
        raise errors[0]


def hold(root: Path, held: Connection) -> None:
    """Claim a folder, say so, and keep it until killed."""
    layout = Layout(root)
    fileset = Fileset("p", "held", "2009-07-29T00:00:00Z")
    with ownership_at(root).claimed(fileset, unpacked(layout, fileset, ["x"]), set()):
        held.send("held")
        signal.pause()


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_do_not_meet_in_a_folder_and_the_latest_wins(processes, tmp_path):
    running = [FRESH.Process(target=work, args=(tmp_path, number)) for number in range(processes)]
    for process in running:
        process.start()
    for process in running:
        process.join(TIMEOUT_SECONDS)
        assert process.exitcode == 0
    latest = f"o{ROUNDS - 1:03}.{processes - 1}".encode()
    data = Layout(tmp_path).data
    assert (data / "x" / "a.cmf").read_bytes() == latest
    assert (data / "y" / "z" / "a.cmf").read_bytes() == latest
    layout = Layout(tmp_path)
    assert len(layout.marked(MarkerKind.EXTRACTED, "p")) == ROUNDS * processes
    owned = {f"data/{folder}/a.cmf" for folder in ("x", "y/z", *(f"only.{at}" for at in range(ROUNDS)))}
    owners = {path: owner.name for path, owner in owners_of(layout, owned, set()).items()}
    last = processes - 1
    assert owners == {path: f"o{owner_in(path):03}.{last}" for path in owned}
    for number in range(processes):
        for at in range(ROUNDS):
            fileset = Fileset("p", f"o{at:03}.{number}", "")
            paths = [f"data/{folder}/a.cmf" for folder in ("x", "y/z", f"only.{at}")]
            assert unrecorded(layout, fileset, paths) == []


def owner_in(path: str) -> int:
    """The number of the latest fileset with the path."""
    folder = path.split("/")[1]
    return int(folder.removeprefix("only.")) if folder.startswith("only.") else ROUNDS - 1


@pytest.mark.parametrize("filesets", [20, 200])
@pytest.mark.parametrize("shared", [False, True], ids=["folder of its own", "shared folder"])
def test_a_decision_reads_the_markers_of_those_that_may_have_the_file(shared, filesets, tmp_path):
    layout = Layout(tmp_path)
    for number in range(filesets):
        paths = [f"data/{'x' if shared else number}/o{number:03}.{part}" for part in ("a", "b")]
        marked(layout, Fileset("p", f"o{number:03}", "2009"), paths)
    restore_owner_records(layout)
    contested = {f"data/{'x' if shared else 7}/o007.a"}
    later = Fileset("q", "later", "2010")
    with opened_below(layout.root) as opened:
        owners = owners_of(layout, contested, {later})
    assert owners == {next(iter(contested)): Fileset("p", "o007", "2009")}
    record = layout.relative(layout.owner_record("data/x" if shared else "data/7"))
    assert opened == [record, "state/p/extracted/o007.json"]


def test_an_owner_that_is_recorded_and_not_marked_is_none(tmp_path):
    layout = Layout(tmp_path)
    ownership = ownership_at(tmp_path)
    earlier, later = Fileset("p", "earlier", "2009"), Fileset("p", "later", "2010")
    put_files(ownership, earlier, ["x"])
    put_files(ownership, later, ["x"])
    assert owners_of(layout, {"data/x/a.cmf"}, set()) == {"data/x/a.cmf": later}
    layout.marker(MarkerKind.EXTRACTED, "p", "later").unlink()
    assert owners_of(layout, {"data/x/a.cmf"}, set()) == {"data/x/a.cmf": earlier}
    assert owners_of(layout, {"data/x/a.cmf"}, {earlier}) == {}
    ownership.locks.close()


def marked(layout: Layout, fileset: Fileset, paths: list[str]) -> None:
    files = [{"path": path, "bytes": 1, "crc32": "00000000"} for path in paths]
    mark_done(layout, MarkerKind.EXTRACTED, fileset, "", {"files": files})


def test_names_with_much_of_their_digests_in_common_do_not_exclude_each_other(tmp_path):
    """As filesets of a large mirror have: one would fail while the other is fetched."""
    seen: dict[str, str] = {}
    one, other = next(
        (seen[end], name)
        for name in (f"p/f{number}" for number in range(10_000))
        if (end := short_digest(name)[-5:]) in seen or seen.update({end: name})
    )
    locks = ByteLocks(tmp_path / "lock")
    with locks.held([one], one), locks.held([other], other, timeout=0):
        pass
    locks.close()


def test_another_process_waits_until_the_holder_is_killed(tmp_path):
    here, there = FRESH.Pipe()
    holder = FRESH.Process(target=hold, args=(tmp_path, there))
    holder.start()
    assert here.poll(TIMEOUT_SECONDS)
    ownership = ownership_at(tmp_path)
    fileset = Fileset("p", "later", "2009-07-29T00:00:01Z")
    waiting = threading.Thread(target=put_files, args=(ownership, fileset, ["x"]))
    try:
        put_files(ownership, Fileset("p", "elsewhere", "2009-07-29T00:00:01Z"), ["y"])
        with (
            pytest.raises(MachineFault, match=r"fileset p/x: another process .* has it in progress"),
            ownership.locks.held(["data/x"], "fileset p/x", timeout=0.1),
        ):
            pass
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert not (tmp_path / "data" / "x" / "a.cmf").exists()
    finally:
        holder.kill()
        holder.join()
    waiting.join(TIMEOUT_SECONDS)
    assert (tmp_path / "data" / "x" / "a.cmf").read_bytes() == b"later"
    ownership.locks.close()
