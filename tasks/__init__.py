"""Luigi tasks of the mirror: ``luigi --module tasks UpdateMirror``.

Luigi's command with this module gets the tasks, the worker that runs them, an end at once on SIGTERM, SIGINT
and SIGHUP until that worker handles the signals, and standard output whose failure is no failure of the run;
``ipp-mirror`` gets these but the tasks. A pipeline of others that imports ``MirroredFileset`` or
``MirroredProduct`` gets nothing else.
"""

import sys
from itertools import pairwise
from pathlib import PurePath
from typing import Any

__all__ = ["MirroredFileset", "MirroredProduct"]


def _is_module_of_luigi(arguments: list[str]) -> bool:
    """Return True for ``luigi --module tasks …``."""
    return "--module=tasks" in arguments or ("--module", "tasks") in pairwise(arguments)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported here: the commands do without.
    import tasks.mirrored as mirrored

    return getattr(mirrored, name)


# ``python -m tasks`` does the same in ``__main__``.
if PurePath(sys.argv[0]).name == "ipp-mirror" or _is_module_of_luigi(sys.argv):
    from tasks.runtime.signals import handle_early_signals
    from tasks.runtime.streams import use_lossy_streams

    # Before the other imports, which take most of the time until the worker starts.
    handle_early_signals()
    use_lossy_streams()

# Each subcommand of ipp-mirror imports its own modules: without Luigi, help and completion take a fifth of
# the time.
if _is_module_of_luigi(sys.argv):
    import tasks.workflow  # noqa: F401
