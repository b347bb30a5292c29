"""A step that a scheduler gives to a second worker, which finds that it failed in this update."""

import json
import subprocess
import sys

from support.command import REPOSITORY
from support.follower import Follower
from support.upstream import File, Upstream

TWICE = """
import sys
from threading import Event

import luigi

from tasks.fileset import DownloadFileset
from tasks.runtime.opening import open_run
from tasks.discovery import DiscoverProduct

luigi.configuration.get_config().set("mirror", "config", sys.argv[1])
with open_run(Event()):
    DiscoverProduct(product="p").run()
    for _ in range(2):
        try:
            DownloadFileset(product="p", fileset="plain").run()
        except Exception as error:
            print(type(error).__name__, error)
"""


def test_a_fileset_that_failed_is_not_tried_by_the_second(upstream: Upstream, follower: Follower, server):
    upstream.add("p", "plain", [File("a.fits", b"a" * 1000)])
    upstream.path("p", "plain", "a.fits").write_bytes(b"?" * 1000)
    command = [sys.executable, "-c", TWICE, str(follower.config)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    first, second = result.stdout.splitlines()
    assert first.startswith("FilesFailed ")
    status = "`ipp-mirror status` says why, and when it is tried again."
    assert second == f"FailedAlready fileset p/plain: failed in this update; {status}"
    record = json.loads((follower.root / "state" / "p" / "failed" / "plain.json").read_bytes())
    assert record["attempts"] == 1
    # A wrong md5 is fetched once more before it counts as a failure.
    assert sum(request.target.endswith("a.fits") for request in server.requests) == 2
    # The next update is another one.
    assert follower.update().code == 30
    record = json.loads((follower.root / "state" / "p" / "failed" / "plain.json").read_bytes())
    assert record["attempts"] == 2
