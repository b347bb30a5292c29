"""Update lock: a holder that is just being killed."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import AlreadyRunning
from pipeline.mirror.resources.update_lock import update_lock
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
