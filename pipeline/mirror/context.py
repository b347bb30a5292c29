"""One site: its settings, its folders, and what all the work of one run shares."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from pipeline.config import Settings, read_settings
from pipeline.datastore.client import DataStoreClient, FetchPool, Limits, ListingClient, RetryPolicy
from pipeline.datastore.listing import write_products
from pipeline.durable import write_whole
from pipeline.errors import SettingsError, machine_faults
from pipeline.mirror.resources.byte_locks import ByteLocks
from pipeline.mirror.resources.connection_quota import Shares
from pipeline.mirror.resources.disk_space import DiskSpace
from pipeline.mirror.resources.ownership import Ownership
from pipeline.mirror.resources.rate_limit import RateLimit
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.root_format import check_root_format

T = TypeVar("T")
P = ParamSpec("P")

# How far a step is: a message and a share from 0 to 1.
Report = Callable[[str, float], None]


@dataclass
class Tally:
    """What one run has to do (filesets ``pending``) and did. Safe for use by several threads."""

    pending: int = 0
    new: int = 0
    done: int = 0
    failed: int = 0
    verified: int = 0
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, *, received: int = 0, **filesets: int) -> None:
        """Add to what is known: filesets ``pending``, ``new``, ``done`` …, and bytes received."""
        with self._lock:
            self.bytes += received
            for what, number in filesets.items():
                setattr(self, what, getattr(self, what) + number)

    def take_received(self) -> int:
        """The bytes received since this was last asked: what one process tells another."""
        with self._lock:
            received, self.bytes = self.bytes, 0
        return received


@dataclass(frozen=True)
class Site:
    """The parts that the steps of all filesets share; closed by leaving ``open_site``.

    ``listings`` is where listings of products come from: ``store``, or another process.
    """

    settings: Settings
    layout: Layout
    store: DataStoreClient
    listings: ListingClient
    space: DiskSpace
    rate: RateLimit
    fetch_pool: FetchPool
    unpackers: ThreadPoolExecutor
    ownership: Ownership
    fileset_locks: ByteLocks
    shares: Shares
    tally: Tally = field(default_factory=Tally)

    def products(self) -> list[str]:
        """The products to mirror: those of the settings, else all that the root lists and the hidden ones.

        What the root lists is noted, for whoever is served by this mirror. Raises ServerUnavailable when
        the root has to be asked and cannot, or MachineFault.
        """
        if self.settings.mirror.products is not None:
            return [product.name for product in self.settings.mirror.products]
        rows = self.listings.products()
        with machine_faults("noting what the root of the source lists"):
            write_whole(self.layout.root_listing, write_products(rows))
        listed = [row.name for row in rows]
        return listed + [name for name in self.settings.source.hidden_products if name not in listed]


@contextmanager
def open_site(config: Path, sleep: Callable[[float], object]) -> Iterator[Site]:
    """The site of a settings file; ``sleep`` is how it waits between tries.

    Raises SettingsError, also when the root cannot be written or is of a format not known to this program.
    """
    settings = read_settings(config)
    source, mirror = settings.source, settings.mirror
    layout = Layout(mirror.root)
    check_root_format(layout)
    _make_root(mirror.root, config)
    limits = Limits(connections=source.connections, timeout=source.timeout)
    retry_policy = RetryPolicy(attempts=source.attempts, first_pause=source.retry_pause, sleep=sleep)
    store = DataStoreClient(source.url, limits, retry_policy)
    fetch_pool = FetchPool(source.connections)
    unpackers = ThreadPoolExecutor(os.cpu_count() or 1, "unpacker")
    locks = [ByteLocks(path) for path in (layout.ownership_lock, layout.fileset_locks)]
    try:
        yield Site(
            settings=settings,
            layout=layout,
            store=store,
            listings=store,
            space=DiskSpace(mirror.root, mirror.min_free),
            rate=RateLimit(source.rate_limit),
            fetch_pool=fetch_pool,
            unpackers=unpackers,
            ownership=Ownership(layout, locks[0]),
            fileset_locks=locks[1],
            shares=Shares(source.connections),
        )
    finally:
        fetch_pool.close()
        unpackers.shutdown(cancel_futures=True)
        for lock in locks:
            lock.close()
        store.close()


def done_here(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """The work done at once: for what is little, handing it to another thread is most of the effort."""
    future: Future[T] = Future()
    try:
        future.set_result(work(*args, **kwargs))
    except Exception as error:
        future.set_exception(error)
    return future


def _make_root(root: Path, config: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / "state").mkdir(exist_ok=True)
        writable = os.access(root / "state", os.W_OK | os.X_OK)
        problem = "" if writable else "no permission to write"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise SettingsError(
            f"{config}: expected mirror.root to be a folder that can be written, got: {problem} at {root}. "
            "Correct the setting or the permissions; nothing was started."
        )
