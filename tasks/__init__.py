"""The Luigi tasks of the mirror: ``luigi --module tasks UpdateMirror``.

Importing this package makes the ``luigi`` command use ``MirrorWorker``.
"""

from tasks.update import DiscoverProduct, DownloadFileset, ExtractFileset, UpdateMirror, UpdateProduct
from tasks.verify import VerifyFileset, VerifyMirror, VerifyProduct
from tasks.worker import use_mirror_worker

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
