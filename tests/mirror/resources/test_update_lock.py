"""Update lock: a holder that is just being killed, a clock that was wrong, a heartbeat that fails."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.running import until

from pipeline.errors import AlreadyRunning
from pipeline.mirror.resources.update_lock import (
    Holder,
    LockPolicy,
    heartbeat,
    read_holder,
    record_products,
    seconds_since_touched,
    update_lock,
)
from pipeline.mirror.state.layout import Layout

HOLDS = """
import sys, time
from pathlib import Path
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.resources.update_lock import update_lock

with update_lock(Layout(Path(sys.argv[1]))):
    kept = b"1" * (1 << 30)
    print("holds", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "mirror")


@pytest.fixture
def holder(layout: Layout):
    """A process that holds the lock, and takes a moment to end: the kernel has a GB to take back first."""
    command = [sys.executable, "-c", HOLDS, str(layout.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"holds\n"
        yield process
        process.kill()


def test_a_holder_that_is_just_being_killed_is_waited_for(holder, layout):
    holder.kill()
    with update_lock(layout) as killed:
        assert killed["pid"] == holder.pid


@pytest.mark.parametrize("number", [None, signal.SIGSTOP], ids=["alive", "stopped"])
def test_a_holder_that_was_not_killed_has_it(number, holder, layout):
    if number:
        holder.send_signal(number)
    with pytest.raises(AlreadyRunning, match=f"process {holder.pid} on "), update_lock(layout):
        pass
    assert json.loads(layout.lock_file.read_text())["host"] == socket.gethostname()


YEAR_2040 = 2_208_988_800
BRIEF = LockPolicy(dead_after=0.3)


@pytest.fixture
def far_lock(layout: Layout) -> Path:
    """The lock file of a process on another host, touched while the clock was wrong."""
    layout.lock_file.parent.mkdir(parents=True)
    layout.lock_file.write_text(json.dumps({"host": "far.example", "pid": 4711, "since": "2040-01-01"}))
    os.utime(layout.lock_file, (YEAR_2040, YEAR_2040))
    return layout.lock_file


def test_a_lock_that_was_touched_in_the_future_is_stale_when_it_is_not_touched_again(far_lock, layout):
    with pytest.raises(AlreadyRunning, match=r"process 4711 on far\.example"), update_lock(layout, BRIEF):
        pass
    assert far_lock.stat().st_mtime <= time.time() + 1
    until(lambda: seconds_since_touched(far_lock) >= BRIEF.dead_after, "it does not age")
    with update_lock(layout, BRIEF) as killed:
        assert killed["pid"] == 4711


def test_a_peer_that_was_touched_in_the_future_is_dead_when_it_is_not_touched_again(far_lock):
    holder = Holder(far_lock, "far.example", far_lock, BRIEF)
    assert holder.is_alive()
    until(lambda: not holder.is_alive(), "it counts as alive")


def test_a_heartbeat_that_fails_is_tried_again(layout):
    """As on a file server that is restarted: the lock file is not there for a moment."""
    away = layout.root / "away"
    with update_lock(layout), heartbeat(layout, LockPolicy(heartbeat=0.01)):
        layout.lock_file.rename(away)
        time.sleep(0.1)
        os.utime(away, (0, 0))
        away.rename(layout.lock_file)
        until(lambda: layout.lock_file.stat().st_mtime > 0, "no heartbeat came after the failure")


def test_the_holder_for_readers(layout):
    assert read_holder(layout) == ({}, False)
    with update_lock(layout):
        found, is_alive = read_holder(layout)
        assert (found["host"], found["pid"], is_alive) == (socket.gethostname(), os.getpid(), True)
    assert read_holder(layout) == ({}, False)
    files = list(layout.root.rglob("*"))
    killed = {"host": socket.gethostname(), "pid": 7, "since": "t"}
    layout.lock_file.write_text(json.dumps(killed))
    assert read_holder(layout) == (killed, False)
    layout.lock_file.write_text(json.dumps(killed | {"host": "elsewhere"}))
    assert read_holder(layout)[1]
    os.utime(layout.lock_file, (1, 1))
    assert not read_holder(layout)[1]
    assert list(layout.root.rglob("*")) == files


def test_the_products_of_the_holder_are_recorded_beside_the_lock(layout):
    """On a full disk a longer text would be cut, and other hosts take the lock for free."""
    with update_lock(layout):
        holder, text = read_holder(layout)[0], layout.lock_file.read_bytes()
        record_products(layout, ["p", "q"])
        assert layout.lock_file.read_bytes() == text
        assert read_holder(layout) == ({**holder, "products": ["p", "q"]}, True)
        layout.lock_file.write_text(json.dumps(holder | {"pid": 7}))
        assert "products" not in read_holder(layout)[0]
    assert not layout.run_products.exists()


@pytest.mark.parametrize("content", ["", "[]", '{"products": ["p"]}', None])
def test_products_that_are_damaged_or_cannot_be_recorded(content, layout):
    with update_lock(layout):
        holder = read_holder(layout)
        if content is None:
            (layout.run_products / "mine").mkdir(parents=True)
            record_products(layout, ["p"])
        else:
            layout.run_products.write_text(content)
        assert read_holder(layout) == holder
