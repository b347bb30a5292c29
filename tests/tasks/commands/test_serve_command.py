"""``ipp-mirror serve``."""

import signal
import socket
import subprocess
from contextlib import contextmanager

import pytest
import requests
from support.command import COMMAND, REPOSITORY, ipp_mirror
from support.follower import Follower
from support.upstream import File, Upstream

from tasks.commands.options import cannot_listen

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


def test_hidden_products_stay_hidden_and_products_without_filesets_are_listed(
    upstream: Upstream, follower: Follower
):
    upstream.add(PRODUCT, "right", [File("r.fits", b"right")])
    upstream.add("secret", "s", [File("s.fits", b"secret")])
    upstream.add("more", "m", [File("m.fits", b"more")])
    upstream.add("empty", "gone", [File("g.fits", b"gone")])
    upstream.withdraw("empty", "gone")
    follower.source["hidden_products"] = ["secret"]
    assert follower.update().code == 0
    with served(follower, "--hidden", "more") as url:
        rows = [line.split("|") for line in requests.get(f"{url}/index.txt", timeout=60).text.splitlines()]
        listed = [[cell.strip() for cell in row[:4]] for row in rows[1:] if row != [""]]
        assert sorted(row[0] for row in listed) == ["empty", PRODUCT]
        assert listed[[row[0] for row in listed].index("empty")] == [
            *("empty", "none", "2009-07-29T00:00:00Z", "ipp-dist")
        ]
        assert requests.get(f"{url}/empty/index.txt", timeout=60).text.startswith("# filesetID")
        assert requests.get(f"{url}/secret/s/s.fits", timeout=60).content == b"secret"
        assert requests.get(f"{url}/more/index.txt", timeout=60).text.count("\n") == 3


@contextmanager
def served(follower: Follower, *options: str):
    """Serve the mirror; the value is the URL."""
    command = [COMMAND, "serve", "--config", str(follower.config), "--port", "0", *options]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as serving:
        try:
            yield serving.stdout.readline().split()[-1]
        finally:
            serving.terminate()


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
    assert refused.stderr == (
        f"ipp-mirror: cannot listen on 127.0.0.1 port {port}: Address already in use. "
        "Another program listens there: choose another --port; nothing was started.\n"
    )


@pytest.mark.parametrize("behind", ["", " (while attempting to bind on address ('none.invalid', 80))"])
def test_a_host_that_does_not_exist(behind):
    error = socket.gaierror(socket.EAI_NONAME, f"Name or service not known{behind}")
    for kind in (socket.gaierror, OSError):
        assert str(cannot_listen("none.invalid", 80, "--host", kind(*error.args))) == (
            "cannot listen on none.invalid port 80: Name or service not known. "
            "Choose an address of this machine by --host; nothing was started."
        )


def test_an_address_of_another_machine(follower: Follower):
    follower.root.mkdir()
    refused = ipp_mirror("serve", "--config", follower.config, "--host", "192.0.2.1", "--port", 0)
    assert refused.returncode == 40
    assert refused.stderr == (
        "ipp-mirror: cannot listen on 192.0.2.1 port 0: Cannot assign requested address. "
        "Choose an address of this machine by --host; nothing was started.\n"
    )
