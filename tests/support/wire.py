"""Raw requests over a plain socket, with every byte of the response; folders to serve."""

import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.datastore.server import DataStoreApp, PublishedTree, RunningServer, serve

RECORDINGS = Path(__file__).parent.parent / "datastore" / "recordings"
TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Answer:
    """``end`` is how the connection ended: ``closed``, ``reset`` or ``silent``; ``rest`` is the raw body."""

    status: int
    fields: dict[str, str]
    rest: bytes
    end: str

    @classmethod
    def parsed(cls, raw: bytes, end: str = "closed") -> "Answer":
        head, _, rest = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        return cls(int(first.split()[1]), {name.lower(): value for name, value in fields.items()}, rest, end)

    @property
    def is_chunked(self) -> bool:
        return self.fields.get("transfer-encoding") == "chunked"

    @property
    def is_whole(self) -> bool:
        """True if the body ends as its head announces."""
        if self.is_chunked:
            return self.rest.endswith(b"0\r\n\r\n")
        return len(self.rest) == int(self.fields.get("content-length", "0"))

    @property
    def body(self) -> bytes:
        """The body received, chunks joined."""
        if not self.is_chunked:
            return self.rest
        body, left = b"", self.rest
        while b"\r\n" in left:
            size, _, left = left.partition(b"\r\n")
            body, left = body + left[: int(size, 16)], left[int(size, 16) + 2 :]
        return body


def until(condition: Callable[[], object]) -> None:
    """Wait for the condition."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def recorded(name: str) -> Answer:
    """Return a response of the original server; its body is recorded in one piece, chunked or not."""
    answer = Answer.parsed((RECORDINGS / name).read_bytes())
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer.rest), answer.rest)
    return replace(answer, rest=chunk) if answer.is_chunked else answer


def ask(
    server: RunningServer,
    path: str,
    *,
    method: str = "GET",
    fields: dict[str, str] | None = None,
    timeout: float = TIMEOUT_SECONDS,
    at_most: int | None = None,
) -> Answer:
    """Return the response for a path below the prefix, read to its end, or to ``at_most`` bytes."""
    raw, end = b"", "closed"
    with open_request(server, path, method=method, fields=fields) as client:
        client.settimeout(timeout)
        try:
            while at_most is None or len(raw) < at_most:
                piece = client.recv(1 << 20)
                if not piece:
                    break
                raw += piece
        except ConnectionResetError:
            end = "reset"
        except TimeoutError:
            end = "silent"
    return Answer.parsed(raw, end)


def open_request(
    server: RunningServer, path: str, *, method: str = "GET", fields: dict[str, str] | None = None
) -> socket.socket:
    """Return a connection on which the request has been sent and nothing read."""
    lines = {"Host": "store", "Connection": "close"} | (fields or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    client = connect(server)
    prefix = urlsplit(server.url).path
    client.sendall(f"{method} {prefix}{path} HTTP/1.1\r\n{head}\r\n".encode())
    return client


def connect(server: RunningServer) -> socket.socket:
    """Return a connection on which nothing has been sent."""
    url = urlsplit(server.url)
    return socket.create_connection((url.hostname, url.port), timeout=TIMEOUT_SECONDS)


def serve_folder(folder: Path, *, hidden: Iterable[str] = (), **more) -> RunningServer:
    """Serve a publisher's folder in a thread, without a simulator."""
    return serve(DataStoreApp(PublishedTree(folder, hidden), **more))


def write_tree(folder: Path, tree: dict[str, bytes]) -> Path:
    """Write files by their paths below the folder. Return the folder."""
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
