"""A process of a run that cannot begin its work ends, and runs nothing of its parent."""

import subprocess
import sys

from support.command import REPOSITORY
from support.follower import Follower

WITHOUT_THREADS = """
import os
import sys
import threading
from pathlib import Path

import tasks
from pipeline.mirror.context import open_context
from tasks.runtime.processes import ProcessLost, step_processes
from tasks.steps import STEPS

parent = os.getpid()
start = threading.Thread.start

def start_in_parent(thread):
    if os.getpid() != parent:
        raise RuntimeError("can't start new thread")
    start(thread)

threading.Thread.start = start_in_parent
with open_context(Path(sys.argv[1]), STEPS, lambda _: None) as context:
    try:
        with step_processes(context, threading.Event()) as (fetching, _):
            try:
                fetching.do(print, None)
            except ProcessLost as error:
                print(error)
    finally:
        print("left")
"""


def test_no_threads_can_be_started(follower: Follower):
    command = [sys.executable, "-c", WITHOUT_THREADS, str(follower.config)]
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    lost, left = said.stdout.splitlines()
    assert lost.startswith("the process that fetches was killed")
    assert left == "left"
    assert set(said.stderr.splitlines()) == {
        "ipp-mirror: a process of this run cannot begin: can't start new thread"
    }
