"""``ipp-mirror scheduler``."""

import signal
import socket
import subprocess
from pathlib import Path

import pytest
import requests
from support.command import COMMAND, REPOSITORY, ipp_mirror
from support.follower import Follower
from support.running import answers, free_port, until
from support.upstream import File, Upstream


@pytest.fixture
def port() -> int:
    return free_port()


def test_an_update_uses_it_and_its_state_is_kept(
    port, upstream: Upstream, follower: Follower, tmp_path: Path
):
    upstream.add("product", "right", [File("r.fits", b"right")])
    state = tmp_path / "new" / "state.pickle"
    (tmp_path / "luigi.cfg").write_text(f"[core]\nscheduler_port={port}\n")
    command = [COMMAND, "scheduler", "--port", str(port), "--state-path", str(state)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert (
                running.stdout.readline() == f"Luigi's scheduler, with its page: http://127.0.0.1:{port}/\n"
            )
            until(lambda: answers(port), "the scheduler does not listen")
            assert "Luigi" in requests.get(f"http://127.0.0.1:{port}/", timeout=60).text
            update = ipp_mirror(
                "update",
                "--config",
                follower.config,
                environment={"LUIGI_CONFIG_PATH": str(tmp_path / "luigi.cfg")},
            )
            assert update.returncode == 0, update.stderr
            assert update.stdout.startswith(f"scheduler: http://127.0.0.1:{port}/\n")
            second = ipp_mirror("scheduler", "--port", port, "--state-path", tmp_path / "second")
            assert (second.returncode, second.stdout) == (40, "")
            assert second.stderr == (
                f"ipp-mirror: cannot listen on 127.0.0.1 port {port}: a scheduler of this user runs there "
                "already. Nothing was started.\n"
            )
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    assert state.stat().st_size > 0


def test_a_port_in_use(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        refused = ipp_mirror("scheduler", "--port", port, "--state-path", tmp_path / "state.pickle")
    assert (refused.returncode, refused.stdout) == (40, "")
    assert refused.stderr == (
        f"ipp-mirror: cannot listen on 127.0.0.1 port {port}: Address already in use. "
        "Another program listens there: choose another --port; nothing was started.\n"
    )


def test_a_state_path_that_cannot_be_made(port, tmp_path: Path):
    (tmp_path / "file").write_text("")
    refused = ipp_mirror("scheduler", "--port", port, "--state-path", tmp_path / "file" / "state.pickle")
    assert refused.returncode == 30
    assert "Traceback" not in refused.stderr
    assert str(tmp_path / "file") in refused.stderr
    too_long = ipp_mirror("scheduler", "--port", port, "--state-path", tmp_path / ("x" * 300))
    assert (too_long.returncode, too_long.stdout) == (30, "")
    assert too_long.stderr.startswith(f"ipp-mirror: writing the scheduler's state, {tmp_path}/xxx")
