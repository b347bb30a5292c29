"""All tasks of the mirror, and the worker that runs them."""

from tasks.fileset import DownloadFileset, ExtractFileset
from tasks.runtime.worker import use_mirror_worker
from tasks.update import DiscoverProduct, UpdateMirror, UpdateProduct
from tasks.verify import VerifyFileset, VerifyMirror, VerifyProduct

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
