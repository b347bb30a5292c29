"""All tasks of the mirror, and the worker that runs them."""

from tasks.fileset import DownloadFileset, ExtractFileset
from tasks.runtime.install import use_mirror_worker
from tasks.update import DiscoverProduct, RelistProduct, UpdateMirror, UpdateProduct
from tasks.verify import VerifyFileset, VerifyMirror, VerifyProduct

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
