"""Coverage of the sky: maps of it as MOCs, and a picture, in ``status/``.

They are made by a process of their own, ``python -m pipeline.catalog.coverage``: Matplotlib and mocpy take
seconds to import, and the memory of an update stays as it is.
"""

import json
import os
import sys

from pipeline.config import Settings
from pipeline.errors import machine_faults
from pipeline.mirror.state.layout import Layout


def start_coverage(settings: Settings, layout: Layout) -> None:
    """Start the process that makes maps and picture anew; it goes on when this process ends.

    The address of the database, which may hold a password, goes to its standard input: every user of the
    machine can read a command line. Raises MachineFault.
    """
    order = json.dumps({"root": str(layout.root), "url": settings.catalog.url}).encode()
    with machine_faults("starting the process that draws the coverage of the sky"):
        output, order_pipe = os.pipe()
        try:
            with os.fdopen(order_pipe, "wb") as pipe:
                pipe.write(order)
            os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", __name__],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, output, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                # Signals to the update, such as the Ctrl-C of a terminal, are not for it.
                setsid=True,
            )
        finally:
            os.close(output)
