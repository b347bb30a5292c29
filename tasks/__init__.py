"""The Luigi tasks of the mirror: ``luigi --module tasks UpdateMirror``.

Importing this package makes the ``luigi`` command use ``MirrorWorker``, and handle signals from the start.
"""

from tasks.runtime.signals import handle_early_signals

# Before the other imports, which take most of the time until the worker begins.
handle_early_signals()

from tasks.fileset import DownloadFileset, ExtractFileset  # noqa: E402
from tasks.runtime.install import use_mirror_worker  # noqa: E402
from tasks.update import DiscoverProduct, RelistProduct, UpdateMirror, UpdateProduct  # noqa: E402
from tasks.verify import VerifyFileset, VerifyMirror, VerifyProduct  # noqa: E402

__all__ = [
    "DiscoverProduct",
    "DownloadFileset",
    "ExtractFileset",
    "RelistProduct",
    "UpdateMirror",
    "UpdateProduct",
    "VerifyFileset",
    "VerifyMirror",
    "VerifyProduct",
]

use_mirror_worker()
