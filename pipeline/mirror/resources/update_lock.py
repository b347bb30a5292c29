"""Lock of a mirror, so that one update runs at a time on all hosts.

The kernel holds the lock (flock) for as long as the process lives, and releases it however the process ends;
over NFS the file server does the same for its clients. Testing and acquiring are one operation.

A file system that does not carry locks from host to host is covered by the heartbeat: the holder touches the
file every few seconds, and a file that another host touched within ``dead_after`` seconds counts as locked.
Ages are measured by the file system's own clock, so that clocks of hosts need not agree. A stale lock, of a
host that was rebooted or of a process that was killed, is no longer touched and can be acquired.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.durable import write_whole
from pipeline.errors import AlreadyRunning
from pipeline.mirror.state.clock import file_system_time
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import utc_now

_RETRY_SECONDS = 0.05


@dataclass(frozen=True)
class LockPolicy:
    """Times of the lock, in seconds.

    ``wait_for_exit`` is the time for a holder on this host to exit: killed processes hold the lock until the
    kernel has freed their memory. The lock file is touched every ``heartbeat`` seconds; a holder on another
    host counts as dead when the file was not touched for ``dead_after`` seconds.
    """

    wait_for_exit: float = 3.0
    heartbeat: float = 10.0
    dead_after: float = 60.0


DEFAULT = LockPolicy()


@contextmanager
def update_lock(layout: Layout, policy: LockPolicy = DEFAULT) -> Iterator[dict[str, object]]:
    """Hold the mirror's lock, together with the processes that are forked inside.

    Yield ``host``, ``pid`` and ``since`` of the last holder if it was killed, else an empty dictionary.
    Raises AlreadyRunning, which names the holder: at once for one on another host, after ``wait_for_exit``
    seconds for one on this host.
    """
    layout.lock_file.parent.mkdir(parents=True, exist_ok=True)
    with open(layout.lock_file, "a+", encoding="utf-8") as file:
        killed = _acquire(file, layout, policy)
        try:
            yield killed
        finally:
            with contextlib.suppress(OSError):
                layout.run_products.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), 0)


@contextmanager
def heartbeat(layout: Layout, policy: LockPolicy = DEFAULT) -> Iterator[None]:
    """Touch the lock file regularly: on other hosts the holder then counts as alive."""
    released = threading.Event()
    beating = (layout.lock_file, released, policy.heartbeat)
    thread = threading.Thread(target=_beat, args=beating, name="lock heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        released.set()
        thread.join()


def record_products(layout: Layout, products: Sequence[str]) -> None:
    """Record the products of which the run fetches what comes to be wanted. For the holder of the lock.

    They are for messages: on a full disk they are not recorded. The file of the lock stays as it is, as other
    hosts judge by its text.
    """
    with contextlib.suppress(OSError):
        with open(layout.lock_file, encoding="utf-8") as file:
            content = {**_read_holder(file), "products": list(products)}
        write_whole(layout.run_products, json.dumps(content).encode())


def read_holder(layout: Layout, policy: LockPolicy = DEFAULT) -> tuple[dict[str, object], bool]:
    """Return ``host``, ``pid`` and ``since`` of the last holder, and True if it is alive.

    ``products`` are those of which it fetches what comes to be wanted, once it has recorded them. The
    dictionary is empty after a release. For readers that may not write: a holder on another host, where
    locks are not carried from host to host, is judged by the clock of this host. Raises OSError.
    """
    try:
        with open(layout.lock_file, encoding="utf-8") as file:
            holder = _with_products(layout, _read_holder(file))
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return holder, True
            touched = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return {}, False
    return holder, _is_elsewhere(holder) and time.time() - touched < policy.dead_after


def _with_products(layout: Layout, holder: dict[str, object]) -> dict[str, object]:
    """Return the holder with the products that it has recorded; those of another holder do not count."""
    try:
        with open(layout.run_products, encoding="utf-8") as file:
            recorded = _read_holder(file)
    except OSError:
        return holder
    is_its_own = bool(holder) and {**holder, "products": recorded.get("products")} == recorded
    return recorded if is_its_own else holder


def _acquire(file: IO[str], layout: Layout, policy: LockPolicy) -> dict[str, object]:
    """Acquire the lock; return the killed holder named in its file, empty after a release."""
    until = time.monotonic() + policy.wait_for_exit
    while not _try_to_lock(file):
        holder = _read_holder(file)
        if _is_elsewhere(holder) or time.monotonic() > until:
            raise AlreadyRunning(_refusal(layout, holder))
        time.sleep(_RETRY_SECONDS)
    holder = _read_holder(file)
    if _is_elsewhere(holder) and seconds_since_touched(layout.lock_file) < policy.dead_after:
        raise AlreadyRunning(_refusal(layout, holder))
    # The text is only for messages: on a full disk the lock is held without it.
    with contextlib.suppress(OSError):
        own = {"host": socket.gethostname(), "pid": os.getpid(), "since": utc_now()}
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), json.dumps(own).encode())
    return holder


def _is_elsewhere(holder: dict[str, object]) -> bool:
    return holder.get("host") not in {None, socket.gethostname()}


def seconds_since_touched(path: Path) -> float:
    """Return the age of the file by the clock of its file system. Raises FileNotFoundError.

    A file that was touched in the future, when that clock was wrong, is touched now: a holder that is dead
    is recognized by the age that the file has later.
    """
    age = (file_system_time(path.parent) - path.stat().st_mtime_ns) / 10**9
    if age < 0:
        os.utime(path)
    return max(0.0, age)


class Holder:
    """Process on ``host`` with the lock on the file ``path``; its heartbeat touches the file ``touched``."""

    def __init__(self, path: Path, host: str, touched: Path, policy: LockPolicy = DEFAULT) -> None:
        self._path = path
        self._host = host
        self._touched = touched
        self._policy = policy
        self._lock_was_seen = False

    def is_alive(self) -> bool:
        """Return True while the process holds the lock.

        Where locks are not carried from host to host, a killed process counts as alive for ``dead_after``
        seconds.
        """
        try:
            with open(self._path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if self._lock_was_seen or self._host == socket.gethostname():
                return False
            return seconds_since_touched(self._touched) < self._policy.dead_after
        except FileNotFoundError:
            return False
        except BlockingIOError:
            self._lock_was_seen = True
            return True


def _try_to_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _beat(path: Path, released: threading.Event, seconds: float) -> None:
    while not released.wait(seconds):
        # A file server that is restarted fails for a moment. By its path, the file is found afterwards; a
        # descriptor could stay stale for good.
        with contextlib.suppress(OSError):
            os.utime(path)


def _read_holder(file: IO[str]) -> dict[str, object]:
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
        "This run did nothing; start it again when that one has ended, unless cron does."
    )
