"""A step that a scheduler gives to a second worker, who finds that it failed in this update."""

import json
import subprocess
import sys

from support.command import REPOSITORY
from support.follower import Follower
from support.upstream import File, Upstream

TWICE = """
import tasks.fileset as fileset
from luigi.cmdline import luigi_run

once = fileset.StepTask.run

def twice(self):
    try:
        once(self)
    except Exception:
        try:
            once(self)
        except Exception as second:
            print("the second:", type(second).__name__, second)
        raise

fileset.StepTask.run = twice
luigi_run()
"""


def test_a_fileset_that_failed_is_not_tried_by_the_second(upstream: Upstream, follower: Follower, server):
    upstream.add("p", "plain", [File("a.fits", b"a" * 1000)])
    upstream.path("p", "plain", "a.fits").write_bytes(b"?" * 1000)
    command = [sys.executable, "-c", TWICE, *follower.command()[1:]]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    said = result.stdout + result.stderr
    assert result.returncode == 30, said
    assert (
        "the second: FailedAlready fileset p/plain: failed in this update. The next one tries again." in said
    )
    assert "filesets: 1 new, 0 done, 1 failed" in said
    record = json.loads((follower.root / "state" / "p" / "failed" / "plain.json").read_bytes())
    assert record["attempts"] == 1
    assert sum(request.target.endswith("a.fits") for request in server.requests) == 2
    # The next update is another one.
    assert follower.update().code == 30
    record = json.loads((follower.root / "state" / "p" / "failed" / "plain.json").read_bytes())
    assert record["attempts"] == 2
