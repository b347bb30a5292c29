"""One update of one mirror at a time, on this host or another.

The kernel holds the lock (flock) for as long as the process lives, and gives it back however it dies;
over NFS the file server does the same for its clients. There is no moment between looking and holding.

A file system that does not carry locks from host to host is noticed by the heartbeat: the holder
touches the file every few seconds, and a file that another host touched lately is held, whatever
the local kernel says. Ages are measured by the file system's own clock, so hosts need not agree on
the time. A host that was rebooted, or a process that was killed, stops touching it and is taken over.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import AlreadyRunning
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import utc_now

HEARTBEAT_SECONDS = 10.0
DEAD_AFTER_SECONDS = 60.0
# How long the processes of a holder that was killed are waited for: the kernel ends them within moments.
ENDING_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.05
# Among the flags of a process in ``/proc/PID/stat``: it gives back its memory, and after that its locks.
_PF_EXITING = 0x4


@contextmanager
def update_lock(layout: Layout) -> Iterator[dict[str, object]]:
    """Hold the mirror's lock, together with the processes that are forked inside.

    Gives ``host``, ``pid`` and ``since`` of the last holder if it was killed, else an empty dictionary.
    Raises AlreadyRunning, saying who has it and since when.
    """
    layout.lock_file.parent.mkdir(parents=True, exist_ok=True)
    with open(layout.lock_file, "a+", encoding="utf-8") as file:
        killed = _take(file, layout)
        try:
            yield killed
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), 0)


@contextmanager
def heartbeat(layout: Layout) -> Iterator[None]:
    """Let other hosts see that the holder of the lock is alive."""
    released = threading.Event()
    with open(layout.lock_file, "rb") as file:
        heart = threading.Thread(target=_beat, args=(file, released), name="lock heartbeat", daemon=True)
        heart.start()
        try:
            yield
        finally:
            released.set()
            heart.join()


def _take(file: IO[str], layout: Layout) -> dict[str, object]:
    """Take the lock; what its file said until now, which is nothing when the last holder ended by itself."""
    until = time.monotonic() + ENDING_SECONDS
    while not _has_locked(file):
        if not _is_ending(_holder(file)) or time.monotonic() > until:
            raise AlreadyRunning(_refusal(layout, _holder(file)))
        time.sleep(_LOOK_AGAIN_SECONDS)
    holder = _holder(file)
    elsewhere = holder.get("host") not in {None, socket.gethostname()}
    if elsewhere and seconds_since_touched(layout.lock_file) < DEAD_AFTER_SECONDS:
        raise AlreadyRunning(_refusal(layout, holder))
    # Only for people: a full disk is no reason not to hold the lock.
    with contextlib.suppress(OSError):
        own = {"host": socket.gethostname(), "pid": os.getpid(), "since": utc_now()}
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), json.dumps(own).encode())
    return holder


def seconds_since_touched(path: Path) -> float:
    """How long ago the file was touched, by the clock of its file system. Raises FileNotFoundError."""
    probe = path.with_name(f"clock.{socket.gethostname()}.{os.getpid()}")
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink()
    return now - path.stat().st_mtime


class Holder:
    """The process that holds the lock on a file, as others see it: on ``host``, touching ``heart``."""

    def __init__(self, path: Path, host: str, heart: Path) -> None:
        self._path = path
        self._host = host
        self._heart = heart
        self._lock_was_seen = False

    def lives(self) -> bool:
        """Whether it does; where locks are not carried from host to host, a dead one does so for a while."""
        try:
            with open(self._path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if self._lock_was_seen or self._host == socket.gethostname():
                return False
            return seconds_since_touched(self._heart) < DEAD_AFTER_SECONDS
        except FileNotFoundError:
            return False
        except BlockingIOError:
            self._lock_was_seen = True
            return True


def _has_locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_ending(holder: dict[str, object]) -> bool:
    """Whether the holder was killed, so that its processes, who hold the lock with it, are about to end."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int):
        return False
    try:
        process = Path(f"/proc/{pid}")
        stat = (process / "stat").read_bytes().rpartition(b")")[2].split()
        status = (process / "status").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False
    # A zombie has ended as well; in a container it may be one for long.
    state, flags = stat[0], int(stat[6])
    return state in b"ZX" or bool(flags & _PF_EXITING) or _is_to_be_killed(status)


def _is_to_be_killed(status: bytes) -> bool:
    """Whether SIGKILL is on its way to the process of that ``/proc/PID/status``, which still seems to run."""
    pending = [int(line.split()[1], 16) for line in status.splitlines() if b"Pnd:" in line]
    return any(mask >> (signal.SIGKILL - 1) & 1 for mask in pending)


def _beat(file: IO[bytes], released: threading.Event) -> None:
    while not released.wait(HEARTBEAT_SECONDS):
        os.utime(file.fileno())


def _holder(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        holder = json.loads(file.read())
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _refusal(layout: Layout, holder: dict[str, object]) -> str:
    who = "another process"
    if holder:
        who = f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"
    return (
        f"{layout.root}: expected to be the only update of this mirror, but it is held by {who}. "
        "This run ends without doing anything; the next one tries again."
    )
