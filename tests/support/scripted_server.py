"""A server that answers byte for byte as a test says, for what a true server never says."""

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """One request as it came: first line, header fields by lower-case name, which connection it came on."""

    line: str
    fields: dict[str, str]
    connection: int

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


# First byte of a connection with TLS.
TLS_HANDSHAKE = b"\x16"
# An answer in one piece, or in several, each sent as soon as it is there.
Answers = Callable[[Asked], bytes | Iterable[bytes]]


@dataclass
class Scripted:
    """A running server: its base URL, and what was asked of it in the order of arrival."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    most_open: int = 0


def answer(status: str = "200 OK", body: bytes = b"", **fields: str) -> bytes:
    """An answer with these header fields (``Retry_After`` stands for Retry-After).

    It has a Content-Length unless it is told one, or none with ``Content_Length=""``.
    """
    named = {"Content-Length": str(len(body))} | {k.replace("_", "-"): v for k, v in fields.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body


def in_turn(*answers: bytes) -> Answers:
    """Each answer once; the last one from then on."""
    left = list(answers)
    return lambda _asked: left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def scripted(answers: Answers, *, tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """Serve below ``/ds``. A connection is kept unless the answer says ``Connection: close``, or is empty.

    With ``tls``, requests without TLS at the same port are answered too.
    """
    lock = threading.Lock()

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with lock:
                state.connections += 1
                state.open += 1
                state.most_open = max(state.most_open, state.open)
                serial = state.connections
            try:
                self.talk(serial)
            except OSError:
                return  # the client has hung up
            finally:
                with lock:
                    state.open -= 1

        def talk(self, serial: int) -> None:
            connection = self.connection
            if tls and connection.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE:
                connection = tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as reading:
                while asked := _read(reading, serial):
                    state.asked.append(asked)
                    said = answers(asked)
                    for piece in [said] if isinstance(said, bytes) else said:
                        connection.sendall(piece)
                    if not isinstance(said, bytes):
                        return
                    if not said or b"connection: close" in said.split(b"\r\n\r\n")[0].lower():
                        return

    class Server(socketserver.ThreadingTCPServer):
        request_queue_size = 64
        daemon_threads = True

    with Server(("127.0.0.1", 0), Connection) as server:
        state = Scripted(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/ds")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def _read(reading, serial: int) -> Asked | None:
    """The next request of a connection; None at its end."""
    line = reading.readline().decode("latin-1").rstrip("\r\n")
    if not line:
        return None
    fields = {}
    while field_line := reading.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = field_line.partition(":")
        fields[name.lower()] = value.strip()
    return Asked(line, fields, serial)
