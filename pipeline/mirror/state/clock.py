"""Clock of a file system: the one that sets the modification times of its files.

On a network file system it is the clock of the file server, and clocks of hosts need not agree with it.
"""

import os
import socket
from pathlib import Path

# Two changes in one tick of a clock leave one time. Safe where files and clock have whole seconds, too.
SAFE_AGE_NS = 2 * 10**9


def file_system_time(folder: Path) -> int:
    """Return the time (ns since 1970) by the clock of the folder's file system. Raises OSError."""
    probe = folder / f"clock.{socket.gethostname()}.{os.getpid()}"
    probe.touch()
    now = probe.stat().st_mtime_ns
    probe.unlink()
    return now


def time_or_zero(folder: Path) -> int:
    """Return the time (ns) of the folder's file system; 0, before any change, where it cannot be read."""
    try:
        return file_system_time(folder)
    except OSError:
        return 0
