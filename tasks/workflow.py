"""All tasks of the mirror, which Luigi registers as they are imported, and the worker that runs them."""

from tasks import adopt, compare, fileset, update, verify
from tasks.runtime.install import use_mirror_worker

__all__ = ["adopt", "compare", "fileset", "update", "verify"]

use_mirror_worker()
