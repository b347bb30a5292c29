"""Limited resources of one mirror: locks, disk space, connections, bytes per second.

>>> import tempfile
>>> from pathlib import Path
>>> with tempfile.TemporaryDirectory() as folder:
...     space = DiskSpace(Path(folder), min_free=0)
...     with space.reserved(1000, "fileset md/o1.chip.1.1.1") as reservation:
...         reservation.written(400)
...         reservation.left
600
"""

from pipeline.mirror.resources.byte_locks import ByteLocks
from pipeline.mirror.resources.connection_quota import ConnectionQuota
from pipeline.mirror.resources.disk_space import DiskSpace
from pipeline.mirror.resources.rate_limit import RateLimit

__all__ = ["ByteLocks", "ConnectionQuota", "DiskSpace", "RateLimit"]
