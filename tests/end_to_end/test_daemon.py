"""``ipp-mirror update --daemon``: updates one after the other, until a signal ends it."""

import signal
from pathlib import Path

from support.follower import Follower
from support.running import free_port, started, tasks_command, until
from support.upstream import File, Upstream

from pipeline.mirror.resources.update_lock import read_holder
from pipeline.mirror.state.layout import Layout

PRODUCT = "md-all-rel-200907"


def test_an_update_comes_at_once_and_nothing_is_held_afterwards(
    upstream: Upstream, follower: Follower, tmp_path: Path
):
    upstream.add(PRODUCT, "one", [File("a.fits", b"a")])
    command = tasks_command(follower, "--daemon", "--every", "1h", "--scheduler-port", str(free_port()))
    with started(command, tmp_path / "daemon.log") as running:
        until(lambda: "the next update begins at" in running.output, "no update")
        assert follower.marked("downloaded", PRODUCT) == {"one"}
        assert read_holder(Layout(follower.root)) == ({}, False)
        running.send(signal.SIGTERM)
        ended = running.wait()
    assert ended.code == 25
    assert ended.output.splitlines()[-1] == "daemon: ended on request."
