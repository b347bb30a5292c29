"""Whole updates from servers that lie: how the command ends, what is published, how the next run repairs it.

What each lie does to a single file or listing is tested beside this; here, that nothing of it gets through.
"""

import random

import pytest
from support.follower import Follower
from support.summary_line import numbers
from support.upstream import File, Upstream, served_filesets

from pipeline.sample import faults
from pipeline.sample.faults import Fault
from pipeline.sample.simulator import Simulator

PRODUCT = "md-all-rel-200907"
BIG = random.Random(3).randbytes(2_500_000)
MEMBER = random.Random(4).randbytes(1_600_000)
DATA = {"gpc1/MD01/o1.XY01/a.fits": MEMBER, "gpc1/MD01/o1.XY02/b.fits": b"B" * 500}


@pytest.fixture
def release(upstream: Upstream, follower: Follower) -> Upstream:
    """A fileset of bundles, and two of plain files, one of them large, one a text."""
    bundles = {"XY01": {"a.fits": MEMBER}, "XY02": {"b.fits": b"B" * 500}}
    upstream.add_bundles(PRODUCT, "o1.chip.1.1.1", bundles)
    upstream.add(PRODUCT, "large", [File("big.fits", BIG), File("note.txt", b"N" * 5000, "text")])
    upstream.add(PRODUCT, "small", [File("s.fits", b"S" * 100)])
    follower.mirror["products"] = [PRODUCT]
    return upstream


LARGE = f"{PRODUCT}/large/big.fits"
ITS_LISTING = f"{PRODUCT}/large/index.txt"
LASTING = {
    "stalls": (faults.stalls, {"after": 10}, LARGE, "no more bytes from 127.0.0.1"),
    "never ends": (faults.never_ends, {}, LARGE, "bytes as listed, got more"),
    "leads elsewhere": (faults.redirects, {"to": "http://127.0.0.2:9/x"}, LARGE, "which is not followed"),
    "lost the listing": (
        faults.database_down,
        {},
        ITS_LISTING,
        "expected a listing with a '# fileID |…' line",
    ),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_lie_about_one_file_costs_its_fileset_until_it_ends(name, release, server, follower):
    fault, how, target, said = LASTING[name]
    if name == "stalls":
        follower.source["timeout"] = 1
    server.faults.append(fault(**how, target=target))
    result = follower.update()
    assert result.code == 30, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    assert numbers(3, 3, 2, 1) in result.output
    held = {path.split("/")[1] for path in follower.content("store")}
    assert held == {"o1.chip.1.1.1", "small"}
    assert follower.marked("downloaded", PRODUCT) == held
    assert follower.content("data") == DATA
    assert all(len(content) <= len(BIG) for content in follower.content("incoming").values())

    server.faults.clear()
    server.clear()
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(release)
    assert follower.content("data") == DATA
    assert follower.content("incoming") == {}
    assert not any("/small/" in request.target for request in server.requests)


def passing() -> list[Fault]:
    """Troubles of which each strikes once or twice, all over the place."""
    return [
        faults.hangs_up(after=600_000, times=2),
        faults.resets(after=900_000, target=LARGE, times=1),
        faults.flips_byte(target="*/*/note.txt", times=1),
        faults.fails(503, target="*/small/s.fits", times=2),
        faults.fails(429, retry_after="0", target="*/*/index.txt", times=2),
        faults.database_down(times=1),
        faults.cuts_row(target="*/index.txt", times=1),
    ]


def test_passing_troubles_do_not_show(release, server, follower):
    follower.source["attempts"] = 8
    server.faults.extend(passing())
    result = follower.update()
    assert result.code == 0, result.output
    assert all(fault.used == fault.times for fault in server.faults)
    assert follower.content("store") == served_filesets(release)
    assert follower.content("data") == DATA
    assert numbers(3, 3, 3) in result.output


class FromTheSecond(Fault):
    """Fault of all requests that match its target but the first."""

    def matches(self, path: str) -> bool:
        return super().matches(path) and self.used > 1


def interrupted(server: Simulator, follower: Follower) -> None:
    """Run an update that receives the first 2 MB of the large file."""
    follower.source["attempts"] = 1
    # A try that brought bytes does not use up an attempt; the one after it does.
    server.faults.append(faults.hangs_up(after=2_000_000, target=LARGE, times=1))
    server.faults.append(FromTheSecond(faults.fails(403).act, LARGE))
    assert follower.update().code == 30
    server.faults.clear()
    server.clear()


def test_what_an_interrupted_run_received_is_not_fetched_again(release, server, follower):
    interrupted(server, follower)
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(release)
    (request,) = (request for request in server.requests if request.target.endswith("big.fits"))
    held = int(request.range.removeprefix("bytes=").removesuffix("-"))
    assert 0 < held <= 2_000_000
    assert (request.status, request.bytes_sent) == (206, len(BIG) - held)


def test_a_server_that_stalls_again_and_again_is_gone_on_with(release, server, follower):
    follower.source["timeout"] = 1
    server.faults.append(faults.stalls(after=1_000_000, target=LARGE))
    result = follower.update()
    assert result.code == 0, result.output
    assert follower.content("store") == served_filesets(release)
    ranges = [request.range for request in server.requests if "big.fits" in request.target]
    assert len(ranges) > 2
    assert len(set(ranges)) == len(ranges)


def test_a_fileset_registered_again_while_its_old_file_was_half_here(release, server, follower):
    interrupted(server, follower)
    release.add(PRODUCT, "large", [File("big.fits", BIG[::-1])])
    result = follower.update()
    assert result.code == 0, result.output
    assert follower.content("store") == served_filesets(release)
    assert [request.range for request in server.requests if "big.fits" in request.target] == [None]


def test_a_listing_that_ends_in_rubbish_changes_nothing(release, server, follower):
    assert follower.update().code == 0
    release.add(PRODUCT, "later", [File("new.fits", b"new")])
    before = {folder: follower.content(folder) for folder in ("store", "data", "state", "incoming")}
    rubbish = faults.edits(lambda body: body + b"\xff\x00\xfe\n", target=f"{PRODUCT}/index.txt")
    server.faults.append(rubbish)
    result = follower.update()
    assert result.code == 20, result.output
    assert "Traceback" not in result.output
    after = {folder: follower.content(folder) for folder in before}
    assert after["state"].pop(f"{PRODUCT}/listing_failure.json")
    assert after == before
    server.faults.clear()
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(release)


def test_the_newest_fileset_may_be_hidden(release, server, follower):
    server.faults.append(faults.hides_newest())
    assert follower.update().code == 0
    assert {path.split("/")[1] for path in follower.content("store")} == {"o1.chip.1.1.1", "large"}
    server.faults.clear()
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(release)


def test_text_files_and_files_without_md5_arrive(release, server, follower):
    without = File("no-md5.fits", b"M" * 3000, listed={"md5": ""})
    release.add(PRODUCT, "plain", [without, File("big.txt", BIG, "text"), File("empty", b"")])
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(release)
    server.clear()
    assert follower.update().code == 0
    assert all("index.txt" in request.target for request in server.requests)
