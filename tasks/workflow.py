"""All tasks of the mirror, and the worker that runs them."""

from tasks.update import (
    DiscoverProduct,
    DownloadFileset,
    ExtractFileset,
    UpdateMirror,
    UpdateProduct,
)
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
