"""Coverage of the sky: maps of it as MOCs, and a picture, in ``status/``.

They are made by a process of their own, ``python -m pipeline.catalog.coverage``: Matplotlib and mocpy take
seconds to import, and the memory of an update stays as it is.
"""

import json
import logging
import subprocess
import sys
import tempfile
import time
from threading import Event

from pipeline.catalog.recorded_state import recorded_state
from pipeline.config import Settings
from pipeline.errors import MachineFault, machine_faults
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import read_marker

WAIT_SECONDS = 600.0
_POLL_SECONDS = 0.05
# Time for the process to end after SIGTERM.
_END_SECONDS = 5.0

log = logging.getLogger(__name__)


def draw_coverage(
    settings: Settings, layout: Layout, stopping: Event, wait_seconds: float = WAIT_SECONDS
) -> None:
    """Have maps and picture made anew by a process, unless they are those of the catalog; wait for it.

    After ``wait_seconds``, or once ``stopping`` is set, the process is ended; the next run goes on with it.
    Raises MachineFault.
    """
    state = recorded_state(layout)
    if not settings.catalog.coverage or state is None or state == _drawn_state(layout):
        return
    with tempfile.TemporaryFile() as errors:
        with machine_faults("starting the process that draws the coverage of the sky"):
            # Signals to the update, such as the Ctrl-C of a terminal, are not for the process.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        with process:
            code = _wait(process, _order(settings, layout), stopping, time.monotonic() + wait_seconds)
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if said:
        log.debug("drawing the coverage of the sky: %s", said)
    if code is None:
        log.debug("drawing the coverage of the sky was ended; the next run goes on with it")
    elif code:
        raise MachineFault(
            f"drawing the coverage of the sky in {layout.coverage}: expected a process that ends with 0, got "
            f"{code}: {said.splitlines()[-1] if said else 'no message'}. Nothing else is concerned; the next "
            "run tries again."
        )


def _drawn_state(layout: Layout) -> object:
    """Return the state of the database of which maps and picture are."""
    return (read_marker(layout.coverage_record) or {}).get("catalog")


def _order(settings: Settings, layout: Layout) -> bytes:
    """Return what goes to the standard input of the process.

    The address of the database may hold a password, and every user of the machine can read a command line.
    """
    return json.dumps({"root": str(layout.root), "url": settings.catalog.url}).encode()


def _wait(process: subprocess.Popen[bytes], order: bytes, stopping: Event, until: float) -> int | None:
    """Return the exit code of the process; None when it was ended."""
    assert process.stdin is not None
    try:
        process.stdin.write(order)
        process.stdin.close()
    except BrokenPipeError:
        return process.wait()
    while process.poll() is None:
        if stopping.wait(_POLL_SECONDS) or time.monotonic() > until:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            return None
    return process.returncode
