"""Luigi tasks of the mirror: ``luigi --module tasks UpdateMirror``.

Importing this package registers the tasks, installs the worker that runs them, and makes the process end
at once on SIGTERM and SIGINT until that worker handles the signals.
"""

import sys
from pathlib import PurePath

from tasks.runtime.signals import handle_early_signals

# Before the other imports, which take most of the time until the worker starts.
handle_early_signals()

# Each subcommand of ipp-mirror imports its own modules: without Luigi, help and completion take a fifth of
# the time.
if PurePath(sys.argv[0]).name != "ipp-mirror":
    import tasks.workflow as workflow

    __all__ = ["workflow"]
