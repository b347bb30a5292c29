"""Context of a run, shared by the steps of all filesets."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Settings, Source, read_settings
from pipeline.cores import CORES
from pipeline.datastore.client import FetchPool, ListingClient, RangePolicy, RetryPolicy
from pipeline.datastore.listing import LeftOut, write_products
from pipeline.durable import write_whole
from pipeline.errors import ServerUnavailable, machine_faults
from pipeline.mirror.resources.arrivals import Arrivals
from pipeline.mirror.resources.byte_locks import ByteLocks
from pipeline.mirror.resources.connection_quota import ConnectionQuota
from pipeline.mirror.resources.disk_space import DiskSpace, MinFree
from pipeline.mirror.resources.file_systems import check_file_systems
from pipeline.mirror.resources.ownership import Ownership
from pipeline.mirror.resources.rate_limit import RateLimit, limit_of
from pipeline.mirror.resources.root_folder import check_new_root, make_root
from pipeline.mirror.resources.volumes import check_volumes, place_products
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.operands import check_products, check_products_in_settings, has_mirror
from pipeline.mirror.state.root_note import check_root
from pipeline.mirror.state.steps import Steps

if TYPE_CHECKING:
    from pipeline.datastore.client.http import DataStoreClient

ROOT_LISTING_EVERY = timedelta(days=7)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepProgress:
    """Progress of a fileset's step: a message, a share from 0 to 1, and ``bytes`` of ``total`` to fetch."""

    message: str
    share: float
    bytes: int = 0
    total: int = 0


Report = Callable[[StepProgress], None]


@dataclass
class RunCounters:
    """Progress of one run: filesets and bytes received. Safe for use by several threads.

    Of the filesets ``selected`` and incomplete, those ``skipped``, ``done`` and ``failed`` are counted once
    they are; in a verification, of those ``here``, the ``sound``, ``repaired`` and ``damaged``. ``adopted``
    and ``left`` are files of an adopted folder that were taken over, and were not.
    """

    new: int = 0
    selected: int = 0
    skipped: int = 0
    done: int = 0
    failed: int = 0
    optional_failed: int = 0
    here: int = 0
    sound: int = 0
    repaired: int = 0
    damaged: int = 0
    adopted: int = 0
    adopted_bytes: int = 0
    left: int = 0
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, *, received: int = 0, **numbers: int) -> None:
        """Add filesets ``new``, ``done`` …, files ``adopted`` …, and bytes received."""
        with self._lock:
            self.bytes += received
            for what, number in numbers.items():
                setattr(self, what, getattr(self, what) + number)

    @property
    def unverified(self) -> int:
        """Filesets here that a verification has not come to yet."""
        return self.here - self.sound - self.repaired - self.damaged

    def take_received(self) -> int:
        """Return the bytes received since the last call, for a report to another process."""
        with self._lock:
            received, self.bytes = self.bytes, 0
        return received


@dataclass(frozen=True)
class RunContext:
    """Settings, paths, steps and resources of one run; closed by leaving ``open_context``.

    ``steps`` are all rows of the workflow, including those that the settings leave out; ``left_out`` names
    optional ones that this run does without, as what they need is not there. ``upstream`` fetches
    files and listings; ``listings`` fetches listings of products, possibly in another process.
    """

    settings: Settings
    layout: Layout
    steps: Steps
    upstream: "DataStoreClient"
    listings: ListingClient
    space: DiskSpace
    rate: RateLimit
    fetch_pool: FetchPool
    unpackers: ThreadPoolExecutor
    ownership: Ownership
    arrivals: Arrivals
    fileset_locks: ByteLocks
    quota: ConnectionQuota
    ranges: RangePolicy = field(default_factory=RangePolicy)
    counters: RunCounters = field(default_factory=RunCounters)
    left_out: frozenset[str] = frozenset()

    @property
    def included_steps(self) -> Steps:
        """Steps that the settings include, and that this run does."""
        included = self.steps.included(self.settings)
        return Steps(tuple(step for step in included if step.name not in self.left_out))

    def products(self, left_out: LeftOut) -> list[str]:
        """Return the products to mirror: those of the settings, else the root's and the hidden ones.

        The listing of the root is kept, for downstream readers of this mirror; its damaged rows are added to
        ``left_out``. Raises ServerUnavailable when
        the listing of the root is needed and cannot be fetched, MachineFault when it cannot be written.
        """
        if self.settings.mirror.products is not None:
            return [product.name for product in self.settings.mirror.products]
        rows = self.listings.products(left_out)
        self._write_root_listing(write_products(rows))
        listed = [row.name for row in rows]
        return listed + [name for name in self.settings.source.hidden_products if name not in listed]

    def place(self, products: Iterable[str]) -> None:
        """Place the products on their volumes. Raises SettingsError or MachineFault."""
        place_products(self.layout, self.settings, products)

    def renew_root_listing(self) -> None:
        """Fetch the listing of the root, at most once a week: it has the types of products that are named.

        It is for downstream readers alone. Where the server does not send it, the one that is here, or an
        empty one, has to do for the next week. Raises MachineFault when it cannot be written.
        """
        path = self.layout.root_listing
        written = path.stat().st_mtime if path.is_file() else 0.0
        if 0 <= time.time() - written < ROOT_LISTING_EVERY.total_seconds():
            return
        try:
            content = write_products(self.listings.products())
        except ServerUnavailable as error:
            log.debug("%s", error)
            content = path.read_bytes() if path.is_file() else write_products([])
        self._write_root_listing(content)

    def _write_root_listing(self, content: bytes) -> None:
        with machine_faults("writing the listing of the upstream root"):
            write_whole(self.layout.root_listing, content)


def upstream_client(
    source: Source, sleep: Callable[[float], object], stopping: threading.Event | None = None
) -> "DataStoreClient":
    """Return a client of the Data Store of the settings, to be closed; ``sleep`` waits between tries.

    Once ``stopping`` is set, requests that the server delays are aborted.
    """
    # Imported here: what asks no server does without requests.
    from pipeline.datastore.client.http import DataStoreClient
    from pipeline.datastore.client.limits import Limits

    limits = Limits(source.connections, source.timeout, source.least_speed)
    retry_policy = RetryPolicy(attempts=source.attempts, first_pause=source.retry_pause, sleep=sleep)
    return DataStoreClient(source.url, limits, retry_policy, stopping)


def check_products_before_run(names: Sequence[str], settings: Settings, consequence: str) -> None:
    """Check the products before anything is made, by the settings or, where a mirror begins, by the server.

    What the server does not tell now, the run finds out. Raises SettingsError as ``check_products``.
    """
    check_products_in_settings(names, settings, consequence)
    if not names or settings.mirror.products is not None or has_mirror(Layout(settings.mirror.root)):
        return
    source = settings.source.model_copy(update={"attempts": 1})
    with suppress(ServerUnavailable), closing(upstream_client(source, time.sleep)) as client:
        known = {*settings.source.hidden_products, *(row.name for row in client.products())}
        check_products(names, known, settings, consequence)


@contextmanager
def open_context(
    config: Path,
    steps: Steps,
    sleep: Callable[[float], object],
    stopping: threading.Event | None = None,
) -> Iterator[RunContext]:
    """Open the context of a run from a settings file; ``sleep`` waits between tries.

    Once ``stopping`` is set, requests that the server delays are aborted.
    Raises SettingsError, also when the root cannot be written, has an unknown format, or is spread over file
    systems between which filesets cannot be renamed, and when the root or a volume is not mounted.
    """
    settings = read_settings(config)
    layout = _checked_layout(config, settings)
    with ExitStack() as opened:
        upstream = opened.enter_context(closing(upstream_client(settings.source, sleep, stopping)))
        yield _shared(settings, layout, steps, upstream, opened)


def _shared(
    settings: Settings, layout: Layout, steps: Steps, upstream: "DataStoreClient", opened: ExitStack
) -> RunContext:
    """Return what the steps of a run share; what is opened for it is closed with ``opened``, last first."""
    connections = settings.source.connections
    ownership, arrivals, filesets = (
        opened.enter_context(closing(ByteLocks(path))) for path in _lock_files(layout)
    )
    unpackers = ThreadPoolExecutor(CORES, "unpacker")
    opened.callback(unpackers.shutdown, cancel_futures=True)
    return RunContext(
        settings=settings,
        layout=layout,
        steps=steps,
        upstream=upstream,
        listings=upstream,
        space=DiskSpace(MinFree.of(layout, settings.mirror)),
        rate=limit_of(settings.source.rate_limit),
        fetch_pool=opened.enter_context(closing(FetchPool(connections))),
        unpackers=unpackers,
        ownership=Ownership(layout, ownership),
        arrivals=Arrivals(layout, arrivals),
        fileset_locks=filesets,
        quota=ConnectionQuota(connections),
    )


def _checked_layout(config: Path, settings: Settings) -> Layout:
    """Return the layout of the mirror, whose root is made if it is absent. Raises SettingsError."""
    layout = Layout(settings.mirror.root)
    check_root(config, settings)
    # First, so that what is refused leaves nothing.
    check_new_root(layout.root, config)
    check_volumes(layout, settings)
    check_file_systems(layout)
    make_root(layout.root, config)
    return layout


def _lock_files(layout: Layout) -> tuple[Path, Path, Path]:
    return layout.ownership_lock, layout.arrivals_lock, layout.fileset_locks
