"""Files of workers on other hosts that cannot be read for a while, as when their file server is restarted."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.config import Settings
from pipeline.errors import MachineFault
from pipeline.mirror.context import RunCounters
from pipeline.mirror.resources.connection_quota import ConnectionQuota
from pipeline.mirror.resources.membership import Membership
from pipeline.mirror.resources.peer_files import StepDone
from pipeline.mirror.state.layout import Layout
from tasks.runtime.coordinator import Coordinator, PollPolicy
from tasks.runtime.takeover import LastRun

DONE = StepDone("first", "DONE", 1, 0)


class Scheduler:
    """A scheduler without tasks."""

    def worker_list(self, include_running: bool) -> list[dict]:
        return []

    def update_resources(self, **_: int) -> None:
        return None


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    source, mirror = {"url": "http://127.0.0.1:1/ds"}, {"root": str(tmp_path)}
    return Settings.model_validate({"source": source, "mirror": mirror})


@pytest.fixture
def run(tmp_path: Path, settings: Settings) -> SimpleNamespace:
    """Part of a run that a coordinator uses."""
    layout = Layout(tmp_path)
    layout.lock_file.parent.mkdir()
    layout.lock_file.touch()
    quota, counters = ConnectionQuota(4), RunCounters()
    context = SimpleNamespace(layout=layout, settings=settings, quota=quota, counters=counters)
    noted: list[int] = []
    return SimpleNamespace(
        context=context,
        mirror="m",
        update="2026-07-10T12:00:00Z",
        last=LastRun(),
        stopping=threading.Event(),
        noted=noted,
        note=noted.append,
        resources=lambda _processors: {},
    )


def unreadable(path: Path) -> Path:
    """Put a folder in the place of the file: reading it fails until ``readable``."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    path.mkdir()
    return aside


def readable(path: Path, aside: Path) -> None:
    path.rmdir()
    aside.rename(path)


def coordinator(run: SimpleNamespace, failing: float = 60.0) -> tuple[Coordinator, list[tuple[str, str]]]:
    """A coordinator, and the steps that it has recorded so far."""
    steps: list[tuple[str, str]] = []
    policy = PollPolicy(pause=0, failing=failing)
    return Coordinator(run, Scheduler(), "w", lambda *step: steps.append(step), policy), steps


def files_of(peer: Membership, run: SimpleNamespace) -> dict[str, Path]:
    folder = run.context.layout.peers
    (registration,) = (path for path in folder.glob("*.json") if path.name != "update.json")
    report = registration.with_suffix(".report")
    return {"registration": registration, "report": report, "notice": folder / "update.json"}


@pytest.mark.parametrize("name", ["registration", "report"])
def test_a_file_that_cannot_be_read_for_a_while_costs_nothing(name, run, settings, caplog):
    peers, steps = coordinator(run)
    peer = Membership(run.context.layout, "p", settings)
    assert peers.poll()
    peer.report(DONE)
    path = files_of(peer, run)[name]
    aside = unreadable(path)
    for _ in range(3):
        assert not peers.poll()
        peers.read()
    assert sum("cannot be read" in message for message in caplog.messages) == 1
    readable(path, aside)
    assert not peers.poll()
    assert steps == [("first", "DONE")]
    assert (peers.workers, run.context.counters.bytes) == (["p"], 1)
    peer.leave()
    peers.drain()
    assert run.noted == [0]
    peers.close()
    assert not run.context.layout.peers.exists()


def test_a_peer_is_admitted_once_the_notice_can_be_written(run, settings):
    peers, _ = coordinator(run)
    peer = Membership(run.context.layout, "p", settings)
    hidden = run.context.layout.peers / ".update.json"
    hidden.mkdir()
    assert not peers.poll()
    hidden.rmdir()
    assert peers.poll()
    assert peers.workers == ["p"]
    assert peer.state().name == "ADMITTED"
    peer.leave()
    peers.drain()
    peers.close()


def test_files_that_stay_unreadable_end_the_run(run, settings):
    peers, _ = coordinator(run, failing=0)
    peer = Membership(run.context.layout, "p", settings)
    peers.poll()
    peer.report(DONE)
    unreadable(files_of(peer, run)["report"])
    peers.poll()
    with pytest.raises(MachineFault, match="reading the files of the workers: Is a directory"):
        peers.poll()
    peers.drain()
    assert run.noted == [MachineFault.exit_code]
    peer.leave()


def test_a_report_that_cannot_be_written_comes_with_the_next_step(run, settings):
    peers, steps = coordinator(run)
    peer = Membership(run.context.layout, "p", settings)
    peers.poll()
    report = files_of(peer, run)["report"]
    report.mkdir()
    peer.report(DONE)
    report.rmdir()
    peer.report(StepDone("last", "FAILED", 2, 30))
    peers.poll()
    assert steps == [("first", "DONE"), ("last", "FAILED")]
    peer.leave()
    peers.drain()
    peers.close()
