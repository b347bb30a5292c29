"""The simulator: its records of requests and connections, in a thread and as a command."""

import logging
import re
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest
import requests
from support.wire import TIMEOUT_SECONDS, ask, connect, open_request, until, write_tree

from pipeline.sample import faults
from pipeline.sample.simulator import simulate

TREE = {
    "md/o1/index.txt": b"# fileID|bytes|md5sum|type|\na.tgz|10||tgz|\n",
    "md/o1/a.tgz": b"0123456789",
    "md/o1/large.tgz": bytes(30_000_000),
}


@pytest.fixture
def store(tmp_path):
    return write_tree(tmp_path / "store", TREE)


def test_every_request_is_recorded(store):
    with simulate(store) as server:
        ask(server, "/md/index.txt?o1")
        ask(server, "/md/o1/a%2Etgz", fields={"Range": "bytes=2-4"})
        ask(server, "/md/o1/a.tgz", method="HEAD")
        ask(server, "/nothing/index.txt")
        until(lambda: server.in_progress == 0)
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
    with simulate(store, request_log=log) as server:
        ask(server, "/md/o1/a.tgz?x", fields={"Range": "bytes=2-4"})
        ask(server, "/md/o1/b.tgz")
    with simulate(store, request_log=log) as server:
        ask(server, "/md/o1/a.tgz")
    assert log.read_text() == (
        "GET /ds/md/o1/a.tgz?x bytes=2-4 206 3\nGET /ds/md/o1/b.tgz - 404 236\nGET /ds/md/o1/a.tgz - 200 10\n"
    )


def test_connections_and_requests_at_once_are_counted(store):
    stalled = faults.stalls(after=1, target="md/o1/a.tgz")
    with simulate(store, faults=[stalled]) as server, ExitStack() as clients:
        for _ in range(3):
            clients.enter_context(open_request(server, "/md/o1/a.tgz"))
        idle = clients.enter_context(connect(server))
        until(lambda: server.peak_connections == 4 and server.in_progress == 3)
        assert server.peak_in_progress == 3
        clients.close()
        assert idle.fileno() == -1
        until(lambda: server.in_progress == 0 and server.open_connections == 0)
        assert (server.connections_made, server.peak_connections, server.peak_in_progress) == (4, 4, 3)
        server.clear()
        assert (server.connections_made, server.peak_connections, server.peak_in_progress) == (0, 0, 0)
        with requests.Session() as session:
            for _ in range(3):
                session.get(f"{server.url}/md/o1/index.txt")
        assert (server.connections_made, server.peak_connections, server.peak_in_progress) == (1, 1, 1)


def test_a_client_that_leaves_ends_its_request(store):
    with simulate(store) as server:
        with open_request(server, "/md/o1/large.tgz") as client:
            client.recv(1000)
        until(lambda: server.in_progress == 0)
        assert server.requests[0].bytes_sent < len(TREE["md/o1/large.tgz"])


def test_stopping_ends_the_requests_in_progress_silently(store, caplog):
    with caplog.at_level(logging.WARNING), simulate(store) as server, ExitStack() as clients:
        for _ in range(5):
            clients.enter_context(open_request(server, "/md/o1/large.tgz")).recv(1000)
        server.stop()
        assert (server.in_progress, server.open_connections) == (0, 0)
    assert caplog.records == []


@pytest.mark.parametrize("fault", [faults.hangs_up(), faults.resets(), faults.misstates_length()])
def test_what_is_broken_on_purpose_is_no_fault_of_the_server(store, caplog, fault):
    with caplog.at_level(logging.WARNING), simulate(store, faults=[fault]) as server:
        ask(server, "/md/o1/a.tgz")
        ask(server, "/md/o1/large.tgz")
    assert fault.used == 2
    assert caplog.records == []


def start(*arguments):
    command = [sys.executable, "-m", "pipeline.sample.simulator", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_command_misbehaves_and_logs_requests(store, tmp_path):
    log = tmp_path / "requests.log"
    arguments = ("--port", 0, "--request-log", log, "--fault", "flips-byte=md/*/a.tgz")
    with start("--store", store, *arguments) as process:
        url = re.fullmatch(r"Serving at (http://127\.0\.0\.1:\d+/ds)\n", process.stdout.readline())[1]
        assert requests.get(f"{url}/md/o1/a.tgz").content == b"01234\xca6789"
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_SECONDS) == 0
        assert process.stderr.read() == ""
    assert log.read_text() == "GET /ds/md/o1/a.tgz - 200 10\n"


def test_the_command_names_the_faults_it_knows(tmp_path):
    with start("--store", tmp_path, "--fault", "politeness") as process:
        assert process.wait(TIMEOUT_SECONDS) == 40
        complaint = process.stderr.read()
    assert complaint.startswith("expected one of the faults broken-include, ")
    assert complaint.endswith("got 'politeness'. Nothing was started.\n")


def test_the_command_explains_itself():
    with start("--help") as process:
        assert process.wait(TIMEOUT_SECONDS) == 0
        text = process.stdout.read()
    options = ["--help", "--host", "--port", "--store", "--hidden", "--request-log", "--fault"]
    assert all(option in text for option in options)
