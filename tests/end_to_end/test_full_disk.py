"""This machine cannot: a full disk, a read-only one, no permission, no more open files, names too long."""

import contextlib
import gzip
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event

import pytest
from support.bundles import bundle, dirinfo
from support.command import ended
from support.follower import Follower
from support.running import gate, leftovers, started, tree_is_true, until
from support.upstream import File, Upstream, served_filesets

from pipeline.bundle.unpack import temporary_name
from pipeline.mirror.state.layout import short_digest
from pipeline.sample import faults

PRODUCT = "md-all-rel-200907"
MB = 1_000_000


@dataclass
class SmallDisk:
    """A file system of its own below ``root``, of few bytes."""

    root: Path

    def mount(self, size: int) -> None:
        self.root.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", self.root], check=True)

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.root], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", self.root], check=True)

    @property
    def free(self) -> int:
        return shutil.disk_usage(self.root).free

    @property
    def ballast(self) -> Path:
        """A file that only takes space."""
        return self.root / "ballast"

    def fill(self, but: int) -> None:
        """Leave so many bytes free."""
        with open(self.ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.free - but)


@pytest.fixture
def disk(follower: Follower) -> Iterator[SmallDisk]:
    """A disk of 24 MB for the mirror, of which none has to stay free."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    small = SmallDisk(follower.root)
    try:
        small.mount(24 * MB)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small file system can be mounted here: {error}")
    follower.mirror["min_free"] = "0 B"
    yield small
    small.unmount()


def content(size: int) -> bytes:
    """Bytes that do not compress."""
    return Random(size).randbytes(size)


def file_requests(server) -> list[str]:
    return [entry.target for entry in server.requests if "index.txt" not in entry.target]


def complete(follower: Follower, release: Upstream) -> None:
    result = follower.update()
    assert result.code == 0, result.output
    assert follower.content("store") == served_filesets(release)
    assert follower.marked("failed", PRODUCT) == set()
    assert leftovers(follower.root) == []
    tree_is_true(follower.root, PRODUCT, set(release.products[PRODUCT]))


def is_clear(output: str, *said: str) -> None:
    assert "Traceback" not in output
    assert "Logging error" not in output
    assert "bug" not in output
    for words in said:
        assert words in output


@pytest.mark.parametrize("left", [0, 2 * MB])
def test_the_disk_fills_up_in_the_middle_of_a_download(left, disk, release, server, follower, tmp_path):
    release.add(PRODUCT, "large", [File("tiny.fits", b"t"), File("large.fits", content(6 * MB))])
    opened = Event()
    server.faults.append(gate(opened, f"{PRODUCT}/large/large.fits"))
    with started(follower.command(), tmp_path / "output") as update:
        until(lambda: len(follower.marked("extracted", PRODUCT)) == 2, "the others do not get done")
        until(lambda: len(file_requests(server)) == 5, "the large file is not asked for")
        disk.fill(but=left)
        opened.set()
        result = update.wait()
    assert result.code == 30, result.output
    is_clear(result.output, "large.fits", "The disk is full: free disk space for", "2 extracted, 1 failed")
    assert follower.marked("extracted", PRODUCT) == {"o1.chip.1.1.1", "plain"}
    disk.ballast.unlink()
    server.clear()
    complete(follower, release)
    assert file_requests(server) == [f"/ds/{PRODUCT}/large/large.fits"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_disk_fills_up_in_the_middle_of_unpacking(disk, release, server, follower, tmp_path):
    """strace holds the unpacking up before its second member."""
    release.add_bundles(PRODUCT, "zeros", {"XY01": {"y.fits": bytes(5 * MB), "z.fits": bytes(10 * MB)}})
    folder = disk.root / "data/gpc1/MD01/zeros.XY01"
    second = folder / temporary_name("z.fits", short_digest(f"{PRODUCT}/zeros"))
    slow = ["-P", str(second), "-e", "trace=openat", "-e", "inject=openat:delay_enter=6000000"]
    command = ["strace", "-f", "-qqq", "-o", "/dev/null", *slow, *follower.command()]
    with started(command, tmp_path / "output") as update:
        until(lambda: 5 * MB in {path.stat().st_size for path in folder.glob(".*")}, "nothing is unpacked")
        until(lambda: len(follower.marked("extracted", PRODUCT)) == 2, "the others do not get done")
        disk.fill(but=2 * MB)
        result = update.wait()
    assert result.code == 30, result.output
    is_clear(result.output, f"unpacking fileset {PRODUCT}/zeros", "free disk space for 15.0 MB")
    is_clear(result.output, "2 extracted, 1 failed")
    assert follower.content("store") == served_filesets(release)
    assert set(follower.content("data")) == {"gpc1/MD01/o1.XY01/a.fits"}
    assert disk.free > 6 * MB, "what was unpacked in part takes space"
    disk.ballast.unlink()
    server.clear()
    complete(follower, release)
    assert file_requests(server) == []


def test_min_free_stays_free_when_a_bundle_holds_more_than_its_last_bytes_say(
    disk, release, server, follower
):
    """The last four bytes are the size of the last member of the gzip stream, which is none here."""
    follower.mirror["min_free"] = "2 MB"
    packed = bundle({"z.fits": bytes(60 * MB)}) + gzip.compress(b"")
    described = File("dirinfo.mdc", dirinfo("gpc1/MD01", {"XY01": "zeros"}), "text", "dirinfo")
    release.add(PRODUCT, "zeros", [described, File("zeros.tgz", packed, "tgz", "XY01")])
    result = follower.update()
    assert result.code == 30, result.output
    is_clear(result.output, f"unpacking fileset {PRODUCT}/zeros needs more than was reserved", "are missing")
    is_clear(result.output, "2 extracted, 1 failed")
    assert set(follower.content("data")) == {"gpc1/MD01/o1.XY01/a.fits"}


def test_a_bundle_is_not_unpacked_where_there_is_no_space_for_it(disk, release, server, follower):
    follower.mirror["min_free"] = "2 MB"
    release.add_bundles(
        PRODUCT, "zeros", {"XY01": {"z.fits": bytes(12 * MB)}, "XY02": {"y.fits": bytes(12 * MB)}}
    )
    result = follower.update()
    assert result.code == 30, result.output
    is_clear(
        result.output,
        f"unpacking fileset {PRODUCT}/zeros needs 24.0 MB",
        "are missing",
        "2 extracted, 1 failed",
    )
    assert follower.content("store") == served_filesets(release)
    assert set(follower.content("data")) == {"gpc1/MD01/o1.XY01/a.fits"}
    disk.remount(f"size={60 * MB}")
    server.clear()
    complete(follower, release)
    assert file_requests(server) == []


def test_what_is_written_is_no_longer_reserved(disk, release, server, follower, tmp_path):
    """Of 24 MB one fileset takes ten and another ten: the nine that the first has written count once."""
    release.add(PRODUCT, "large", [File("first.fits", content(9 * MB)), File("last.fits", content(MB))])
    release.add(PRODUCT, "other", [File("other.fits", content(10 * MB))])
    begun, others_done = Event(), Event()
    server.faults.append(gate(begun, f"{PRODUCT}/other/index.txt"))
    server.faults.append(gate(others_done, f"{PRODUCT}/large/last.fits"))
    with started(follower.command(), tmp_path / "output") as update:
        until((follower.root / "incoming" / PRODUCT / "large/files/first.fits").exists, "it does not come")
        begun.set()
        until(lambda: "other" in tried(follower), "the other one is not tried")
        others_done.set()
        result = update.wait()
    assert result.code == 0, result.output
    complete(follower, release)


def test_what_came_before_a_kill_is_not_reserved_again(disk, release, server, follower, tmp_path):
    """Of 24 MB a file takes 14, of which 12 came before the kill."""
    release.add(PRODUCT, "large", [File("large.fits", content(14 * MB))])
    server.faults.append(faults.stalls(after=12 * MB, target=f"{PRODUCT}/large/large.fits", times=1))
    with started(follower.command(), tmp_path / "output") as update:
        until(lambda: disk.free < 13 * MB, "the large file does not come")
        update.kill()
    complete(follower, release)


def tried(follower: Follower) -> set[str]:
    return follower.marked("extracted", PRODUCT) | follower.marked("failed", PRODUCT)


def test_what_must_stay_free_stays_free(disk, release, server, follower):
    follower.mirror["min_free"] = "6 MB"
    for number in range(5):
        release.add(PRODUCT, f"large{number}", [File("large.fits", content(4 * MB + number))])
    result = follower.update("--workers", "1")
    assert result.code == 30, result.output
    is_clear(result.output, "are missing", "mirror.min_free", "Free disk space")
    assert disk.free >= 6 * MB
    done = follower.marked("extracted", PRODUCT)
    assert {"o1.chip.1.1.1", "plain"} < done
    assert len(done) == 6
    disk.remount(f"size={60 * MB}")
    server.clear()
    complete(follower, release)
    assert len(file_requests(server)) == 1


def test_a_bundle_is_not_fetched_where_it_could_not_be_unpacked(disk, release, server, follower):
    release.add_bundles(PRODUCT, "large", {"XY01": {"l.fits": content(10 * MB)}})
    result = follower.update()
    assert result.code == 30, result.output
    is_clear(result.output, f"fileset {PRODUCT}/large needs", "are missing")
    assert not any(".tgz" in target and "/large/" in target for target in file_requests(server))
    disk.remount(f"size={60 * MB}")
    complete(follower, release)


def test_a_disk_that_is_full_from_the_start(disk, release, server, follower):
    disk.fill(but=0)
    result = follower.update()
    assert result.code == 30, result.output
    is_clear(result.output, "The disk is full: free disk space")
    assert file_requests(server) == []
    disk.ballast.unlink()
    complete(follower, release)


def test_a_disk_that_is_full_before_a_later_run(disk, release, server, follower):
    assert follower.update().code == 0
    before = {folder: follower.content(folder) for folder in ("store", "data", "info")}
    release.add(PRODUCT, "later", [File("new.fits", b"new")])
    disk.fill(but=0)
    result = follower.update()
    assert result.code == 30, result.output
    is_clear(result.output, "The disk is full: free disk space")
    follower.mirror["products"] = [PRODUCT]
    result = follower.update()
    assert result.code == 30, result.output
    said = [line for line in result.output.splitlines() if line.startswith(f"product {PRODUCT}")]
    assert said == [
        f"product {PRODUCT}: recording its listing: No space left on device. "
        "The disk is full: free disk space; the next run tries again."
    ]
    assert {folder: follower.content(folder) for folder in before} == before
    disk.ballast.unlink()
    complete(follower, release)


def test_a_read_only_disk(disk, release, server, follower):
    assert follower.update().code == 0
    disk.remount("ro")
    result = follower.update()
    assert result.code == 40, result.output
    is_clear(result.output, str(follower.root))
    assert result.output.count("\n") == 1
    disk.remount("rw")
    complete(follower, release)


def as_one_without_rights(command: list[str]) -> list[str]:
    """The command without root's right to write anywhere."""
    if os.geteuid() != 0:
        return command
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed: root may write anywhere")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", *command]


@contextlib.contextmanager
def forbidden(folder: Path) -> Iterator[None]:
    """Nobody may write to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(0o755)


def test_a_root_that_may_not_be_written(release, server, follower):
    follower.root.mkdir()
    state, user = follower.root / "state", pwd.getpwuid(os.geteuid()).pw_name
    with forbidden(state):
        result = ended(as_one_without_rights(follower.command()))
        if os.geteuid() == 0:
            os.chown(state, 65_534, -1)
            of_another = ended(as_one_without_rights(follower.command())).output
            os.chown(state, 0, -1)
            owner = pwd.getpwuid(65_534).pw_name
            is_clear(of_another, f"(it belongs to user {owner}, this is user {user})")
    assert result.code == 40, result.output
    is_clear(result.output, f"no permission to write (it belongs to this user, {user})", str(follower.root))
    assert server.requests == []
    complete(follower, release)


@pytest.mark.parametrize(
    "folder", ["store", "data", "data/gpc1/MD01", "info", "incoming", f"state/{PRODUCT}", "status"]
)
def test_a_folder_that_may_not_be_written(folder, release, server, follower):
    with forbidden(follower.root / folder):
        result = ended(as_one_without_rights(follower.command()))
    assert result.code == 30, result.output
    is_clear(result.output, "ermission denied", folder, "right to write there")
    server.clear()
    complete(follower, release)
    if folder.startswith(("data", "info", "status")):
        assert file_requests(server) == []


def test_a_failure_that_cannot_be_recorded_still_fails_the_run(release, follower):
    release.add(PRODUCT, "wrong", [File("w.fits", b"w", listed={"md5": "0" * 32})])
    with forbidden(follower.root / "state" / PRODUCT / "failed"):
        result = ended(as_one_without_rights(follower.command()))
    assert result.code == 30, result.output
    is_clear(result.output, "recording its failure", "expected md5", "2 extracted, 1 failed")


@pytest.mark.parametrize("most", [12, 20])
def test_too_few_open_files(most, release, server, follower):
    for number in range(12):
        files = [File(f"f{index}.fits", bytes([number, index]) * 900) for index in range(8)]
        release.add(PRODUCT, f"many{number}", files)
    result = ended(["prlimit", f"--nofile={most}", *follower.command()])
    assert result.code in {0, 20, 30}, result.output
    is_clear(result.output, *(["Raise the limit on open files (ulimit -n)"] if result.code else []))
    complete(follower, release)


@pytest.mark.parametrize("length", [250, 251, 255])
def test_a_fileset_whose_name_is_too_long_for_a_marker(length, release, server, follower):
    name = "f" * length
    release.add(PRODUCT, name, [File("f.fits", b"f")])
    release.add(PRODUCT, "after", [File("f.fits", b"f")])
    result = follower.update()
    if length == 250:
        assert result.code == 0, result.output
        complete(follower, release)
        return
    assert result.code == 30, result.output
    is_clear(result.output, name[:40], "3 extracted, 1 failed")
    assert follower.marked("extracted", PRODUCT) == {"o1.chip.1.1.1", "plain", "after"}
    release.withdraw(PRODUCT, name)
    release.add(PRODUCT, "later", [File("f.fits", b"f")])
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(release)


def test_names_as_long_as_a_file_system_takes(release, server, follower):
    longest = "n" * 255
    release.add_bundles(PRODUCT, "long", {"XY01": {longest: b"member"}})
    release.add(PRODUCT, "longer", [File(longest, b"file")])
    complete(follower, release)
    assert follower.content("data")[f"gpc1/MD01/long.XY01/{longest}"] == b"member"
