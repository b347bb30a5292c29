"""The server as a whole: which requests it takes, how it runs in a thread and as a command."""

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

from pipeline.datastore.server import DataStoreApp, ServerLimits, serve
from pipeline.datastore.server.app import listen

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


def test_only_reading_is_allowed(store):
    with serve_folder(store) as server:
        answer = ask(server, "/index.txt", method="DELETE")
    assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(("prefix", "outside"), [("", "/ds/index.txt"), ("/ipp049/ds", "/index.txt")])
def test_the_store_is_below_its_prefix_and_nowhere_else(store, prefix, outside):
    with serve_folder(store, prefix=prefix) as server:
        assert server.url.endswith(prefix)
        assert ask(server, "/index.txt").body.split(b"|")[0] == b"# productID  "
        assert requests.get(server.url.removesuffix(prefix) + outside).status_code == 404


@pytest.mark.parametrize(("plus", "colon"), [("+", ":"), ("%2B", "%3A"), ("%2b", ":")])
def test_names_are_found_as_they_are_and_percent_encoded(plus, colon, tmp_path):
    rows = b"f+1:a|t|T|\nf+1:b|t|T|\n"
    tree = {
        "index.txt": ROOT,
        "p+:/index.txt": b"# filesetID|time registered|type|\n" + rows,
        "p+:/f+1:a/index.txt": TREE["md/o1/index.txt"],
        "p+:/f+1:a/x+:y": b"content",
    }
    product, fileset = f"p{plus}{colon}", f"f{plus}1{colon}a"
    with serve_folder(write_tree(tmp_path / "store", tree)) as server:
        assert b"a.tgz" in ask(server, f"/{product}/{fileset}/index.txt").body
        assert ask(server, f"/{product}/{fileset}/x{plus}{colon}y").body == b"content"
        newer = ask(server, f"/{product}/index.txt?{fileset}").body
    assert [line.split(b"|")[0].strip() for line in newer.splitlines()[1:2]] == [b"f+1:b"]


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


def test_an_idle_connection_is_closed(store):
    with (
        serve_folder(store, limits=ServerLimits(keep_alive_seconds=1)) as server,
        open_request(server, "/md/o1/a.tgz", fields={"Connection": "keep-alive"}) as client,
    ):
        received = b""
        while chunk := client.recv(1 << 16):
            received += chunk
    assert received.endswith(b"\r\n\r\n0123456789")


class Memory:
    """A tree that is no folder."""

    def root_listing(self):
        return ROOT

    def product_listing(self, product, after=None):
        return f"{product} after {after}".encode()

    def fileset_listing(self, product, fileset):
        return None

    def file(self, product, fileset, name):
        raise PermissionError


def test_any_tree_can_be_served():
    with serve(DataStoreApp(Memory())) as server:
        assert ask(server, "/index.txt").body == ROOT
        assert ask(server, "/p/index.txt").body == b"p after None"
        assert ask(server, "/p/index.txt?f%20g").body == b"p after f g"
        assert ask(server, "/p/f/index.txt").status == ask(server, "/p/f").status == 404
        assert ask(server, "/p/f/x").status == 403
        assert "md" in ask(server, "/").body.decode()


def test_small_responses_do_not_wait_for_acknowledgements():
    with listen("127.0.0.1", 0, backlog=1) as listener, socket.create_connection(listener.getsockname()):
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
