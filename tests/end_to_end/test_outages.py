"""A server that dies in the middle of a run, and a full disk: the run ends early."""

import re
from collections.abc import Callable, Set
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from support.command import Ended
from support.follower import Follower
from support.running import leftovers, requested_filesets, started, until
from support.upstream import File, Upstream, served_filesets

from pipeline.sample import faults
from pipeline.sample.faults import EVERYTHING, Fault
from pipeline.sample.simulator import Simulator, simulate
from tasks.runtime.outage import OutagePolicy

PRODUCT = "md-all-rel-200907"
FILESETS = 60
CONNECTIONS = 4
# Those in a row, and those that are in progress beside the last one.
MOST_FAILED = OutagePolicy().unanswered + 2 * CONNECTIONS


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    for number in range(FILESETS):
        upstream.add(PRODUCT, f"o{number:03}", [File("a.fits", b"x" * 900)], type="table")
    return upstream


@pytest.fixture
def hasty(follower: Follower) -> Follower:
    """A mirror that tries twice."""
    follower.source = {"connections": CONNECTIONS, "attempts": 2}
    follower.mirror = {"products": [PRODUCT]}
    return follower


def after(count: int, fault: Fault, target: str = EVERYTHING) -> Fault:
    """The fault from the ``count``-th request on."""
    came = 0

    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        nonlocal came
        came += 1
        if came > count:
            await fault.act(scope, receive, send, app)
        else:
            await app(scope, receive, send)

    return Fault(act, target)


def ended_early(
    follower: Follower,
    end: Ended,
    code: int,
    cause: str,
    *,
    before: Set[str] = frozenset(),
    wrong: Set[str] = frozenset(),
) -> set[str]:
    """The run ended with the code, and says how many filesets wait: all that are not done nor in the result.

    ``before`` are the filesets that had failed before this run, ``wrong`` those that fail without the outage.
    """
    assert end.code == code, end.output
    assert cause in end.output
    assert "This run ends after what is in progress." in end.output
    assert "This run ends" not in (follower.root / "status" / "history.csv").read_text()
    assert "Traceback" not in end.output
    done, failed = map(int, re.search(r" selected: (\d+) extracted, (\d+) failed, ", end.output).groups())
    assert done == len(follower.marked("downloaded", PRODUCT))
    booked = follower.marked("failed", PRODUCT) - before
    assert failed == len(booked)
    assert f"; stopped with {FILESETS - done - failed} left; " in end.output
    assert 0 < len(booked - wrong) <= MOST_FAILED
    return booked


def complete(follower: Follower, release: Upstream) -> None:
    end = follower.update()
    assert end.code == 0, end.output
    assert follower.content("store") == served_filesets(release)
    assert follower.marked("failed", PRODUCT) == set()
    assert leftovers(follower.root) == []


DEATHS: dict[str, Callable[[], Fault]] = {
    "resets": lambda: after(20, faults.resets(after=0)),
    "hangs": lambda: after(20, faults.stalls(after=0)),
    "503": lambda: after(20, faults.fails(503)),
    "no files": lambda: after(20, faults.stalls(after=0), faults.FILES),
    "no listings": lambda: after(20, faults.database_down(), faults.LISTINGS),
}


@pytest.mark.long
@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
def test_a_server_that_dies(death, release, server: Simulator, hasty):
    hasty.source["timeout"] = 0.5
    server.faults.append(death())
    ended_early(hasty, hasty.update(), 20, "the server sent no valid answer for 10 filesets in a row")
    assert len(hasty.marked("downloaded", PRODUCT)) > 0
    assert len(requested_filesets(server)) < FILESETS / 2
    server.faults.clear()
    del hasty.source["timeout"]
    complete(hasty, release)


def test_a_server_that_is_gone(release, hasty, tmp_path: Path):
    with simulate(release.folder) as mortal:
        hasty.url = mortal.url
        mortal.faults.append(faults.delays(0.05, target="*/*/index.txt"))
        running = started(hasty.command(), tmp_path / "output")
        update = running.__enter__()
        until(lambda: hasty.marked("downloaded", PRODUCT), "nothing comes")
    end = update.wait()
    running.__exit__(None, None, None)
    ended_early(hasty, end, 20, "connection refused")
    with simulate(release.folder) as again:
        hasty.url = again.url
        complete(hasty, release)


def test_a_server_that_dies_after_a_wrong_file(release, server: Simulator, hasty):
    release.path(PRODUCT, "o000", "a.fits").write_bytes(b"?" * 900)
    server.faults.append(after(40, faults.fails(503)))
    cause = "the server sent no valid answer for 10 filesets in a row"
    ended_early(hasty, hasty.update(), 30, cause, wrong={"o000"})


def test_filesets_that_are_listed_and_gone_end_no_run(release, server: Simulator, hasty):
    gone = [f"o{number:03}" for number in range(30)]
    server.faults.extend(faults.fails(404, target=f"{PRODUCT}/{name}/index.txt") for name in gone)
    end = hasty.update()
    assert end.code == 30, end.output
    assert "in a row" not in end.output
    assert len(hasty.marked("downloaded", PRODUCT)) == FILESETS - len(gone)
    assert hasty.marked("failed", PRODUCT) == set(gone)


def test_a_disk_without_space(release, server: Simulator, hasty):
    hasty.mirror["min_free"] = "900000 TB"
    cause = "there was no disk space for 10 filesets in a row"
    first = ended_early(hasty, hasty.update(), 30, cause)
    # The next run begins with the others.
    assert len(ended_early(hasty, hasty.update(), 30, cause, before=first)) >= 10
    del hasty.mirror["min_free"]
    complete(hasty, release)


def test_filesets_that_fit_go_on_between_those_that_do_not(release, server: Simulator, hasty):
    for number in range(30):
        huge = File("a.fits", b"x", listed={"bytes": str(10**17)})
        release.add(PRODUCT, f"huge{number}", [huge], type="table")
        release.add(PRODUCT, f"small{number}", [File("a.fits", b"x")], type="table")
    end = hasty.update()
    assert end.code == 30, end.output
    assert "in a row" not in end.output
    assert len(hasty.marked("failed", PRODUCT)) == 30
    assert len(hasty.marked("downloaded", PRODUCT)) == FILESETS + 30
