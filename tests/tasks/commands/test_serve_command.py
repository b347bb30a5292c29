"""``ipp-mirror serve``."""

import signal
import socket
import subprocess

import pytest
import requests
from support.command import COMMAND, REPOSITORY, ipp_mirror
from support.follower import Follower
from support.upstream import File, Upstream

PRODUCT = "md-all-rel-200907"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_mirror_is_served_until_a_signal(number, upstream: Upstream, follower: Follower):
    upstream.add(PRODUCT, "right", [File("r.fits", b"right")])
    assert follower.update().code == 0
    command = [COMMAND, "serve", "--config", str(follower.config), "--port", "0"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as serving:
        url = serving.stdout.readline().split()[-1]
        assert requests.get(f"{url}/{PRODUCT}/right/r.fits", timeout=60).content == b"right"
        serving.send_signal(number)
        assert serving.wait(60) == 0
        assert serving.stderr.read() == ""


def test_a_mirror_that_is_not_there(follower: Follower):
    refused = ipp_mirror("serve", "--config", follower.config)
    assert refused.returncode == 40
    assert refused.stderr == (
        f"ipp-mirror: expected a mirror at {follower.root}, found none: nothing to serve. "
        "Create it with: ipp-mirror update\n"
    )


def test_a_port_in_use(follower: Follower):
    follower.root.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        refused = ipp_mirror("serve", "--config", follower.config, "--port", port)
    assert refused.returncode == 40
    assert refused.stderr.startswith(f"ipp-mirror: cannot listen on 127.0.0.1 port {port}: ")
    assert refused.stderr.count("\n") == 1
