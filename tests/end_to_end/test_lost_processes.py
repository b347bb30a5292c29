"""A process that does steps is killed: the run says so, ends by itself, and the next one goes on."""

import os
import signal
from pathlib import Path
from threading import Event

import pytest
from support.follower import Follower
from support.running import TIMEOUT_SECONDS, Running, gate, leftovers, started, until
from support.upstream import Upstream, served_filesets

PRODUCT = "md-all-rel-200907"
FILESETS = 12


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    for number in range(FILESETS):
        name = f"o{number}.chip.{number}.1.1"
        upstream.add_bundles(PRODUCT, name, {"XY01": {f"{number}.fits": bytes([number]) * 3000}})
    return upstream


def step_processes(update: Running) -> list[int]:
    """The one that fetches, then those that unpack: in the order of their beginning, not of their numbers."""
    text = Path(f"/proc/{update.pid}/task/{update.pid}/children").read_text()
    return list(map(int, text.split()))


def complete(follower: Follower, release: Upstream) -> None:
    assert follower.content("store") == served_filesets(release)
    assert len(follower.content("data")) == FILESETS
    assert follower.marked("extracted", PRODUCT) == set(release.products[PRODUCT])
    assert leftovers(follower.root) == []


# Often, for what goes wrong only when all filesets in progress notice it at once.
@pytest.mark.long
@pytest.mark.parametrize("attempt", range(8))
def test_the_one_that_fetches(attempt, release, server, follower, tmp_path):
    opened = Event()
    server.faults.append(gate(opened, f"{PRODUCT}/*/*.tgz", after=2))
    with started(follower.command(), tmp_path / "output") as update:
        until(lambda: len(server.requests) > 20, "no bundle was asked for")
        os.kill(step_processes(update)[0], signal.SIGKILL)
        ended = update.wait()
    opened.set()
    assert ended.code == 30, ended.output
    assert "the process that fetches was killed" in ended.output
    assert "Traceback" not in ended.output
    assert f"filesets: {FILESETS} discovered, " in ended.output
    assert follower.update().code == 0
    complete(follower, release)


def test_one_that_unpacks_and_has_nothing_to_do(release, server, follower, tmp_path):
    opened = Event()
    server.faults.append(gate(opened, f"{PRODUCT}/*/*.tgz"))
    with started(follower.command(), tmp_path / "output") as update:
        until(lambda: len(server.requests) > 10, "no bundle was asked for")
        os.kill(step_processes(update)[-1], signal.SIGKILL)
        opened.set()
        ended = update.wait()
    assert ended.code in {0, 30}, ended.output
    assert "Traceback" not in ended.output
    assert follower.update().code == 0
    complete(follower, release)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_to_one_alone_is_not_the_end(number, release, server, follower, tmp_path):
    opened = Event()
    server.faults.append(gate(opened, f"{PRODUCT}/*/*.tgz"))
    with started(follower.command(), tmp_path / "output") as update:
        until(lambda: len(server.requests) > 10, "no bundle was asked for")
        for pid in step_processes(update):
            for _ in range(50):
                os.kill(pid, number)
        opened.set()
        assert update.ends_within(TIMEOUT_SECONDS)
        ended = update.wait()
    assert ended.code == 0, ended.output
    complete(follower, release)
