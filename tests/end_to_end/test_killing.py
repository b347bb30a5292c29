"""kill -9 at chosen instants: the next run completes the mirror by itself, and fetches little twice.

strace kills the update at the very call that touches a path, which no timing could hit.
"""

import json
import shutil
import signal
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from threading import Event
from time import sleep

import pytest
from support.bundles import bundle, dirinfo
from support.catalog import catalog_of
from support.command import ended
from support.follower import Follower
from support.kills import Instant, killed_at, was_killed, written
from support.running import (
    SEEN_SECONDS,
    Scheduler,
    checked_markers,
    free_port,
    gate,
    leftovers,
    luigi_command,
    requested_filesets,
    served_on,
    started,
    tree_is_true,
    until,
)
from support.summary_line import numbers
from support.upstream import File, Upstream, served_filesets

from pipeline.bundle.unpack import temporary_name
from pipeline.catalog.check import differences
from pipeline.mirror.state.layout import Layout, short_digest
from pipeline.sample import faults

PRODUCT = "md-all-rel-200907"
CHIP = "o1.chip.1.1.1"
BIG = bytes(range(256)) * 20_000
DATA = {
    "gpc1/MD01/o1.XY01/a.fits": b"A" * 5000,
    "gpc1/MD01/o1.XY01/deep/b.fits": b"B" * 10,
    "gpc1/MD01/o1.XY02/c.fits": b"C" * 300_000,
}
NEEDS_STRACE = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    """A fileset of two bundles and one of plain files, the first of which is worth resuming."""
    upstream.add_bundles(
        PRODUCT,
        CHIP,
        {"XY01": {"a.fits": b"A" * 5000, "deep/b.fits": b"B" * 10}, "XY02": {"c.fits": b"C" * 300_000}},
    )
    upstream.add(PRODUCT, "plain", [File("big.fits", BIG), File("small.fits", b"s" * 70), File("nil", b"")])
    return upstream


def one_short(instants: Iterable[str], short: str) -> list[object]:
    """The instants, of which all but one are for `make torture`."""
    return [name if name == short else pytest.param(name, marks=pytest.mark.long) for name in instants]


def file_requests(server) -> list[str]:
    return [entry.target for entry in server.requests if "index.txt" not in entry.target]


def complete(follower: Follower, release: Upstream, data: dict[str, bytes] = DATA) -> None:
    assert follower.content("store") == served_filesets(release)
    assert follower.content("data") == data
    assert follower.marked("failed", PRODUCT) == set()
    assert leftovers(follower.root) == []
    tree_is_true(follower.root, PRODUCT, set(release.products[PRODUCT]))
    assert served_on(follower.root, PRODUCT) == set(release.products[PRODUCT])


def received(fileset: str, name: str) -> Instant:
    """A file that came whole gets its name."""
    return Instant("rename", f"incoming/{PRODUCT}/{fileset}/partial/{short_digest(name)}.part")


def unpacked(path: str, *kept: str) -> Instant:
    """A member of a bundle of the chip fileset gets its name."""
    temporary = temporary_name(Path(path).name, short_digest(f"{PRODUCT}/{CHIP}"))
    return Instant("rename", str(Path(path).with_name(temporary)), kept)


STATE = f"state/{PRODUCT}"
OWNERS = str(Layout(Path("/")).owner_record("data/gpc1/MD01/o1.XY01").relative_to("/"))
INCOMING = f"incoming/{PRODUCT}/{CHIP}"
INSTANTS = {
    "the format of the root is written": written("mirror.json"),
    "the owner records are made": Instant("mkdir", "state/@owners/7f"),
    "the owner records are complete": written("state/@owners/complete.json"),
    "the first folder is made": Instant("mkdir", f"state/{PRODUCT}"),
    "the listing gets its name": written(f"{STATE}/listing.txt"),
    "the listing is there": written(f"{STATE}/discovered.json"),
    "the order of arrival gets its name": written(f"{STATE}/arrivals.txt"),
    "incoming is made": Instant("mkdir", f"{INCOMING}/files"),
    "a file was received": received(CHIP, f"{CHIP}.XY02.tgz"),
    "the index is written": Instant("openat", f"{INCOMING}/files/index.txt", (CHIP,)),
    "the files are flushed": Instant("fsync", f"{INCOMING}/files", (CHIP,)),
    "the product's folder is made": Instant("mkdir", f"store/{PRODUCT}"),
    "a fileset is entered": Instant("fsync", f"{STATE}/arrivals.txt"),
    "the fileset is published": Instant("rename", f"{INCOMING}/files", (CHIP,)),
    "the fileset was published": Instant("rmdir", INCOMING, (CHIP,)),
    "a fileset without bundles was published": Instant("rmdir", f"incoming/{PRODUCT}/plain", ("plain",)),
    "its parts were removed": written(f"{STATE}/downloaded/{CHIP}.json", CHIP),
    "it is marked": Instant("fsync", f"{STATE}/downloaded"),
    "the journal gets its name": written(f"{INCOMING}/unpacking.json", CHIP),
    "a bundle is opened": Instant("openat", f"store/{PRODUCT}/{CHIP}/{CHIP}.XY02.tgz", (CHIP,)),
    "a member's folder is made": Instant("mkdir", "data/gpc1/MD01/o1.XY01/deep", (CHIP,)),
    "an owner is recorded": Instant("openat", OWNERS, (CHIP,)),
    "an owner was recorded": Instant("fsync", OWNERS, (CHIP,)),
    "a member gets its name": unpacked("data/gpc1/MD01/o1.XY02/c.fits", CHIP),
    "a member has its name": Instant("fsync", "data/gpc1/MD01/o1.XY01", (CHIP,)),
    "the extraction is marked": written(f"{STATE}/extracted/{CHIP}.json", CHIP),
    "the extraction was marked": Instant("fsync", f"{STATE}/extracted"),
    "the journal goes": Instant("unlink", f"{INCOMING}/unpacking.json", (CHIP,)),
    "the journal is gone": Instant("rmdir", INCOMING, (CHIP,)),
    "the product is finished": written(f"{STATE}/updated.json", CHIP, "plain"),
    "the status is written": Instant("fsync", "status", (CHIP, "plain")),
}


def one_process_killed_at(instant: Instant, follower: Follower, log: Path) -> None:
    """Run an update of which the one process is killed at that instant that just works; the others end."""
    trace = log.with_suffix(".trace")
    with started(instant.killing(follower.command(), follower.root, trace), log) as update:
        ended = update.wait()
        assert was_killed(trace), f"the instant never came: {update.output}"
        if ended.code != -signal.SIGKILL:
            assert ended.code == 30
            assert "was killed" in ended.output
            assert "Traceback" not in ended.output


@pytest.mark.long
@NEEDS_STRACE
@pytest.mark.parametrize("name", INSTANTS)
def test_one_process_killed_just_when(name, release, server, follower, tmp_path):
    instant = INSTANTS[name]
    one_process_killed_at(instant, follower, tmp_path / "output")
    before = file_requests(server)
    server.clear()
    result = follower.update()
    assert result.code == 0, result.output
    complete(follower, release)
    again = {target.split("/")[3] for target in file_requests(server)}
    assert not again & set(instant.kept)
    assert sum(entry.bytes_sent for entry in server.requests if entry.target in before) <= 2 * len(BIG)
    assert numbers() in follower.update().output


REPLACED = {
    "the old marker is kept": written(f"{STATE}/superseded/{CHIP}.json"),
    "the old marker goes": Instant("unlink", f"{STATE}/extracted/{CHIP}.json"),
    "the old download is forgotten": Instant("unlink", f"{STATE}/downloaded/{CHIP}.json"),
    "the new listing gets its name": written(f"{STATE}/listing.txt"),
    "old and new change places": Instant("renameat2", f"store/{PRODUCT}/{CHIP}", (CHIP,)),
    "old and new have changed places": Instant("fsync", f"store/{PRODUCT}", (CHIP,)),
    "the old copy is removed": Instant("rmdir", f"{INCOMING}/files", (CHIP,)),
    "the new marker gets its name": written(f"{STATE}/downloaded/{CHIP}.json", CHIP),
    "the owner is recorded": Instant("openat", OWNERS, (CHIP,)),
    "a new member gets its name": unpacked("data/gpc1/MD01/o1.XY01/a.fits", CHIP),
    "an old member is removed": Instant("unlink", "data/gpc1/MD01/o1.XY01/deep/b.fits", (CHIP,)),
    "what was superseded is forgotten": Instant("unlink", f"{STATE}/superseded/{CHIP}.json", (CHIP,)),
    "the new extraction is marked": written(f"{STATE}/extracted/{CHIP}.json", CHIP),
}


@pytest.mark.long
@NEEDS_STRACE
@pytest.mark.parametrize("name", REPLACED)
def test_killed_while_a_fileset_is_replaced_just_when(name, release, server, follower, tmp_path):
    assert follower.update().code == 0
    release.add_bundles(PRODUCT, CHIP, {"XY01": {"a.fits": b"new"}, "XY02": {"c.fits": b"C" * 300_000}})
    instant = REPLACED[name]
    killed_at(instant, follower, tmp_path / "output")
    server.clear()
    result = follower.update()
    assert result.code == 0, result.output
    complete(
        follower,
        release,
        {"gpc1/MD01/o1.XY01/a.fits": b"new", "gpc1/MD01/o1.XY02/c.fits": b"C" * 300_000},
    )
    assert not {target.split("/")[3] for target in file_requests(server)} & {"plain", *instant.kept}


CATALOGED = {
    "its tables are flushed": Instant("fdatasync", "state/catalog/000001.sqlite-wal"),
    "the fileset is marked as cataloged": written(f"{STATE}/cataloged/{CHIP}.json", CHIP),
    "the state of the catalog is recorded": written("state/catalog/seen.json", CHIP, "plain"),
}


@NEEDS_STRACE
@pytest.mark.parametrize("name", one_short(CATALOGED, "the fileset is marked as cataloged"))
def test_killed_while_a_fileset_is_cataloged_just_when(name, release, server, follower, tmp_path):
    follower.catalog["enabled"] = True
    one_process_killed_at(CATALOGED[name], follower, tmp_path / "output")
    server.clear()
    result = follower.update()
    assert result.code == 0, result.output
    complete(follower, release)
    assert not {target.split("/")[3] for target in file_requests(server)} & set(CATALOGED[name].kept)
    assert follower.marked("cataloged", PRODUCT) == {CHIP, "plain"}
    layout = Layout(follower.root)
    with closing(catalog_of(follower.root)) as database:
        assert list(differences(layout, database, ("downloaded", "extracted"))) == []
    assert len(list(layout.catalog.glob("*.sqlite"))) == 1


@NEEDS_STRACE
def test_a_failure_record_is_removed_whenever_its_run_was_killed(release, server, follower, tmp_path):
    server.faults.append(faults.fails(404, target=f"{PRODUCT}/plain/small.fits"))
    killed_at(written(f"{STATE}/failed/plain.json"), follower, tmp_path / "output")
    server.faults.clear()
    assert follower.update().code == 0
    complete(follower, release)


IN_PROGRESS = [
    received(CHIP, f"{CHIP}.XY02.tgz"),
    written(f"info/{PRODUCT}/{CHIP}/dirinfo.{CHIP}.mdc"),
    unpacked("data/gpc1/MD01/o1.XY02/c.fits"),
    written(f"{STATE}/extracted/{CHIP}.json"),
]


@NEEDS_STRACE
@pytest.mark.parametrize("instant", IN_PROGRESS)
def test_nothing_is_left_of_a_fileset_that_was_withdrawn_while_it_was_in_progress(
    instant, release, server, follower, tmp_path
):
    killed_at(instant, follower, tmp_path / "output")
    release.withdraw(PRODUCT, CHIP)
    release.add(PRODUCT, "later", [File("new.fits", b"new")])
    assert follower.update().code == 0
    assert leftovers(follower.root) == []
    assert follower.content("data") == follower.content("info") == {}


@NEEDS_STRACE
def test_nothing_is_left_of_a_fileset_that_is_skipped_while_it_is_in_progress(release, follower, tmp_path):
    killed_at(unpacked("data/gpc1/MD01/o1.XY02/c.fits"), follower, tmp_path / "output")
    skip = [sys.executable, "-m", "tasks", "skip", "--mirror-config", str(follower.config)]
    assert ended([*skip, "--reason", "why not", PRODUCT, CHIP]).code == 0
    assert follower.update().code == 0
    assert leftovers(follower.root) == []
    assert follower.content("data") == follower.content("info") == {}
    assert ended([*skip[:3], "unskip", *skip[4:], PRODUCT, CHIP]).code == 0
    assert follower.update().code == 0
    complete(follower, release)


@NEEDS_STRACE
def test_what_a_withdrawn_fileset_had_unpacked_stays_when_its_replacement_was_killed(
    release, server, follower, tmp_path
):
    assert follower.update().code == 0
    release.add_bundles(PRODUCT, CHIP, {"XY01": {"a.fits": b"new"}, "XY03": {"d.fits": b"D"}})
    killed_at(unpacked("data/gpc1/MD01/o1.XY03/d.fits"), follower, tmp_path / "output")
    release.withdraw(PRODUCT, CHIP)
    assert follower.update().code == 0
    assert leftovers(follower.root) == []
    assert follower.content("data").keys() == DATA.keys()


@NEEDS_STRACE
def test_a_file_of_another_fileset_comes_back_from_one_that_was_killed_and_withdrawn(
    upstream, follower, tmp_path
):
    older = {"gpc1/MD01/o1.XY01/a.fits": b"older", "gpc1/MD01/o1.XY02/c.fits": b"C" * 300_000}
    bundles = {"XY01": {"a.fits": b"older"}, "XY02": {"c.fits": b"C" * 300_000}}
    upstream.add_bundles("other", "o1.warp.1.1.1", bundles)
    assert follower.update().code == 0
    upstream.add_bundles(PRODUCT, CHIP, {"XY01": {"a.fits": b"newer"}, "XY02": {"c.fits": b"newer"}})
    killed_at(unpacked("data/gpc1/MD01/o1.XY02/c.fits"), follower, tmp_path / "output")
    assert follower.content("data")["gpc1/MD01/o1.XY01/a.fits"] == b"newer"
    upstream.withdraw(PRODUCT, CHIP)
    assert follower.update().code == 0
    assert follower.update().code == 0
    assert follower.content("data") == older
    assert checked_markers(follower.root, "other", "extracted") == {"o1.warp.1.1.1"}


RESTORED = {
    "they are made": Instant("mkdir", "state/@owners/7f"),
    "one is written": Instant("openat", OWNERS),
    "all are written": Instant("syncfs", "state/@owners"),
    "they are complete": written("state/@owners/complete.json"),
}


@NEEDS_STRACE
@pytest.mark.parametrize("name", one_short(RESTORED, "one is written"))
def test_killed_while_the_owner_records_are_restored_just_when(name, release, server, follower, tmp_path):
    assert follower.update().code == 0
    shutil.rmtree(follower.root / "state" / "@owners")
    killed_at(RESTORED[name], follower, tmp_path / "output")
    server.clear()
    newer = {"XY01": {"a.fits": b"newer"}, "XY02": {"c.fits": b"newer"}}
    follower.mirror["on_removed"] = "delete"
    release.add_bundles("other", "o1.warp.1.1.1", newer)
    # Of a product without any fileset nothing would be deleted.
    release.add("other", "stays", [File("s.fits", b"s")])
    assert follower.update().code == 0
    marker = json.loads((follower.root / "state/other/extracted/o1.warp.1.1.1.json").read_text())
    contested = {"data/gpc1/MD01/o1.XY01/a.fits", "data/gpc1/MD01/o1.XY02/c.fits"}
    assert marker["replaces"] == dict.fromkeys(contested, f"{PRODUCT}/{CHIP}")
    release.withdraw("other", "o1.warp.1.1.1")
    assert follower.update().code == 0
    assert follower.update().code == 0
    complete(follower, release)
    assert {target.split("/")[3] for target in file_requests(server)} == {"o1.warp.1.1.1", "stays"}


@NEEDS_STRACE
def test_nothing_is_left_of_an_unpacking_when_the_fileset_is_registered_again_with_other_bundles(
    release, server, follower, tmp_path
):
    killed_at(unpacked("data/gpc1/MD01/o1.XY02/c.fits"), follower, tmp_path / "output")
    release.add_bundles(PRODUCT, CHIP, {"XY07": {"other.fits": b"other"}})
    assert follower.update().code == 0
    assert leftovers(follower.root) == []
    assert follower.content("data") == {"gpc1/MD01/o1.XY07/other.fits": b"other"}


@NEEDS_STRACE
def test_nothing_is_left_of_an_unpacking_when_the_fileset_is_registered_again_without_bundles(
    release, follower, tmp_path
):
    killed_at(unpacked("data/gpc1/MD01/o1.XY02/c.fits"), follower, tmp_path / "output")
    release.add(PRODUCT, CHIP, [File("table.fits", b"t" * 500)])
    assert follower.update().code == 0
    assert leftovers(follower.root) == []
    assert follower.content("data") == {}
    assert follower.content("info") == {}


def test_documents_of_an_earlier_registration_do_not_stay(release, follower):
    assert follower.update().code == 0
    described = File("renamed.mdc", dirinfo("gpc1/MD01", {"XY01": "o1.XY01"}), "text", "dirinfo")
    packed = File(f"{CHIP}.XY01.tgz", bundle({"a.fits": b"new"}), "tgz", "XY01")
    release.add(PRODUCT, CHIP, [described, packed])
    assert follower.update().code == 0
    assert follower.content("info").keys() == {f"{PRODUCT}/{CHIP}/renamed.mdc"}


@NEEDS_STRACE
def test_the_newer_owner_of_a_file_keeps_it_from_one_that_was_killed_while_placing_it(
    release, follower, tmp_path
):
    killed_at(unpacked("data/gpc1/MD01/o1.XY02/c.fits"), follower, tmp_path / "output")
    newer = {"gpc1/MD01/o1.XY01/a.fits": b"newer"}
    release.add_bundles("other", "o1.warp.1.1.1", {"XY01": {"a.fits": b"newer"}})
    assert follower.update("--products", "other").code == 0
    assert follower.update().code == 0
    assert follower.content("data") == DATA | newer
    checked_markers(follower.root, "other", "extracted")


def test_the_newer_owner_of_a_file_keeps_it_from_one_whose_replacement_came_late(release, server, follower):
    assert follower.update().code == 0
    release.add_bundles(PRODUCT, CHIP, {"XY01": {"a.fits": b"older"}})
    release.add_bundles("other", "o1.warp.1.1.1", {"XY01": {"a.fits": b"newer"}})
    server.faults.append(faults.fails(404, target=f"{PRODUCT}/{CHIP}/*.tgz"))
    assert follower.update().code == 30
    assert follower.content("data")["gpc1/MD01/o1.XY01/a.fits"] == b"newer"
    server.faults.clear()
    assert follower.update().code == 0
    assert follower.content("data") == {"gpc1/MD01/o1.XY01/a.fits": b"newer"}
    checked_markers(follower.root, "other", "extracted")


@NEEDS_STRACE
def test_what_was_withdrawn_before_it_could_be_fetched_needs_no_help(release, server, follower, tmp_path):
    """The server lists what is newer than the last ones seen, and so nothing of older ones that are gone."""
    for name in ("later", "latest"):
        release.add(PRODUCT, name, [File("new.fits", name.encode())])
    killed_at(received(CHIP, f"{CHIP}.XY02.tgz"), follower, tmp_path / "output")
    release.withdraw(PRODUCT, CHIP)
    server.clear()
    result = follower.update()
    assert result.code == 0, result.output
    assert CHIP not in requested_filesets(server)
    assert follower.content("store") == served_filesets(release)
    assert leftovers(follower.root) == []


def test_killed_while_the_server_is_asked_what_is_new(release, server, follower, tmp_path):
    opened = Event()
    server.faults.append(gate(opened, f"{PRODUCT}/index.txt"))
    with started(follower.command(), tmp_path / "output") as update:
        until(lambda: len(server.requests) == 2, "the listing was not asked for")
        update.send(signal.SIGKILL)
        update.wait()
    opened.set()
    assert follower.update().code == 0
    complete(follower, release)


def test_killed_in_the_middle_of_a_file_which_is_then_resumed(release, server, follower, tmp_path):
    big = f"{PRODUCT}/plain/big.fits"
    server.faults.append(faults.stalls(after=3_000_000, target=big, times=1))
    with started(follower.command(), tmp_path / "output") as update:
        plain = follower.root / "incoming" / PRODUCT / "plain"
        partial, others = plain / "partial" / f"{short_digest('big.fits')}.part", ("small.fits", "nil")
        until(lambda: size_of(partial) >= 2_500_000, "the file did not come")
        until(lambda: all((plain / "files" / name).exists() for name in others), "the others did not come")
        until(lambda: follower.marked("extracted", PRODUCT) == {CHIP}, "the other fileset does not get done")
        update.send(signal.SIGKILL)
        update.wait()
    other = [target for target in file_requests(server) if not target.endswith(big)]
    assert len(other) == 5
    server.clear()
    assert follower.update().code == 0
    complete(follower, release)
    (resumed,) = [entry for entry in server.requests if "index.txt" not in entry.target]
    assert resumed.target == f"/ds/{big}"
    assert resumed.status == 206
    # What was on its way through the client's buffers is all that comes twice.
    assert resumed.bytes_sent <= len(BIG) - 2_500_000


LARGE = BIG * 8


def test_killed_while_all_connections_fetch_one_file_of_which_only_the_rest_is_fetched_again(
    release, server, follower, tmp_path
):
    # Nothing else is on its way then: the file is split for all eight connections.
    follower.source["connections"] = 8
    assert follower.update().code == 0
    release.add(PRODUCT, "large", [File("large.fits", LARGE)])
    large = f"{PRODUCT}/large/large.fits"
    server.faults.append(faults.stalls(after=3_000_000, target=large))
    with started(follower.command(), tmp_path / "output") as update:
        until(lambda: sent(server, large) >= 8 * 3_000_000, "the file did not come over eight connections")
        sleep(SEEN_SECONDS)
        update.send(signal.SIGKILL)
        update.wait()
    partial = follower.root / "incoming" / PRODUCT / "large" / "partial"
    note = json.loads((partial / f"{short_digest('large.fits')}.json").read_bytes())
    held = [tuple(piece) for piece in note["pieces"]]
    server.faults.clear()
    server.clear()
    assert follower.update().code == 0
    complete(follower, release)
    again = [entry for entry in server.requests if entry.target == f"/ds/{large}"]
    assert {entry.status for entry in again} == {206}
    bounds = [entry.range.removeprefix("bytes=").split("-") for entry in again]
    fetched = [(int(first), int(last) + 1) for first, last in bounds]
    starts, ends = zip(*sorted(held + fetched), strict=True)
    assert (*starts, len(LARGE)) == (0, *ends), "something was fetched twice, or not at all"
    # A note is written every 8 MiB; the rest was on its way through the client's buffers.
    assert sent(server, large) <= len(LARGE) - 8 * 3_000_000 + (8 << 20) + 8 * (1 << 18)


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def sent(server, path: str) -> int:
    return sum(entry.bytes_sent for entry in server.requests if entry.target == f"/ds/{path}")


def is_bundle(target: str) -> bool:
    return target.endswith(".tgz")


def test_a_killed_update_leaves_nothing_that_works_on(release, server, follower, tmp_path):
    opened = Event()
    server.faults.append(gate(opened, f"{PRODUCT}/*/*.tgz"))
    with started(follower.command(), tmp_path / "output") as update:
        until(lambda: any(map(is_bundle, file_requests(server))), "no bundle was asked for")
        update.send(signal.SIGKILL)
        update.wait()
        before = follower.content("")
        opened.set()
        sleep(2 * SEEN_SECONDS)
        assert follower.content("") == before
    assert follower.update().code == 0
    complete(follower, release)


MANY = [f"o{number}.chip.{number}.1.1" for number in range(2, 12)]


@pytest.fixture
def many(release: Upstream) -> dict[str, bytes]:
    """More filesets than are in progress at once; what the whole release unpacks to."""
    for name in MANY:
        files = [
            File(f"dirinfo.{name}.mdc", dirinfo("gpc1/MD02", {"XY01": name}), "text", "dirinfo"),
            File(f"{name}.tgz", bundle({"d.fits": name.encode() * 1000}), "tgz", "XY01"),
        ]
        release.add(PRODUCT, name, files)
    return DATA | {f"gpc1/MD02/{name}/d.fits": name.encode() * 1000 for name in MANY}


@pytest.mark.long
@pytest.mark.parametrize("plain", [False, True], ids=["central", "luigid"])
@pytest.mark.parametrize("killed", ["scheduler", "update", "both"])
def test_killed_beside_the_central_scheduler(killed, plain, many, release, server, follower, tmp_path):
    scheduler = Scheduler(tmp_path, free_port(), plain)
    luigid = scheduler.start()
    opened = Event()
    server.faults.append(gate(opened, f"{PRODUCT}/*/*.tgz", after=4))
    try:
        with started(luigi_command(follower, scheduler.port), tmp_path / "output") as update:
            until(lambda: held(server) >= 3, "no bundle was asked for")
            if killed != "update":
                luigid.kill()
            if killed != "scheduler":
                update.send(signal.SIGKILL)
            opened.set()
            ended = update.wait()
            assert ended.code == (35 if killed == "scheduler" else -signal.SIGKILL), ended.output
            assert "Traceback" not in ended.output
        if killed == "scheduler":
            assert follower.marked("downloaded", PRODUCT), "what was in progress was aborted"
        if killed != "update":
            luigid = scheduler.start()
        with started(luigi_command(follower, scheduler.port), tmp_path / "output") as update:
            ended = update.wait()
            assert ended.code == 0, ended.output
    finally:
        luigid.kill()
    complete(follower, release, many)


def test_a_scheduler_does_not_wait_for_an_update_that_was_killed(many, release, server, follower, tmp_path):
    """This scheduler would take the killed update for a living one until tomorrow."""
    scheduler = Scheduler(tmp_path, free_port())
    luigid = scheduler.start("[scheduler]\nworker_disconnect_delay=86400\n")
    opened = Event()
    server.faults.append(gate(opened, f"{PRODUCT}/*/*.tgz", after=4))
    try:
        with started(luigi_command(follower, scheduler.port), tmp_path / "output") as update:
            until(lambda: held(server) >= 3, "no bundle was asked for")
            update.kill()
        opened.set()
        with started(luigi_command(follower, scheduler.port), tmp_path / "output") as update:
            ended = update.wait()
            assert ended.code == 0, ended.output
    finally:
        luigid.kill()
    complete(follower, release, many)


def held(server) -> int:
    return sum(entry.target.endswith(".tgz") and entry.status is None for entry in server.requests)
