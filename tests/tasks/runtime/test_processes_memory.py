"""The processes of a run share the memory of all that was loaded before they were forked."""

import subprocess
import sys

from support.command import REPOSITORY
from support.follower import Follower

COPIED_KB = """
import gc
import sys
import threading
from pathlib import Path

import tasks
from pipeline.mirror.context import open_context
from tasks.runtime.processes import step_processes
from tasks.steps import STEPS

def own_kb():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))

def copied_by_a_collection(_context, _argument, _report):
    before = own_kb()
    gc.collect()
    return own_kb() - before

with open_context(Path(sys.argv[1]), STEPS, lambda _: None) as context:
    with step_processes(context, threading.Event()) as (fetching, unpacking):
        for processes in (fetching, unpacking):
            print(processes.do(copied_by_a_collection, None))
"""


def test_the_garbage_collector_leaves_it_shared(follower: Follower):
    """A collection writes to all it visits, and each process has pages of its own from then on."""
    command = [sys.executable, "-c", COPIED_KB, str(follower.config)]
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    copied = [int(line) for line in said.stdout.split()]
    assert len(copied) == 2
    # All of it is more than 10 MB.
    assert max(copied) < 2000
