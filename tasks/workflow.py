"""All tasks of the mirror, which Luigi registers as they are imported, and the worker that runs them."""

from tasks import adopt, compare, fileset, get, update, verify
from tasks.runtime.install import use_mirror_worker

__all__ = ["adopt", "compare", "fileset", "get", "update", "verify"]

use_mirror_worker()
