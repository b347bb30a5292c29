"""``python -m tasks COMMAND``: the ``ipp-mirror`` command."""

from tasks.runtime.signals import handle_early_signals
from tasks.runtime.streams import use_lossy_streams

# Before the other imports, which take most of the time until a command starts.
handle_early_signals()
use_lossy_streams()

from tasks.commands import main  # noqa: E402

main()
