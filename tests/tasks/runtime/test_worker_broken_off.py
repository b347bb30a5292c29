"""A bug in the worker itself ends the run with a word and a code, and what is in hand is finished."""

import subprocess
import sys

from conftest import REPOSITORY, File, Follower, Upstream

BROKEN = """
import sys
import tasks.runtime.worker as worker
from luigi.cmdline import luigi_run

whole = worker.MirrorWorker._hand_on

def broken(self):
    whole(self)
    if self._feeds and self._running_tasks:
        raise KeyError("a slip")

worker.MirrorWorker._hand_on = broken
luigi_run()
"""


def test_a_bug_in_the_worker(upstream: Upstream, follower: Follower):
    for number in range(3):
        upstream.add("p", f"plain{number}", [File("a.fits", b"a" * 1000)])
    said = said_when_broken(BROKEN, follower)
    assert "a bug in this program, please report it" in said
    assert "a slip" in said
    assert "filesets: 3 new, " in said
    assert follower.update().code == 0
    assert len(follower.marked("extracted", "p")) == 3


NO_MORE_THREADS = """
import threading
import tasks.runtime.threads as threads
from luigi.cmdline import luigi_run

started = 0

class Few(threading.Thread):
    def start(self):
        global started
        started += 1
        if started > 3:
            raise RuntimeError("can't start new thread")
        super().start()

threads.threading = type("Threading", (), vars(threading) | {"Thread": Few})
luigi_run()
"""


def test_no_more_threads_can_be_started(upstream: Upstream, follower: Follower):
    for number in range(20):
        upstream.add("p", f"plain{number}", [File("a.fits", b"a" * 1000)])
    assert "can't start new thread" in said_when_broken(NO_MORE_THREADS, follower)
    assert follower.update().code == 0
    assert len(follower.marked("extracted", "p")) == 20


def said_when_broken(script: str, follower: Follower) -> str:
    """What an update says that ends with the code of a bug."""
    command = [sys.executable, "-c", script, *follower.command()[1:]]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    said = result.stdout + result.stderr
    assert result.returncode == 40, said
    return said
