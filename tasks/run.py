"""One run of the program: its site, its lock, its log, and how it ends."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import luigi

from pipeline.datastore.client import ListingClient
from pipeline.errors import (
    EXIT_FILESET_FAILED,
    EXIT_NOT_SCHEDULED,
    EXIT_SETTINGS_OR_BUG,
    EXIT_STOPPED,
    MirrorError,
    SettingsError,
    machine_fault,
    machine_faults,
)
from pipeline.mirror.assistants import await_farewell
from pipeline.mirror.layout import Step
from pipeline.mirror.lock import heartbeat, update_lock
from pipeline.mirror.site import Site, open_site
from pipeline.mirror.status import as_size, write_status
from pipeline.mirror.update import remove_half_written
from tasks.errors import Stopped, as_mirror_error
from tasks.log import log_to
from tasks.processes import UNPACKED_AT_ONCE, UNPACKED_PER_CORE, get_listing, step_processes
from tasks.progress import progress_on_terminal

# Tells this run from all others.
STARTED = datetime.now(UTC).isoformat().replace("+00:00", "Z")

T = TypeVar("T")
log = logging.getLogger("ipp-mirror")


class mirror(luigi.Config):  # noqa: N801  (the section of luigi.cfg, and the prefix of --mirror-config)
    """Where the settings of the mirror are."""

    config = luigi.Parameter(default="mirror.yaml", description="path of the settings file, mirror.yaml")


class Run:
    """What the tasks of one run have in common, from ``begin_run`` to ``end``."""

    def __init__(self) -> None:
        self.code = 0
        self.stopping = threading.Event()
        self.hand_on: Callable[[Iterator[luigi.Task]], int] = _no_worker
        # Workers of an update that was killed, as Luigi's scheduler knows them.
        self.left_behind: list[str] = []
        self._began = time.monotonic()
        self._products: list[str] | None = None
        self._open = ExitStack()
        try:
            self.site: Site = self._open.enter_context(open_site(Path(mirror().config), self.stopping.wait))
            with machine_faults(f"taking the lock of the mirror at {self.site.layout.root}"):
                self._take_hold()
                processes = step_processes(self.site, self.stopping, self.lose_process)
                self.fetching, self.unpacking = self._open.enter_context(processes)
                self._show_life()
            self.site = replace(self.site, listings=self._listings())
            self._open.enter_context(progress_on_terminal(self.site.tally))
            self._open.enter_context(log_to(self.log_file))
        except BaseException:
            self._open.close()
            raise

    def _listings(self) -> ListingClient:
        """The listings, fetched by the process that has the connections."""
        store = self.site.store
        return ListingClient(store.url, lambda url: self.fetching.do(get_listing, url), store.retry_policy)

    def _take_hold(self) -> None:
        """Be the only one that works on the mirror."""
        # Host and process of a run that was killed before this one: what it had begun runs no more.
        self.killed = self._open.enter_context(update_lock(self.site.layout))
        self.left_behind = await_farewell(self.site.layout)
        remove_half_written(self.site.layout)

    def _show_life(self) -> None:
        """From now on, with processes forked and threads allowed."""
        self._open.enter_context(heartbeat(self.site.layout))

    @property
    def update(self) -> str:
        """What tells the update, of which this is a part or all, from all others."""
        return STARTED

    @property
    def log_file(self) -> Path:
        """Where it logs."""
        return self.site.layout.log_file

    @property
    def last_step(self) -> Step:
        """The step after which a fileset is complete."""
        return Step.EXTRACTED if self.site.settings.mirror.unpack else Step.DOWNLOADED

    def resources(self, processors_elsewhere: int = 0) -> dict[str, int]:
        """What the scheduler shares out among the tasks of all workers."""
        unpackers = UNPACKED_AT_ONCE + UNPACKED_PER_CORE * processors_elsewhere
        return {"connections": self.site.settings.source.connections, "unpackers": unpackers}

    def products(self, only: tuple[str, ...] = ()) -> list[str]:
        """The products to update. Raises SettingsError when ``only`` names another one."""
        if self._products is None:
            self._products = self.site.products()
        unknown = set(only) - set(self._products)
        if unknown:
            raise SettingsError(
                f"--products: expected some of {', '.join(self._products)}, "
                f"got {', '.join(sorted(unknown))}. Add it to mirror.products in the settings to have it "
                "mirrored; nothing was started."
            )
        return list(only) or self._products

    def settle(self, tasks: Iterator[luigi.Task]) -> int:
        """Have the tasks run and wait until each is done or failed; how many failed. Raises Stopped."""
        failed = self.hand_on(tasks)
        if self.stopping.is_set():
            raise Stopped("stopped on request; the next run goes on from here")
        return failed

    def note(self, code: int) -> None:
        """The run ends with the highest code noted."""
        self.code = max(self.code, code)

    def stop(self) -> None:
        """Let what is in hand finish, and wait for nothing."""
        self.note(EXIT_STOPPED)
        self._wait_for_nothing()

    def lose_scheduler(self, error: Exception) -> None:
        """Let what is in hand finish, as no scheduler hands out more."""
        log.error("expected an answer of Luigi's scheduler, got: %s. The next run goes on from here.", error)
        self.note(EXIT_NOT_SCHEDULED)
        self._wait_for_nothing()

    def break_off(self, error: Exception) -> None:
        """Let what is in hand finish, as this program is not what it should be."""
        log.error("%s", as_mirror_error(error))
        self.note(EXIT_SETTINGS_OR_BUG)
        self._wait_for_nothing()

    def lose_process(self) -> None:
        """Let what is in hand finish, as a process that would do the rest was killed."""
        self.note(EXIT_FILESET_FAILED)
        self._wait_for_nothing()

    def _wait_for_nothing(self) -> None:
        self.stopping.set()
        self.fetching.stop()
        self.unpacking.stop()

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return time.monotonic() - self._began

    def finish(self) -> int:
        """Write the status files and the summary line; the exit code."""
        products = sorted({*self.site.layout.state_products(), *(self._products or [])})
        try:
            write_status(self.site.layout, self.site.settings, products)
        except OSError as error:
            self.note(EXIT_FILESET_FAILED)
            log.warning("%s", machine_fault("writing the status files", error))
        skipped = sum(len(self.site.layout.marked(Step.SKIPPED, product)) for product in products)
        tally = self.site.tally
        verified = f", {tally.verified} verified" if tally.verified else ""
        log.info(
            "filesets: %d new, %d done, %d failed, %d skipped%s; %s fetched in %.1f s",
            *(tally.new, tally.done, tally.failed, skipped, verified),
            *(as_size(tally.bytes), self.seconds),
        )
        return self.code

    def end(self) -> None:
        """Let go of the lock and of all that is open."""
        self._open.close()


_runs: list[Run] = []
R = TypeVar("R", bound=Run)


def begin_run(kind: Callable[[], R] = Run) -> R:
    """Open the run of this process. Raises SettingsError, MachineFault or AlreadyRunning."""
    run = kind()
    _runs[:] = [run]
    return run


def current_run() -> Run:
    """The run that the worker has begun."""
    return _runs[0]


def or_exit(begin: Callable[[], T]) -> T:
    """What ``begin`` gives; a MirrorError ends the program with its one sentence and its exit code."""
    try:
        return begin()
    except MirrorError as error:
        print(f"ipp-mirror: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def _no_worker(_: Iterator[luigi.Task]) -> int:
    raise RuntimeError("an update runs under tasks.worker.MirrorWorker only")
