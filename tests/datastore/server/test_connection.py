"""Connections whose clients send too much, too slowly or nothing, or read nothing."""

import itertools
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.wire import ask, connect, serve_folder, until, write_tree

from pipeline.datastore.server import ServerLimits

LONG_ROWS = b"".join(
    b"f%04d|2009-08-11T00:00:00Z|X|%b|\n" % (number, bytes(10_000)) for number in range(2000)
)
GET = b"GET /ds/md/o1/a.tgz HTTP/1.1\r\nHost: store\r\n"
MEGABYTE = bytes(1 << 20).replace(b"\0", b"x")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = write_tree(
        tmp_path_factory.mktemp("store"),
        {
            "md/index.txt": b"# filesetID|time registered|type|comment|\n" + LONG_ROWS,
            "md/o1/index.txt": b"# fileID|bytes|md5sum|type|\na.tgz|10||tgz|\n",
            "md/o1/a.tgz": b"0123456789",
        },
    )
    (store / "md/o1/large.tgz").touch()
    os.truncate(store / "md/o1/large.tgz", 1 << 40)  # a hole, larger than all buffers
    return store


@pytest.fixture
def impatient(store):
    limits = ServerLimits(request_seconds=0.3, keep_alive_seconds=60)
    with serve_folder(store, limits=limits) as server:
        yield server


def read_to_end(client):
    received = b""
    with suppress(ConnectionResetError):
        while piece := client.recv(1 << 20):
            received += piece
    return received


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"", 0),
        (b"\r\n", 0),
        (b"GET", 0),
        (GET, 0),
        (GET + b"X-Half: ", 0),
        (GET + b"\r\nGET", 1),
        (GET + b"\r\n" + GET, 1),
        (GET + b"\r\n" + GET + b"\r\n" + GET, 2),
        (GET + b"Content-Length: 10\r\n\r\n", 1),
        (GET + b"Content-Length: 10\r\n\r\nfive.", 1),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfive.\r\n", 1),
        (b"POST /ds/md/o1/index.txt HTTP/1.1\r\nHost: store\r\nContent-Length: 10\r\n\r\nfive.", 0),
    ],
)
def test_a_request_that_does_not_come_whole_ends_the_connection(impatient, caplog, sent, answers):
    with connect(impatient) as client:
        client.sendall(sent)
        assert read_to_end(client).count(b"HTTP/1.1 200 OK\r\n") == answers
    assert ask(impatient, "/md/o1/a.tgz").rest == b"0123456789"
    assert caplog.records == []


@pytest.mark.parametrize("later", [b"\r\n", b"\r\n\r\n", b"G", GET])
def test_what_comes_after_a_response_must_become_a_request(impatient, later):
    with connect(impatient) as client:
        client.sendall(GET + b"\r\n")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 OK\r\n")
        client.sendall(later)
        assert b"HTTP" not in read_to_end(client)


def test_a_request_that_comes_byte_by_byte_has_no_more_time(impatient):
    with connect(impatient) as client:
        done = threading.Event()

        def trickle():
            with suppress(OSError):
                for byte in itertools.chain(GET, itertools.repeat(ord("x"))):
                    client.sendall(bytes([byte]))
                    if done.wait(0.02):
                        return

        sending = threading.Thread(target=trickle)
        sending.start()
        assert read_to_end(client) == b""
        done.set()
        sending.join()


def test_a_response_in_progress_outlasts_the_time_of_a_request(store):
    limits = ServerLimits(request_seconds=0.05)
    with serve_folder(store, limits=limits) as server, connect(server) as client:
        client.sendall(b"GET /ds/md/o1/large.tgz HTTP/1.1\r\nHost: store\r\nContent-Length: 9\r\n\r\n")
        received = 0
        while received < 50_000_000:
            received += len(client.recv(1 << 16))


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET /", MEGABYTE),
        (b"GET /ds/index.txt?", MEGABYTE),
        (GET + b"X-Large: ", MEGABYTE),
        (GET, b"X-Many: value\r\n" * 70_000),
        (MEGABYTE, MEGABYTE),
        (b"\r\n", b"\r\n" * 500_000),
        (b"POST /ds/index.txt HTTP/1.1\r\nHost: store\r\nContent-Length: 1000000000\r\n\r\n", MEGABYTE),
        (
            b"POST /ds/index.txt HTTP/1.1\r\nHost: store\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"10000\r\n" + MEGABYTE[: 1 << 16] + b"\r\n",
        ),
        (
            b"POST /ds/index.txt HTTP/1.1\r\nHost: store\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X-Trailer: value\r\n" * 70_000,
        ),
        (
            b"GET /ds/md/o1/large.tgz HTTP/1.1\r\nHost: store\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X-Trailer: value\r\n" * 70_000,
        ),
        (b"", (b"GET /ds/md/o1/large.tgz HTTP/1.1\r\nHost: store\r\n\r\n") * 20_000),
    ],
    ids=itertools.count(),
)
def test_a_request_without_end_is_not_taken(store, caplog, begin, more):
    with serve_folder(store) as server, connect(server) as client:
        with pytest.raises(ConnectionError):
            client.sendall(begin)
            for _ in range(300):
                client.sendall(more)
        assert ask(server, "/md/o1/a.tgz").rest == b"0123456789"
    assert caplog.records == []


@pytest.mark.parametrize("requests", [1, 2, 10])
def test_a_file_is_closed_when_its_client_leaves(store, caplog, requests):
    with serve_folder(store) as server:
        with connect(server) as client:
            client.sendall(requests * b"GET /ds/md/o1/large.tgz HTTP/1.1\r\nHost: store\r\n\r\n")
            client.recv(1000)
            assert is_open(store / "md/o1/large.tgz")
        until(lambda: not is_open(store / "md/o1/large.tgz"))
    assert caplog.records == []


def is_open(path):
    """Return True while this process, which is the server's, has the file open."""
    return path in {Path(os.path.realpath(link)) for link in Path("/proc/self/fd").iterdir()}


def test_pipelined_requests_are_answered_in_order(store):
    with serve_folder(store) as server, connect(server) as client:
        client.sendall(20 * (GET + b"\r\n") + GET + b"Connection: close\r\n\r\n")
        assert read_to_end(client).count(b"\r\n\r\n0123456789") == 21


def test_a_body_is_no_request(store):
    body = GET + b"\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    for target in (b"GET /ds/md/o1/a.tgz", b"POST /ds/md/o1/index.txt", b"PUT /ds/", b"GET /ds/nothing"):
        with serve_folder(store) as server, connect(server) as client:
            client.sendall(target + b" HTTP/1.1\r\nHost: store\r\n" + length + body)
            assert read_to_end(client).count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", ["/md/o1/large.tgz", "/md/index.txt"])
def test_a_client_that_reads_nothing_is_dropped(store, path):
    limits = ServerLimits(stall_seconds=0.3)
    with serve_folder(store, limits=limits) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((server.url.split("/")[2].split(":")[0], int(server.url.split(":")[2].split("/")[0])))
        client.sendall(f"GET /ds{path} HTTP/1.1\r\nHost: store\r\n\r\n".encode())
        assert client.recv(1) == b"H"
        until(lambda: not has_connection(client.getpeername()[1], client.getsockname()[1]))


def has_connection(port, peer_port):
    """Return True while this process, which is the server's, has the accepted socket open."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(
        int(row[1].split(":")[1], 16) == port
        and int(row[2].split(":")[1], 16) == peer_port
        and row[3] == "01"
        for row in rows
    )
