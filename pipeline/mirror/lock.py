"""One update of one mirror at a time, on this host or another.

The kernel holds the lock for as long as the process lives, and gives it back however it dies; over
NFS the file server does the same for its clients. There is no moment between looking and holding.
What the file says is only for people: who holds it, and since when.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import AlreadyRunning
from pipeline.mirror.layout import Layout
from pipeline.mirror.markers import utc_now


@contextmanager
def update_lock(layout: Layout) -> Iterator[None]:
    """Hold the mirror's lock. Raises AlreadyRunning, saying who has it."""
    layout.lock_file.parent.mkdir(parents=True, exist_ok=True)
    with open(layout.lock_file, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise AlreadyRunning(
                f"{layout.root}: expected to be the only update of this mirror, but it is being updated by "
                f"{_holder(file.read())}. This run ends without doing anything."
            ) from None
        file.truncate(0)
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": utc_now()}, file)
        file.flush()
        yield
        file.truncate(0)


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
