"""Supervisor of updates: real processes and signals, with a shell in place of an update."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

import pytest
from support.command import REPOSITORY
from support.running import TIMEOUT_SECONDS

# Ends by itself on SIGUSR2.
CHILD = """
trap 'echo ended; kill $!; exit 0' USR2
trap 'echo stopped; kill $!; exit 25' TERM
sleep 60 >&- &
echo child $$
wait $!
"""
SUPERVISOR = """
import pathlib, sys
from pipeline.errors import SettingsError
from tasks.runtime.supervisor import Supervisor, start_unmasked

def check():
    if pathlib.Path(sys.argv[1]).exists():
        raise SettingsError("wrong settings.")

say = lambda text: print(text, flush=True)
start = lambda: start_unmasked(["/bin/sh", "-c", sys.argv[2]])
sys.exit(Supervisor(start, check, float(sys.argv[3]), say, say).run())
"""


class Supervised:
    """A supervisor, whose output and that of its children are read line by line."""

    def __init__(self, process: subprocess.Popen[str], wrong: Path) -> None:
        self.process = process
        self.wrong = wrong
        self.child = 0

    def next(self) -> str:
        """The next line, without what differs from run to run."""
        line = self.process.stdout.readline().strip()
        if line.startswith("child "):
            self.child = int(line.split()[1])
            return "child"
        return line.partition(" at 20")[0]

    def ends(self) -> int:
        assert self.process.stdout.read() == ""
        return self.process.wait(60)


@contextmanager
def supervised(tmp_path: Path, every: float = 3600, child: str = CHILD) -> Iterator[Supervised]:
    # By this name the package imports no task.
    script, wrong = tmp_path / "ipp-mirror", tmp_path / "wrong"
    script.write_text(SUPERVISOR)
    with subprocess.Popen(
        [sys.executable, script, wrong, child, str(every)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        # Its output then ends, for a test that waits for a line that does not come.
        deadline = Timer(TIMEOUT_SECONDS, kill, [process.pid])
        deadline.start()
        try:
            yield Supervised(process, wrong)
        finally:
            deadline.cancel()
            kill(process.pid)


def kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


WAITS = "the next update begins"
NOW = f"{WAITS} now."


def test_a_child_begins_at_once_and_the_next_one_on_request(tmp_path):
    with supervised(tmp_path) as running:
        assert running.next() == "child"
        os.kill(running.child, signal.SIGUSR2)
        assert [running.next() for _ in range(2)] == ["ended", WAITS]
        running.process.send_signal(signal.SIGUSR1)
        assert running.next() == "child"
        # While one runs: as soon as it has ended.
        running.process.send_signal(signal.SIGUSR1)
        assert running.next() == f"{WAITS} once the one that runs has ended, with its page and its maps."
        os.kill(running.child, signal.SIGUSR2)
        assert [running.next() for _ in range(3)] == ["ended", NOW, "child"]


def test_children_follow_each_other_by_the_clock(tmp_path):
    with supervised(tmp_path, every=0.05, child="echo child $$") as running:
        said = [running.next() for _ in range(6)]
        assert said[::2] == ["child"] * 3
        assert set(said[1::2]) <= {WAITS, NOW}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_stops_the_child_first(number, tmp_path):
    with supervised(tmp_path) as running:
        assert running.next() == "child"
        running.process.send_signal(number)
        assert [running.next() for _ in range(2)] == ["stopped", "ended on request."]
        assert running.ends() == 25


def test_between_two_children_it_ends_at_once(tmp_path):
    with supervised(tmp_path, child="echo child $$") as running:
        assert [running.next() for _ in range(2)] == ["child", WAITS]
        running.process.send_signal(signal.SIGTERM)
        assert running.next() == "ended on request."
        assert running.ends() == 25


def test_settings_are_read_again_by_the_next_child_unless_they_are_wrong(tmp_path):
    with supervised(tmp_path) as running:
        assert running.next() == "child"
        running.wrong.touch()
        running.process.send_signal(signal.SIGHUP)
        assert running.next() == (
            "wrong settings. An update that is running goes on with the settings that it has read."
        )
        running.wrong.unlink()
        running.process.send_signal(signal.SIGHUP)
        said = [running.next() for _ in range(4)]
        assert said == ["the settings are right; an update begins with them.", "stopped", NOW, "child"]
        os.kill(running.child, signal.SIGUSR2)
        assert [running.next() for _ in range(2)] == ["ended", WAITS]
        running.process.send_signal(signal.SIGHUP)
        assert [running.next() for _ in range(2)] == [
            *("the settings are right; an update begins with them.", "child")
        ]
