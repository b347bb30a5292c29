"""The Luigi tasks of the mirror: ``luigi --module tasks UpdateMirror``.

Importing this package makes the ``luigi`` command use ``MirrorWorker``, and heed signals from the start.
"""

from tasks.runtime.signals import heed_signals

# Before the other imports, which take most of the time until the worker begins.
heed_signals()

from tasks.fileset import DownloadFileset, ExtractFileset  # noqa: E402
from tasks.runtime.worker import use_mirror_worker  # noqa: E402
from tasks.update import DiscoverProduct, UpdateMirror, UpdateProduct  # noqa: E402
from tasks.verify import VerifyFileset, VerifyMirror, VerifyProduct  # noqa: E402

__all__ = [
    "DiscoverProduct",
    "DownloadFileset",
    "ExtractFileset",
    "UpdateMirror",
    "UpdateProduct",
    "VerifyFileset",
    "VerifyMirror",
    "VerifyProduct",
]

use_mirror_worker()
