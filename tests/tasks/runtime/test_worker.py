"""The worker with made-up tasks: chains of three steps, of which the last one is optional."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import REPOSITORY, Ended
from support.running import SEEN_SECONDS, Scheduler, free_port, started, until
from support.warm_start import WarmStart

IMPORTS = {"PYTHONPATH": f"{REPOSITORY}/tests/support:{REPOSITORY}"}
WARM_START = WarmStart(REPOSITORY, os.environ | IMPORTS)


class Chains:
    """Runs the tasks of ``tests/support/chain_tasks.py``, and reads what they leave behind."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder / "chains"
        self.folder.mkdir()
        self.config = folder / "mirror.yaml"
        self.connections = 2
        self.port = port
        self.notify: dict[str, str] = {}

    def command(self, *more: str) -> list[str]:
        settings = {
            "source": {"url": "http://127.0.0.1:1/ds", "connections": self.connections},
            "mirror": {"root": str(self.folder / "root"), "page": False},
            "notify": self.notify,
        }
        self.config.write_text(json.dumps(settings))
        luigi = [str(Path(sys.executable).with_name("luigi")), "--module", "chain_tasks", "Root"]
        scheduler = ["--local-scheduler"] if self.port is None else ["--scheduler-port", str(self.port)]
        return [*luigi, "--mirror-config", str(self.config), *scheduler, *more]

    def environment(self, **more: object) -> dict[str, str]:
        texts = {name: str(value) for name, value in more.items()}
        return {"FOLDER": str(self.folder), "COUNT": "3"} | IMPORTS | texts

    def run(self, *more: str, **environment: object) -> Ended:
        variables = os.environ | self.environment(**environment)
        result = WARM_START.run(self.command(*more), variables, timeout=240)
        return Ended(result.returncode, result.stdout + result.stderr)

    @property
    def journal(self) -> list[tuple[str, str]]:
        path = self.folder / "journal"
        return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def done(self) -> set[str]:
        return {path.stem for path in self.folder.glob("*.done")}


@pytest.fixture(params=["local", "central"])
def chains(request, tmp_path: Path) -> Iterator[Chains]:
    if request.param == "local":
        yield Chains(tmp_path)
        return
    scheduler = Scheduler(tmp_path, free_port())
    running = scheduler.start()
    yield Chains(tmp_path, scheduler.port)
    running.kill()


@pytest.fixture
def local(tmp_path: Path) -> Chains:
    return Chains(tmp_path)


def steps(*numbers: int, product: str = "a", names: str = "First Second Third") -> set[str]:
    return {f"{name}-{product}{number}" for name in names.split() for number in numbers}


def test_every_step_is_done_once_and_in_order(chains):
    ended = chains.run(COUNT=30)
    assert ended.code == 0, ended.output
    assert chains.done == steps(*range(30))
    begun = [name for kind, name in chains.journal if kind == "begin"]
    assert len(begun) == 90
    for number in range(30):
        each = [f"{name}-a{number}" for name in ("First", "Second", "Third")]
        assert [name for name in begun if name in each] == each


@pytest.mark.parametrize(
    ("failing", "lost"), [("First", "First Second Third"), ("Second", "Second Third"), ("Third", "Third")]
)
def test_a_step_that_fails_ends_its_chain_and_no_other(failing, lost, chains):
    ended = chains.run(FAILING=f"{failing}-a1")
    assert chains.done == steps(0, 1, 2) - steps(1, names=lost)
    assert "product a: on this machine: made up" in ended.output
    assert "Traceback" not in ended.output


def started_steps(chains: Chains, step: str) -> int:
    return sum(kind == "begin" and name.startswith(step) for kind, name in chains.journal)


def gated(chains: Chains, folder: Path, *arguments: str, **more: object):
    """The command, running; its first steps wait until the file ``open`` is there."""
    environment = chains.environment(GATE="First", **more)
    return started(chains.command(*arguments), folder / "output", environment, WARM_START)


def test_as_many_first_steps_at_once_as_there_are_connections(chains, tmp_path):
    chains.connections = 5
    with gated(chains, tmp_path, COUNT=12) as running:
        until(lambda: started_steps(chains, "First") == 5 or running.ended, "not all connections are used")
        assert not running.ends_within(SEEN_SECONDS)
        assert started_steps(chains, "First") == 5
        (chains.folder / "open").touch()
        assert running.wait().code == 0, running.output
    assert chains.done == steps(*range(12))


def test_a_second_step_starts_while_first_steps_hold_all_connections(chains, tmp_path):
    chains.connections = 2
    (chains.folder / "First-a3.done").touch()
    with gated(chains, tmp_path, COUNT=4) as running:
        until(lambda: started_steps(chains, "First") == 2 or running.ended, "not all connections are used")
        until(lambda: started_steps(chains, "Second") == 1 or running.ended, "the second step waits")
        (chains.folder / "open").touch()
        assert running.wait().code == 0, running.output
    assert chains.done == steps(*range(4))


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_at_once_than_asked_for_and_tasks_that_only_wait_take_no_slot(workers, local, tmp_path):
    local.connections = 9
    with gated(local, tmp_path, "--workers", str(workers), PRODUCTS="abc", COUNT=5) as running:
        until(lambda: started_steps(local, "First") == workers or running.ended, "not all slots are used")
        assert not running.ends_within(SEEN_SECONDS)
        assert started_steps(local, "First") == workers
        (local.folder / "open").touch()
        assert running.wait().code == 0, running.output
    assert local.done == set().union(*(steps(*range(5), product=product) for product in "abc"))


def test_after_a_request_to_stop_only_what_was_started_is_finished(chains, tmp_path):
    with gated(chains, tmp_path, COUNT=12) as running:
        until(lambda: started_steps(chains, "First") == 2 or running.ended, "nothing is started")
        running.request_stop()
        (chains.folder / "open").touch()
        assert running.wait().code == 25, running.output
    assert chains.done == steps(0, 1)


def test_a_second_request_ends_at_once(local, tmp_path):
    with gated(local, tmp_path) as running:
        until(lambda: started_steps(local, "First") == 2 or running.ended, "nothing is started")
        running.request_stop()
        assert not running.ends_within(SEEN_SECONDS)
        running.send(signal.SIGTERM)
        assert running.wait().code == 25, running.output
    assert local.done == set()


@pytest.mark.parametrize("code", [0, 35], ids=["complete", "without a scheduler"])
def test_a_signal_after_the_outcome_of_a_run_cuts_its_hook_short(code, local, tmp_path):
    local.port = free_port() if code else None
    local.notify["on_run"] = f"sh -c 'echo begun >> {tmp_path}/hook; exec sleep 30'"
    with started(local.command(), tmp_path / "output", local.environment(), WARM_START) as running:
        until(lambda: (tmp_path / "hook").exists() or running.ended, "the hook does not run")
        running.send(signal.SIGTERM)
        ended = running.wait()
    assert ended.code == code, ended.output
    assert "cut short by a signal. The run is not affected" in ended.output
    assert "stopping after what is in progress" not in ended.output
    assert (tmp_path / "hook").read_text() == "begun\n"
    history = (local.folder / "root" / "status" / "history.csv").read_text().splitlines()[1:]
    assert [row.split(",")[2] for row in history] == [str(code)]


def test_an_error_of_the_worker_ends_the_run_after_what_is_in_progress(chains):
    ended = chains.run(SLIP=1)
    assert ended.code == 40, ended.output
    assert "a bug in this program, please report it" in ended.output
    assert "a slip" in ended.output
    opened = {name for kind, name in chains.journal if kind == "begin"}
    assert chains.done == opened


def test_no_more_threads_can_be_started(local):
    ended = local.run(THREADS=3, COUNT=20)
    assert ended.code == 40, ended.output
    assert "can't start new thread" in ended.output
    assert {name for kind, name in local.journal if kind == "begin"} == local.done
    assert local.run(COUNT=20).code == 0
    assert local.done == steps(*range(20))
