"""The HTTP server: how it runs in a thread and as a command, and what clients can do to it."""

import logging
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from support.wire import TIMEOUT_SECONDS, ask, connect, open_request, serve_folder, write_tree

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


def start(*arguments, before=()):
    command = [*before, sys.executable, "-m", "pipeline.datastore.server", *map(str, arguments)]
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


def read_response(client):
    received = b""
    while not received.endswith(b"0123456789"):
        piece = client.recv(1 << 16)
        assert piece
        received += piece


def test_connections_beyond_the_limit_wait_for_their_turn(store):
    with serve_folder(store, limits=ServerLimits(connections=3)) as server, ExitStack() as clients:
        first = [clients.enter_context(connect(server)) for _ in range(3)]
        for client in first:
            client.sendall(b"GET /ds/md/o1/a.tgz HTTP/1.1\r\nHost: store\r\n\r\n")
            read_response(client)
        with open_request(server, "/md/o1/a.tgz") as waiting:
            waiting.settimeout(0.2)
            with pytest.raises(TimeoutError):
                waiting.recv(1)
            waiting.settimeout(TIMEOUT_SECONDS)
            first[1].close()
            assert waiting.recv(1 << 16).startswith(b"HTTP/1.1 200 OK\r\n")


def test_clients_without_a_request_keep_nobody_out_for_long(store):
    limits = ServerLimits(connections=3, request_seconds=0.2)
    with serve_folder(store, limits=limits) as server, ExitStack() as clients:
        for _ in range(10):
            clients.enter_context(connect(server))
        assert ask(server, "/md/o1/a.tgz").rest == b"0123456789"


@pytest.mark.parametrize(("files", "connections"), [(1024, 480), (100, 18), (64, 1), (20000, 512)])
def test_the_limit_of_open_files_bounds_the_connections(files, connections):
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))\n"
        "from pipeline.datastore.server import ServerLimits\n"
        "from pipeline.datastore.server.http_server import most_connections\n"
        "print(most_connections(ServerLimits(connections=512)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(printed.stdout) == connections


def test_more_clients_than_open_files_are_no_error(store):
    limited = ("sh", "-c", 'ulimit -n 100; exec "$@"', "-")
    with start("--store", store, "--port", 0, before=limited) as process, ExitStack() as clients:
        port = int(process.stdout.readline().split(":")[2].split("/")[0])
        for _ in range(300):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(b"GET /ds/md/o1/large.tgz HTTP/1.1\r\nHost: store\r\n\r\n")
        clients.close()
        assert requests.get(f"http://127.0.0.1:{port}/ds/md/o1/a.tgz").content == b"0123456789"
        process.terminate()
        assert process.wait(TIMEOUT_SECONDS) == 0
        assert process.stderr.read() == ""


NO_FILES_LEFT = """
import sys
import urllib.request
from pathlib import Path
from pipeline.datastore.server import DataStoreApp, PublishedTree, serve
with serve(DataStoreApp(PublishedTree(Path(sys.argv[1])))) as server:
    urllib.request.urlopen(server.url + "/index.txt").read()
    others = []
    try:
        while True:
            others.append(open(sys.argv[1] + "/index.txt", "rb"))
    except OSError:
        print(server.url, flush=True)
    sys.stdin.readline()
    for other in others:
        other.close()
    sys.stdin.readline()
"""


def test_without_open_files_left_one_line_says_so_and_clients_wait(store):
    command = ["sh", "-c", 'ulimit -n 100; exec "$@"', "-", sys.executable, "-c", NO_FILES_LEFT, str(store)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        port = int(process.stdout.readline().split(":")[2].split("/")[0])
        with ExitStack() as clients:
            for _ in range(5):
                client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            complaint = process.stderr.readline()
            process.stdin.write("close them\n")
            process.stdin.flush()
            client.sendall(b"GET /ds/md/o1/a.tgz HTTP/1.1\r\nHost: store\r\n\r\n")
            read_response(client)
        assert process.communicate("end\n", timeout=TIMEOUT_SECONDS) == ("", "")
    assert complaint == (
        "cannot accept connections: [Errno 24] Too many open files. Tried again until it works.\n"
    )


def test_versions_of_a_listing_do_not_add_up_in_memory(store):
    row = b"f%06d|2009-08-11T00:00:00Z|X|%b|\n"
    listing = store / "md" / "index.txt"
    with start("--store", store, "--port", 0) as process:
        url = process.stdout.readline().split()[-1]
        sizes = []
        with requests.Session() as session:
            for version in range(40):
                rows = b"".join(row % (number, bytes(10_000)) for number in range(200 + version))
                listing.write_bytes(b"# filesetID|time registered|type|comment|\n" + rows)
                assert len(session.get(f"{url}/md/index.txt").content) > len(rows)
                assert b"f" in session.get(f"{url}/md/index.txt?F000000").content
                sizes.append(resident_bytes(process.pid))
        process.terminate()
    # The other 29 versions are that many times as large.
    assert sizes[-1] - sizes[10] < 10 * listing.stat().st_size


def resident_bytes(pid):
    """Memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024
