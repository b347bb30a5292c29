"""Limited resources of one mirror: locks, disk space, connections, bytes per second.

>>> import tempfile
>>> from pathlib import Path
>>> with tempfile.TemporaryDirectory() as folder:
...     incoming, space = Path(folder), DiskSpace(MinFree(0))
...     with space.reserved({incoming: 1000}, "fileset md/o1.chip.1.1.1") as reservations:
...         reservations[incoming].written(400)
...         reservations[incoming].left
600
"""

from pipeline.mirror.resources.byte_locks import ByteLocks
from pipeline.mirror.resources.connection_quota import ConnectionQuota
from pipeline.mirror.resources.disk_space import DiskSpace, MinFree
from pipeline.mirror.resources.rate_limit import RateLimit

__all__ = ["ByteLocks", "ConnectionQuota", "DiskSpace", "MinFree", "RateLimit"]
