"""What was unpacked while a fileset came: who unpacks it takes over just what is on record and still true."""

import asyncio
import gzip
import hashlib
import json
import os
import random
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import File, Follower, Upstream, bundle, dirinfo, tree
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.bundle import unpack
from pipeline.datastore import habits, split
from pipeline.datastore.client import DataStore
from pipeline.datastore.habits import Habit
from pipeline.datastore.listing import read_files
from pipeline.datastore.transfer import Transfer
from pipeline.errors import FilesFailed, MachineFault
from pipeline.mirror import download as download_module
from pipeline.mirror.context import Site, done_here, open_site
from pipeline.mirror.resources.disk_space import Promise
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.steps import unpack_ahead
from pipeline.mirror.steps.download import Download
from pipeline.mirror.steps.extract import Extraction
from pipeline.mirror.steps.unpack_ahead import UnpackingAhead

FILESET = Fileset("p", "o1.chip.1.1.1", "2009-07-29T00:00:01Z")
NAMES = [f"{FILESET.name}.{component}.tgz" for component in ("XY01", "XY02")]
PATIENCE_SECONDS = 60
NOISE = random.Random(5).randbytes(300_000)
MEMBERS = {"XY01": {"a.fits": NOISE, "deep/b.fits": b"B" * 70}, "XY02": {"c.fits": NOISE[::-1]}}
DATA = {
    f"gpc1/MD01/o1.{component}/{name}": content
    for component, members in MEMBERS.items()
    for name, content in members.items()
}


@pytest.fixture(autouse=True)
def far_and_large(monkeypatch):
    """A server that counts as far, and bundles of these sizes as large."""
    monkeypatch.setattr(DataStore, "far_seconds", 0.1)
    for module in (split, unpack_ahead):
        monkeypatch.setattr(module, "WORTH_SPLITTING_BYTES", 100_000)


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    upstream.add_bundles("p", FILESET.name, MEMBERS)
    return upstream


@contextmanager
def opened(follower: Follower) -> Iterator[Site]:
    """The site as a process of a run has it."""
    with open_site(follower.config, lambda _: None) as site:
        yield site


def report(_message: str, _share: float) -> None:
    """Tell nobody."""


def download(follower: Follower) -> None:
    with opened(follower) as site:
        Download(site, FILESET, report).run()


def extract(follower: Follower) -> None:
    with opened(follower) as site:
        Extraction(site, FILESET, report).run()


def journal(follower: Follower) -> Path:
    return follower.root / "incoming" / "p" / FILESET.name / "unpacking.json"


def noted(follower: Follower) -> dict:
    return json.loads(journal(follower).read_bytes())


def on_record(follower: Follower) -> list[str]:
    """The bundles that were unpacked ahead."""
    if not journal(follower).exists():
        return []
    return sorted(bundle["bundle"] for bundle in noted(follower).get("ahead", []))


def temporaries(follower: Follower) -> dict[str, Path]:
    """The temporary files, by the components of their bundles."""
    paths = sorted((follower.root / "data").rglob(".*.unpacking"))
    return {str(path.relative_to(follower.root / "data/gpc1/MD01")): path for path in paths}


@pytest.fixture
def unpacked_now(monkeypatch) -> list[str]:
    """The names of the bundles that are unpacked from the store."""
    names: list[str] = []
    run = unpack.Unpacking.run

    def recording(self: unpack.Unpacking) -> list[unpack.UnpackedFile]:
        if self.coming is None:
            names.append(self.bundle.name)
        return run(self)

    monkeypatch.setattr(unpack.Unpacking, "run", recording)
    return names


def complete(follower: Follower) -> None:
    assert follower.content("data") == DATA
    assert follower.content("incoming") == {}
    (marker,) = (follower.root / "state/p/extracted").glob("*.json")
    marked = {file["path"]: file["bytes"] for file in json.loads(marker.read_bytes())["files"]}
    assert marked == {f"data/{path}": len(content) for path, content in DATA.items()}


def test_what_is_on_record_is_not_unpacked_again(release, follower, unpacked_now):
    download(follower)
    assert on_record(follower) == NAMES
    before = {path.stat().st_ino for path in temporaries(follower).values()}
    assert follower.content("data").keys() == {f"gpc1/MD01/{name}" for name in temporaries(follower)}
    extract(follower)
    assert unpacked_now == []
    complete(follower)
    assert {path.stat().st_ino for path in (follower.root / "data").rglob("*.fits")} == before


def test_what_the_record_says(release, follower):
    download(follower)
    content = release.path("p", FILESET.name, NAMES[0]).read_bytes()
    assert noted(follower)["folders"] == [
        str(follower.root / f"data/gpc1/MD01/o1.{component}") for component in MEMBERS
    ]
    assert noted(follower)["ahead"][0] == {
        "bundle": NAMES[0],
        "bytes": len(content),
        "md5": hashlib.md5(content).hexdigest(),
        "folder": str(follower.root / "data/gpc1/MD01/o1.XY01"),
        "ratio": 200,
        "files": [
            {
                "path": f"data/gpc1/MD01/o1.XY01/{name}",
                "bytes": len(member),
                "crc32": f"{zlib.crc32(member):08x}",
            }
            for name, member in MEMBERS["XY01"].items()
        ],
    }


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def replaced_by_a_link(path: Path) -> None:
    """By one that is as long as the file was."""
    size = path.stat().st_size
    path.with_name("elsewher").write_bytes(bytes(size))
    path.unlink()
    path.symlink_to(f"{'./' * ((size - 8) // 2)}elsewher")
    assert path.lstat().st_size == size


HARMS = {"missing": Path.unlink, "cut": cut, "a link": replaced_by_a_link}


@pytest.mark.parametrize("harm", HARMS)
def test_a_bundle_of_which_a_file_is_not_there_is_unpacked_again(harm, release, follower, unpacked_now):
    download(follower)
    HARMS[harm](next(path for name, path in temporaries(follower).items() if "deep" in name))
    extract(follower)
    assert unpacked_now == NAMES[:1]
    (follower.root / "data/gpc1/MD01/o1.XY01/deep/elsewher").unlink(missing_ok=True)
    complete(follower)


FORGED = {
    "another name": {"bundle": "x.tgz"},
    "another size": {"bytes": 5},
    "another md5": {"md5": "0" * 32},
    "another folder": {"folder": "/elsewhere/data/gpc1/MD01/o1.XY01"},
    "another ratio": {"ratio": 100},
    "no files": {"files": None},
    "files that are none": {"files": [5]},
    "a size that is none": {"files": [{"path": "data/x", "bytes": "5", "crc32": 7}]},
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_record_of_something_else_is_not_believed(forged, release, follower, unpacked_now):
    download(follower)
    content = noted(follower)
    content["ahead"][0] |= FORGED[forged]
    journal(follower).write_text(json.dumps(content))
    extract(follower)
    assert unpacked_now == NAMES[:1]
    complete(follower)


@pytest.mark.parametrize("ahead", [None, 5, "text", [5], {"a": 1}, [{}]])
def test_a_record_that_is_none_is_not_believed(ahead, release, follower, unpacked_now):
    download(follower)
    journal(follower).write_text(json.dumps(noted(follower) | {"ahead": ahead}))
    extract(follower)
    assert sorted(unpacked_now) == NAMES
    complete(follower)


def test_with_another_ratio_all_is_unpacked_again(release, follower, unpacked_now):
    download(follower)
    follower.mirror["unpack_ratio"] = 150
    extract(follower)
    assert sorted(unpacked_now) == NAMES
    complete(follower)


def test_where_the_root_was_moved_all_is_unpacked_again(release, follower, unpacked_now):
    """Config dumps name the root."""
    download(follower)
    moved = Follower(follower.folder, follower.url, mirror={"root": str(follower.folder / "moved")})
    follower.root.rename(follower.folder / "moved")
    extract(moved)
    assert sorted(unpacked_now) == NAMES
    assert tree(follower.folder / "moved/data") == DATA


def test_what_is_not_to_be_unpacked_any_more_is_removed_when_the_fileset_is_marked(release, follower):
    download(follower)
    (follower.root / "state/p/downloaded" / f"{FILESET.name}.json").unlink()
    follower.mirror["unpack"] = False
    download(follower)
    assert follower.content("data") == {}
    assert not journal(follower).exists()


@pytest.mark.parametrize("published", [True, False])
def test_a_record_outlives_a_download_that_finds_all_here(published, release, follower, unpacked_now):
    download(follower)
    (follower.root / "state/p/downloaded" / f"{FILESET.name}.json").unlink()
    if not published:
        (follower.root / "store/p" / FILESET.name).rename(journal(follower).with_name("files"))
    download(follower)
    extract(follower)
    assert unpacked_now == []
    complete(follower)


def test_a_fileset_that_is_registered_again_has_nothing_of_the_old_one(release, follower, unpacked_now):
    download(follower)
    old = set(temporaries(follower))
    release.add_bundles("p", FILESET.name, {"XY01": {"new.fits": NOISE}})
    download(follower)
    assert not old & set(temporaries(follower))
    extract(follower)
    assert follower.content("data") == {"gpc1/MD01/o1.XY01/new.fits": NOISE}


def test_two_bundles_of_one_file_are_refused_when_both_were_unpacked_ahead(upstream, follower):
    described = File("dirinfo.mdc", dirinfo("gpc1/MD01", {"XY01": "o1", "XY02": "o1"}), "text", "dirinfo")
    packed = [
        File(name, bundle({"a.fits": NOISE[number:]}), "tgz", component)
        for number, (name, component) in enumerate(zip(NAMES, MEMBERS, strict=True))
    ]
    upstream.add("p", FILESET.name, [described, *packed])
    download(follower)
    with pytest.raises(unpack.BundleUnusable, match="expected one bundle of the fileset to hold this file"):
        extract(follower)
    assert follower.content("data") == {}


def test_a_bundle_that_cannot_be_unpacked_leaves_nothing_of_those_that_were_ahead(upstream, follower):
    described = File("dirinfo.mdc", dirinfo("gpc1/MD01", {"XY01": "o1", "XY02": "o2"}), "text", "dirinfo")
    good = File(NAMES[0], bundle(MEMBERS["XY01"]), "tgz", "XY01")
    upstream.add("p", FILESET.name, [described, good, File(NAMES[1], NOISE, "tgz", "XY02")])
    download(follower)
    assert on_record(follower) == NAMES[:1]
    with pytest.raises(unpack.BundleUnusable, match="expected a gzipped tar archive"):
        extract(follower)
    assert follower.content("data") == {}


def test_a_file_that_cannot_be_had_leaves_nothing_of_the_others(release, follower):
    release.path("p", FILESET.name, NAMES[1]).unlink()
    follower.source["attempts"] = 1
    with pytest.raises(FilesFailed):
        download(follower)
    assert follower.content("data") == {}
    assert not journal(follower).exists()


def test_of_what_is_on_record_for_an_old_registration_nothing_takes_room(release, follower, monkeypatch):
    download(follower)
    release.add_bundles("p", FILESET.name, {"XY01": {"new.fits": NOISE}})
    seen = []
    monkeypatch.setattr(
        Download, "_bytes_to_write", lambda self, _: seen.append(temporaries(follower)) or 10**18
    )
    with pytest.raises(MachineFault, match="are missing"):
        download(follower)
    assert seen == [{}]


def test_dirinfo_is_asked_for_first(release, server, follower):
    follower.source["connections"] = 1
    index = release.path("p", FILESET.name, "index.txt")
    header, described, *bundles = index.read_text().splitlines()
    index.write_text("\n".join([header, *bundles[:-1], described, "", ""]))
    download(follower)
    asked = [request.target.rpartition("/")[2] for request in server.requests]
    assert asked == ["index.txt", f"dirinfo.{FILESET.name}.mdc", *NAMES]
    assert on_record(follower) == NAMES
    extract(follower)
    complete(follower)


def test_a_bundle_that_comes_before_dirinfo_is_unpacked_when_that_is_here(
    release, server, follower, monkeypatch
):
    monkeypatch.setattr(download_module, "WORTH_THREADS_BYTES", 0)
    files = follower.root / "incoming/p" / FILESET.name / "files"

    async def waits(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        while not all((files / name).exists() for name in NAMES):
            await asyncio.sleep(0.01)
        await app(scope, receive, send)

    server.habits.append(Habit(waits, f"p/{FILESET.name}/dirinfo*"))
    with opened(follower) as site:
        # What has not begun when the last file is here would be left.
        site.unpackers.submit = lambda work, *args: done_here(work, *args)
        Download(site, FILESET, report).run()
    assert on_record(follower) == NAMES


def test_nothing_is_written_that_no_journal_tells_of(release, follower, monkeypatch):
    monkeypatch.setattr(unpack_ahead.Journal, "begin", lambda self, _: full_disk(self.folder))
    made: list[Path] = []
    monkeypatch.setattr(unpack.Unpacking, "run", lambda self: made.append(self.bundle))
    download(follower)
    nothing_ahead(follower)
    assert made == []


RIGHT = {"a.fits": bytes(200_000)}


@pytest.fixture
def another_first(upstream, server, follower, monkeypatch) -> Callable[[dict[str, bytes]], None]:
    """Has another archive of the same size come and be unpacked to its end; then the listed one comes."""

    def publish(wrong: dict[str, bytes]) -> None:
        assert len(stored(wrong)) == len(stored(RIGHT))
        described = File("dirinfo.mdc", dirinfo("gpc1/MD01", {"XY01": "o1.XY01"}), "text", "dirinfo")
        upstream.add("p", FILESET.name, [described, File(NAMES[0], stored(RIGHT), "tgz", "XY01")])
        target = f"p/{FILESET.name}/*.tgz"
        server.habits.append(habits.edits(lambda _: stored(wrong), target=target, times=1))

    follower.source["connections"] = 1
    unpacked = threading.Event()
    run, check = unpack.Unpacking.run, Transfer.check

    def telling(self: unpack.Unpacking) -> list[unpack.UnpackedFile]:
        try:
            return run(self)
        finally:
            unpacked.set()

    def checking(self: Transfer, *args: object) -> None:
        if self.growing:
            assert unpacked.wait(PATIENCE_SECONDS)
        check(self, *args)

    monkeypatch.setattr(unpack.Unpacking, "run", telling)
    monkeypatch.setattr(Transfer, "check", checking)
    return publish


def test_what_was_unpacked_before_its_bytes_turned_out_wrong_is_not_put_on_record(another_first, follower):
    another_first({"a.fits": b"1" * 200_000})
    download(follower)
    assert on_record(follower) == []
    assert follower.content("data") == {}
    extract(follower)
    assert follower.content("data") == {f"gpc1/MD01/o1.XY01/{name}": RIGHT[name] for name in RIGHT}


def test_a_folder_to_which_wrong_bytes_led_gives_way_to_a_file(another_first, follower):
    another_first({"a.fits/x": b"1" * 200_000})
    download(follower)
    extract(follower)
    assert follower.content("data") == {f"gpc1/MD01/o1.XY01/{name}": RIGHT[name] for name in RIGHT}


def test_wrong_files_that_cannot_be_removed_are_no_harm(another_first, follower, monkeypatch):
    another_first({"a.fits": b"1" * 200_000})
    monkeypatch.setattr(unpack_ahead, "discard", lambda files: full_disk(files[0].temporary))
    download(follower)
    assert on_record(follower) == []
    extract(follower)
    assert follower.content("data") == {f"gpc1/MD01/o1.XY01/{name}": RIGHT[name] for name in RIGHT}
    assert temporaries(follower) == {}


def stored(members: dict[str, bytes]) -> bytes:
    """A bundle that is as large as its members."""
    return gzip.compress(gzip.decompress(bundle(members)), 0)


def test_a_bundle_that_cannot_be_had_keeps_no_core_from_others(release, follower):
    """Its thread ends when its transfer does, not when those of the others do."""
    served = release.folder / "p" / FILESET.name
    rows = read_files((served / "index.txt").read_bytes(), "index")
    files = journal(follower).with_name("files")
    shutil.copytree(served, files, ignore=shutil.ignore_patterns("*.tgz"))
    (row,) = (row for row in rows if row.name == NAMES[0])
    with opened(follower) as site:
        ahead = UnpackingAhead(site, FILESET, rows, files, Promise(1_000_000))
        part = follower.root / "x.part"
        try:
            with pytest.raises(MachineFault), ahead.fetching(row, part) as growing:
                part.write_bytes((served / row.name).read_bytes()[:200_000])
                growing.whole_to(200_000)
                until(lambda: temporaries(follower))
                raise MachineFault("the transfer failed")
            until(lambda: not temporaries(follower))
        finally:
            ahead.give_up()


def until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Whether anything is unpacked ahead.


def nothing_ahead(follower: Follower) -> None:
    """The fileset is here, and nobody has tried to unpack it."""
    assert follower.marked("downloaded", "p") == {FILESET.name}
    assert follower.content("incoming") == follower.content("data") == {}


def test_nothing_is_unpacked_ahead_from_a_near_server(release, follower, monkeypatch):
    monkeypatch.setattr(DataStore, "far_seconds", 0.0)
    monkeypatch.setattr(unpack_ahead, "Growing", None)
    download(follower)
    nothing_ahead(follower)


def test_nor_what_is_not_to_be_unpacked(release, follower):
    follower.mirror["unpack"] = False
    download(follower)
    nothing_ahead(follower)


def test_nor_what_is_unpacked_already(release, follower):
    download(follower)
    extract(follower)
    (follower.root / "store/p" / FILESET.name / NAMES[0]).unlink()
    (follower.root / "state/p/downloaded" / f"{FILESET.name}.json").unlink()
    download(follower)
    assert follower.content("incoming") == {}
    assert follower.content("data") == DATA


@pytest.mark.parametrize("less", ["small", "no md5", "no dirinfo", "dirinfo that is none"])
def test_nor_a_bundle_that_is(less, upstream, follower, monkeypatch):
    if less == "small":
        monkeypatch.setattr(unpack_ahead, "WORTH_SPLITTING_BYTES", 10 << 20)
    listed = {"md5": ""} if less == "no md5" else {}
    files = [File(NAMES[0], bundle(MEMBERS["XY01"]), "tgz", "XY01", listed)]
    if less != "no dirinfo":
        document = b"none" if "none" in less else dirinfo("gpc1/MD01", {"XY01": "o1.XY01"})
        files.append(File("dirinfo.mdc", document, "text", "dirinfo"))
    upstream.add("p", FILESET.name, files)
    download(follower)
    nothing_ahead(follower)


# Room.


def test_room_is_counted_and_not_asked_for_again(release, follower, monkeypatch):
    counted: list[int] = []
    written = Promise.written
    monkeypatch.setattr(Promise, "written", lambda self, n: (counted.append(n), written(self, n))[1])
    download(follower)
    served = sum(len(content) for path, content in tree(release.folder).items() if "index" not in path)
    assert sum(counted) == served + sum(map(len, DATA.values()))
    with opened(follower) as site:
        monkeypatch.setattr(site.space, "reserved", None)
        Extraction(site, FILESET, report).run()
    complete(follower)


# Three times the bundle's size are reserved; each small file takes a block of the disk.
MORE_THAN_RESERVED = {
    "one large": {"a.fits": NOISE, "zeros.fits": bytes(3 * len(NOISE))},
    "many small": {"a.fits": NOISE[:150_000]} | {f"{number}.txt": b"x" for number in range(2000)},
}


@pytest.mark.parametrize("members", MORE_THAN_RESERVED.values(), ids=MORE_THAN_RESERVED)
def test_a_bundle_that_needs_more_than_was_reserved_is_given_up(members, upstream, follower, unpacked_now):
    """It is unpacked when its own word says how much it needs."""
    upstream.add_bundles("p", FILESET.name, {"XY01": members, "XY02": MEMBERS["XY02"]})
    download(follower)
    assert on_record(follower) == NAMES[1:]
    assert [name.split("/")[0] for name in temporaries(follower)] == ["o1.XY02"]
    extract(follower)
    assert unpacked_now == NAMES[:1]
    unpacked = {f"gpc1/MD01/o1.XY01/{name}": content for name, content in members.items()}
    assert follower.content("data") == unpacked | {"gpc1/MD01/o1.XY02/c.fits": MEMBERS["XY02"]["c.fits"]}


def test_where_no_thread_can_be_started_nothing_is_unpacked_ahead(release, follower, monkeypatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with opened(follower) as site:
        # As the pool does: the work is queued by then.
        monkeypatch.setattr(site.unpackers, "_adjust_thread_count", refuse)
        Download(site, FILESET, report).run()
    nothing_ahead(follower)
    extract(follower)
    complete(follower)


def test_the_journal_has_its_name_on_the_disk_before_temporary_files_are_there(
    release, follower, monkeypatch
):
    flushed: list[Path] = []
    monkeypatch.setattr(unpack_ahead, "flush_folder", flushed.append)
    folders: list[set[Path]] = []
    begin = unpack_ahead.Journal.begin

    def beginning(self: unpack_ahead.Journal, *args: object) -> None:
        folders.append(set(flushed))
        begin(self, *args)

    monkeypatch.setattr(unpack_ahead.Journal, "begin", beginning)
    download(follower)
    incoming = follower.root / "incoming"
    assert folders == [{incoming / "p", incoming, follower.root}]


def test_a_disk_that_takes_no_more_is_told_of_by_who_unpacks(release, follower, monkeypatch):
    monkeypatch.setattr(unpack, "flush_file", full_disk)
    download(follower)
    assert follower.content("data") == {}
    assert on_record(follower) == []
    with pytest.raises(MachineFault, match=r"unpacking fileset .*The disk is full"):
        extract(follower)
    monkeypatch.undo()
    extract(follower)
    complete(follower)


def full_disk(path: Path) -> None:
    raise OSError(28, "No space left on device", str(path))


def test_a_record_that_cannot_be_written_is_done_without(release, follower, monkeypatch, unpacked_now):
    monkeypatch.setattr(unpack_ahead.Journal, "record", lambda self, _: full_disk(self.folder))
    download(follower)
    assert follower.content("data") == {}
    assert not journal(follower).exists()
    extract(follower)
    assert sorted(unpacked_now) == NAMES
    complete(follower)


def test_what_has_not_begun_when_all_files_are_here_is_left(release, follower, monkeypatch):
    with opened(follower) as site:
        monkeypatch.setattr(site.unpackers, "submit", lambda *_: Future())
        Download(site, FILESET, report).run()
    nothing_ahead(follower)
    extract(follower)
    complete(follower)


def test_nothing_is_begun_any_more_while_the_last_one_ends(release, follower, monkeypatch):
    """One core, two bundles: the first ends when the second one is left."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    left = threading.Event()
    run, cancel = unpack.Unpacking.run, Future.cancel

    def waiting(self: unpack.Unpacking) -> list[unpack.UnpackedFile]:
        assert left.wait(PATIENCE_SECONDS)
        return run(self)

    def leaving(self: Future) -> bool:
        cancelled = cancel(self)
        if cancelled:
            left.set()
        return cancelled

    monkeypatch.setattr(unpack.Unpacking, "run", waiting)
    monkeypatch.setattr(Future, "cancel", leaving)
    download(follower)
    assert on_record(follower) == NAMES[:1]
    monkeypatch.undo()
    extract(follower)
    complete(follower)


@pytest.mark.parametrize("cores", [1, 2])
def test_no_more_are_unpacked_at_once_than_there_are_cores(cores, release, follower, monkeypatch):
    """Each waits until the others could have begun, or have to wait for a core."""
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    active, most, lock = 0, 0, threading.Lock()
    here = threading.Barrier(cores)
    run = unpack.Unpacking.run

    def counting(self: unpack.Unpacking) -> list[unpack.UnpackedFile]:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        here.wait(PATIENCE_SECONDS)
        files = follower.root / "incoming/p" / FILESET.name / "files"
        until(lambda: all((files / name).exists() for name in NAMES))
        try:
            return run(self)
        finally:
            with lock:
                active -= 1

    monkeypatch.setattr(unpack.Unpacking, "run", counting)
    download(follower)
    assert most == cores
