"""``python -m pipeline.reporting.send``: a message sent through Apprise, in a process that may be killed.

Reads ``urls``, ``title`` and ``body`` as JSON from standard input. Prints a JSON list for each address as it
is done with: its number and why the message could not be sent, empty if it was sent. No part of an address,
which may be a password, is in that.
"""

import json
import logging
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import apprise

from pipeline.names import beginning

_REASON_SHOWN = 200
_SECRET_FROM = 3


class _Reasons(logging.Handler):
    """The messages of each thread."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.of_thread: dict[int, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.of_thread.setdefault(threading.get_ident(), []).append(record.getMessage())


def send(url: str, title: str, body: str, reasons: _Reasons) -> str:
    """Send the message; return why that failed."""
    said = reasons.of_thread[threading.get_ident()] = []
    service = apprise.Apprise.instantiate(url)
    if service is None:
        return "expected an address that Apprise knows"
    if service.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT):
        return ""
    return beginning(masked("; ".join(said[-2:]) or "no reason given", url), _REASON_SHOWN)


def masked(text: str, url: str) -> str:
    """Return the text without the parts of the address.

    >>> masked("cannot log in as anna with secret", "mailto://anna:secret@example.org")
    'cannot log in as *** with ***'
    """
    parts = re.split(r"[:/@?&=,;#]+", unquote(url).partition("://")[2])
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _SECRET_FROM:
            text = text.replace(part, "***")
    return text


def main() -> None:
    """Send to all addresses at once."""
    message = json.load(sys.stdin)
    logger, reasons = logging.getLogger("apprise"), _Reasons()
    logger.setLevel(logging.DEBUG)
    logger.addHandler(reasons)
    logger.propagate = False
    printing = threading.Lock()

    def one(number: int, url: str) -> None:
        reason = send(url, message["title"], message["body"], reasons)
        with printing:
            print(json.dumps([number, reason]), flush=True)

    with ThreadPoolExecutor(len(message["urls"])) as pool:
        for future in [pool.submit(one, *each) for each in enumerate(message["urls"])]:
            future.result()


if __name__ == "__main__":
    main()
