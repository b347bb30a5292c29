"""Serving: in a thread, and as a command; what the server remembers of its traffic."""

import logging
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest
import requests
from support.wire import PATIENCE, ask, connect, open_request, write_tree

from pipeline.datastore.server.app import create_app, serve
from pipeline.sample import faults

TREE = {
    "md/o1/index.txt": b"# fileID|bytes|md5sum|type|\na.tgz|10||tgz|\n",
    "md/o1/a.tgz": b"0123456789",
    "md/o1/large.tgz": bytes(30_000_000),
}


@pytest.fixture
def store(tmp_path):
    return write_tree(tmp_path / "store", TREE)


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_request_is_remembered(store):
    with serve(create_app(store)) as server:
        ask(server, "/md/index.txt?o1")
        ask(server, "/md/o1/a%2Etgz", fields={"Range": "bytes=2-4"})
        ask(server, "/md/o1/a.tgz", method="HEAD")
        ask(server, "/nothing/index.txt")
        until(lambda: server.app.traffic.in_progress == 0)
        assert [(r.method, r.target, r.range, r.status, r.bytes_sent) for r in server.requests] == [
            ("GET", "/ds/md/index.txt?o1", None, 200, len(b"# filesetID|time registered|type|\n\n")),
            ("GET", "/ds/md/o1/a%2Etgz", "bytes=2-4", 206, 3),
            ("HEAD", "/ds/md/o1/a.tgz", None, 200, 0),
            ("GET", "/ds/nothing/index.txt", None, 404, 236),
        ]
        server.clear()
        assert server.requests == []


def test_the_log_file_has_a_line_for_each_request(store, tmp_path):
    log = tmp_path / "requests.log"
    with serve(create_app(store, request_log=log)) as server:
        ask(server, "/md/o1/a.tgz?x", fields={"Range": "bytes=2-4"})
        ask(server, "/md/o1/b.tgz")
    with serve(create_app(store, request_log=log)) as server:
        ask(server, "/md/o1/a.tgz")
    assert log.read_text() == (
        "GET /ds/md/o1/a.tgz?x bytes=2-4 206 3\nGET /ds/md/o1/b.tgz - 404 236\nGET /ds/md/o1/a.tgz - 200 10\n"
    )


def test_connections_and_requests_at_once_are_counted(store):
    stalled = faults.stalls(after=1, target="md/o1/a.tgz")
    with serve(create_app(store, faults=[stalled])) as server, ExitStack() as clients:
        for _ in range(3):
            clients.enter_context(open_request(server, "/md/o1/a.tgz"))
        idle = clients.enter_context(connect(server))
        until(lambda: server.peak_connections == 4 and server.app.traffic.in_progress == 3)
        assert server.peak_in_progress == 3
        clients.close()
        assert idle.fileno() == -1
        until(lambda: server.app.traffic.in_progress == 0 and not server.app.traffic.transports)
        assert (server.peak_connections, server.peak_in_progress) == (4, 3)
        server.clear()
        assert (server.peak_connections, server.peak_in_progress) == (0, 0)
        with requests.Session() as session:
            for _ in range(3):
                session.get(f"{server.url}/md/o1/index.txt")
        assert (server.peak_connections, server.peak_in_progress) == (1, 1)


def test_a_client_that_leaves_ends_its_request(store):
    with serve(create_app(store)) as server:
        with open_request(server, "/md/o1/large.tgz") as client:
            client.recv(1000)
        until(lambda: server.app.traffic.in_progress == 0)
        assert server.requests[0].bytes_sent < len(TREE["md/o1/large.tgz"])


def test_a_server_stops_and_starts_again_where_it_was(store):
    before = set(threading.enumerate())
    with serve(create_app(store)) as server:
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
    with caplog.at_level(logging.WARNING), serve(create_app(store)) as server, ExitStack() as clients:
        for _ in range(5):
            clients.enter_context(open_request(server, "/md/o1/large.tgz")).recv(1000)
        server.stop()
        assert server.app.traffic.in_progress == 0
    assert caplog.records == []


def test_a_file_that_shrinks_while_it_is_sent_ends_early(store):
    waits = faults.stalls(1, after=1000)
    with (
        serve(create_app(store, faults=[waits])) as server,
        open_request(server, "/md/o1/large.tgz") as client,
    ):
        raw = client.recv(1 << 16)
        (store / "md/o1/large.tgz").write_bytes(b"")
        while piece := client.recv(1 << 20):
            raw += piece
    assert len(raw) < len(TREE["md/o1/large.tgz"])


def test_small_answers_do_not_wait_for_acknowledgements(store):
    with serve(create_app(store)) as server, connect(server):
        until(lambda: server.app.traffic.transports)
        (transport,) = server.app.traffic.transports
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@pytest.mark.parametrize("fault", [faults.hangs_up(), faults.resets(), faults.misstates_length()])
def test_what_is_broken_on_purpose_is_no_fault_of_the_server(store, caplog, fault):
    with caplog.at_level(logging.WARNING), serve(create_app(store, faults=[fault])) as server:
        ask(server, "/md/o1/a.tgz")
        ask(server, "/md/o1/large.tgz")
    assert fault.used == 2
    assert caplog.records == []


def start(*arguments):
    command = [sys.executable, "-m", "pipeline.sample.simulator", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(store, tmp_path, signal_number):
    log = tmp_path / "requests.log"
    arguments = ("--port", 0, "--hidden", "md", "--request-log", log, "--fault", "flips-byte=md/*/a.tgz")
    with start("--store", store, *arguments) as process:
        url = re.fullmatch(r"Serving at (http://127\.0\.0\.1:\d+/ds)\n", process.stdout.readline())[1]
        assert requests.get(f"{url}/md/o1/a.tgz").content == b"01234\xca6789"
        assert requests.get(f"{url}/index.txt").text.count("\n") == 2
        process.send_signal(signal_number)
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""
    assert log.read_text().splitlines()[0] == "GET /ds/md/o1/a.tgz - 200 10"


def test_the_command_serves_a_mirror(tmp_path):
    mirror = write_tree(tmp_path, {f"store/{name}": content for name, content in TREE.items()})
    write_tree(mirror, {"state/md/listing.txt": b"# filesetID|time registered|type|\no1|t|X|\no2|t|X|\n"})
    with start("--mirror", mirror, "--port", 0) as process:
        url = process.stdout.readline().split()[-1]
        assert requests.get(f"{url}/md/index.txt").text.split("\n")[1:] == [
            "o1         |t              |X   |",
            "",
            "",
        ]
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("--store", "{tmp}/absent"), 40, "expected a folder at"),
        (("--store", "{tmp}", "--fault", "politeness"), 40, "got 'politeness'"),
        (("--store", "{tmp}", "--port", "{taken}"), 40, "Cannot listen on 127.0.0.1 port"),
        ((), 2, "one of the arguments --store --mirror is required"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, arguments, code, complaint):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        with start(*(argument.format(tmp=tmp_path, taken=taken) for argument in arguments)) as process:
            assert process.wait(PATIENCE) == code
            complaints = process.stderr.read()
    assert complaint in complaints
    assert "Traceback" not in complaints


def test_the_command_explains_itself():
    with start("--help") as process:
        assert process.wait(PATIENCE) == 0
        text = process.stdout.read()
    options = ["--help", "--host", "--port", "--store", "--mirror", "--hidden", "--request-log", "--fault"]
    assert all(option in text for option in options)
