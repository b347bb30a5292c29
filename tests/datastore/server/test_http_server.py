"""The HTTP server: how it runs in a thread and as a command, and what clients can do to it."""

import logging
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest
import requests
from support.wire import TIMEOUT_SECONDS, ask, open_request, serve_folder, write_tree

from pipeline.datastore.server import ServerLimits
from pipeline.datastore.server.http_server import listen

ROOT = b"# productID|Most recent|Time registered|type|Description|\nmd|o1|2009-08-11T00:00:00Z|ipp-dist|MD|\n"
TREE = {
    "index.txt": ROOT,
    "md/o1/index.txt": b"# fileID|bytes|md5sum|type|\na.tgz|10||tgz|\n",
    "md/o1/a.tgz": b"0123456789",
    "md/o1/large.tgz": bytes(30_000_000),
}


@pytest.fixture
def store(tmp_path):
    return write_tree(tmp_path / "store", TREE)


def test_a_server_stops_and_starts_again_where_it_was(store):
    before = set(threading.enumerate())
    with serve_folder(store) as server:
        url = server.url
        with requests.Session() as session:
            assert session.get(f"{url}/md/o1/a.tgz").content == b"0123456789"
            server.stop()
            with pytest.raises(requests.ConnectionError):
                session.get(f"{url}/md/o1/a.tgz")
            server.start()
            assert server.url == url
            assert session.get(f"{url}/md/o1/a.tgz").content == b"0123456789"
    assert set(threading.enumerate()) == before
    with pytest.raises(requests.ConnectionError):
        requests.get(url)


def test_stopping_in_the_middle_of_transfers_is_silent(store, caplog):
    with caplog.at_level(logging.WARNING), serve_folder(store) as server, ExitStack() as clients:
        for _ in range(5):
            clients.enter_context(open_request(server, "/md/o1/large.tgz")).recv(1000)
        server.stop()
    assert caplog.records == []


def test_a_client_that_leaves_is_no_fault_of_the_server(store, caplog):
    with caplog.at_level(logging.WARNING), serve_folder(store) as server:
        with open_request(server, "/md/o1/large.tgz") as client:
            client.recv(1000)
        assert ask(server, "/md/o1/a.tgz").rest == b"0123456789"
    assert caplog.records == []


@pytest.mark.parametrize("more", ["", "Upgrade: websocket\r\n", "Upgrade: h2c\r\nHTTP2-Settings: x\r\n"])
def test_an_idle_connection_is_closed(store, more):
    connection = "Upgrade" if more else "keep-alive"
    with (
        serve_folder(store, limits=ServerLimits(keep_alive_seconds=1)) as server,
        open_request(
            server, "/md/o1/a.tgz", fields={"Connection": f"{connection}\r\n{more}".strip()}
        ) as client,
    ):
        received = b""
        while chunk := client.recv(1 << 16):
            received += chunk
    assert received.endswith(b"\r\n\r\n0123456789")


def test_small_responses_do_not_wait_for_acknowledgements():
    with listen("127.0.0.1", 0, ServerLimits()) as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def start(*arguments):
    command = [sys.executable, "-m", "pipeline.datastore.server", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal_stops_it(store, signal_number):
    with start("--store", store, "--port", 0, "--hidden", "md") as process:
        url = re.fullmatch(r"Serving at (http://127\.0\.0\.1:\d+/ds)\n", process.stdout.readline())[1]
        assert requests.get(f"{url}/md/o1/a.tgz").content == b"0123456789"
        assert requests.get(f"{url}/index.txt").text.count("\n") == 2
        process.send_signal(signal_number)
        assert process.wait(TIMEOUT_SECONDS) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("--store", "{tmp}/absent"), 40, "expected a folder at"),
        (("--store", "{tmp}", "--port", "{taken}"), 40, "Cannot listen on 127.0.0.1 port"),
        ((), 2, "the following arguments are required: --store"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, arguments, code, complaint):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        with start(*(argument.format(tmp=tmp_path, taken=taken) for argument in arguments)) as process:
            assert process.wait(TIMEOUT_SECONDS) == code
            complaints = process.stderr.read()
    assert complaint in complaints
    assert "Traceback" not in complaints
