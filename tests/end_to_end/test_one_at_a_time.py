"""Two updates of one mirror never run at once, however the holder of the lock ended."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from support.follower import Follower
from support.running import Running, gate, started, until
from support.upstream import File, Upstream, served_filesets

from pipeline.mirror.resources.update_lock import LockPolicy, heartbeat, update_lock
from pipeline.mirror.state.layout import Layout

PRODUCT = "md-all-rel-200907"


@pytest.fixture
def slow(upstream: Upstream, follower: Follower) -> Follower:
    """A mirror of one file."""
    upstream.add(PRODUCT, "plain", [File("t.fits", b"T" * 40_000)], type="table")
    return follower


@pytest.fixture
def opened(server) -> Event:
    """The file does not come before this is set."""
    opened = Event()
    server.faults.append(gate(opened, f"{PRODUCT}/plain/t.fits"))
    return opened


@contextmanager
def begun(follower: Follower, server) -> Iterator[Running]:
    """An update that is fetching the file."""
    with started(follower.command(), follower.folder / "output") as update:
        until(lambda: any("t.fits" in request.target for request in server.requests), "nothing is fetched")
        yield update


def test_a_second_update_says_who_holds_the_mirror(slow, server, opened, upstream):
    with begun(slow, server) as first:
        second = slow.update()
        assert second.code == 10, second.output
        assert re.search(
            rf"process {first.pid} on {socket.gethostname()} since \d{{4}}-\d\d-\d\dT[\d:]+Z", second.output
        )
        assert "Traceback" not in second.output
        opened.set()
        assert first.wait().code == 0
    assert slow.content("store") == served_filesets(upstream)
    assert slow.update().code == 0


def test_a_holder_that_was_killed_is_taken_over(slow, server, opened, upstream):
    with begun(slow, server) as first:
        first.send(signal.SIGKILL)
        first.wait()
    opened.set()
    assert json.loads((slow.root / "state" / "update.lock").read_text())["pid"] == first.pid
    assert slow.update().code == 0
    assert slow.content("store") == served_filesets(upstream)


@pytest.mark.parametrize(("age", "code"), [(5, 10), (300, 0)])
def test_a_holder_on_another_host_counts_while_its_heart_beats(age, code, slow):
    """Lock on a file system that does not carry locks between hosts: only the file shows it."""
    lock = slow.root / "state" / "update.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"host": "far.example", "pid": 4711, "since": "2026-01-01T00:00:00Z"}))
    touched = time.time() - age
    os.utime(lock, (touched, touched))
    result = slow.update()
    assert result.code == code, result.output
    assert ("process 4711 on far.example since 2026-01-01T00:00:00Z" in result.output) == (code == 10)


def test_a_damaged_lock_file_is_no_obstacle(slow):
    lock = slow.root / "state" / "update.lock"
    lock.parent.mkdir(parents=True)
    lock.write_bytes(b"\xff\x00{")
    assert slow.update().code == 0


@pytest.mark.parametrize("reaped", [True, False], ids=["gone", "a zombie"])
def test_the_processes_of_a_holder_that_was_killed_are_waited_for(reaped, slow):
    """Processes that hold the lock together with the holder, and end a moment later."""
    lock = slow.root / "state" / "update.lock"
    lock.parent.mkdir(parents=True)
    hold = f"import fcntl, time; file = open({str(lock)!r}); fcntl.flock(file, fcntl.LOCK_EX); time.sleep(1)"
    with subprocess.Popen(["true"]) as dead, subprocess.Popen([sys.executable, "-c", hold]):
        os.waitid(os.P_PID, dead.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
        lock.write_text(
            json.dumps({"host": socket.gethostname(), "pid": dead.pid, "since": "2026-01-01T00:00:00Z"})
        )
        until(lambda: is_locked(lock), "flock does not lock")
        assert slow.update().code == 0


def is_locked(path: Path) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_the_heart_beats(slow):
    layout, policy = Layout(slow.root), LockPolicy(heartbeat=0.01)
    with update_lock(layout, policy), heartbeat(layout, policy):
        os.utime(layout.lock_file, (0, 0))
        deadline = time.monotonic() + 30
        while layout.lock_file.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert layout.lock_file.read_bytes() == b""
