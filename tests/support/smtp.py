"""A mail server on 127.0.0.1 that keeps what it is sent, or says nothing at all."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message


class MailServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    # A silent client of a test that has ended is not waited for.
    block_on_close = False

    def __init__(self, is_silent: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.is_silent = is_silent
        self.messages: list[Message] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        address = f"127.0.0.1:{self.server_address[1]}"
        return f"mailto://{address}?from=mirror@example.org&to=ops@example.org&mode=insecure"


class _Session(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        if self.server.is_silent:
            self.server.ended.wait()
            return
        self._say("220 test")
        while line := self.rfile.readline():
            word = line.strip().upper()
            if word == b"DATA":
                self._say("354 go on")
                self.server.messages.append(message_from_bytes(self._data()))
            self._say("221 bye" if word == b"QUIT" else "250 ok")

    def _data(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line)
        return b"".join(lines)

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def mail_server(is_silent: bool = False) -> Iterator[MailServer]:
    with MailServer(is_silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.ended.set()
        server.shutdown()


def text_of(message: Message) -> str:
    """The plain text of a message."""
    part = next(part for part in message.walk() if part.get_content_type() == "text/plain")
    return part.get_payload(decode=True).decode()
