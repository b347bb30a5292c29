"""Luigi tasks of the mirror: ``luigi --module tasks UpdateMirror``.

Importing this package registers the tasks, installs the worker that runs them, makes the process end at
once on SIGTERM, SIGINT and SIGHUP until that worker handles the signals, and makes a failure of standard
output no failure of the run.
"""

import sys
from pathlib import PurePath

from tasks.runtime.signals import handle_early_signals
from tasks.runtime.streams import use_lossy_streams

# Before the other imports, which take most of the time until the worker starts.
handle_early_signals()
use_lossy_streams()

# Each subcommand of ipp-mirror imports its own modules: without Luigi, help and completion take a fifth of
# the time.
if PurePath(sys.argv[0]).name != "ipp-mirror":
    import tasks.workflow as workflow

    __all__ = ["workflow"]
