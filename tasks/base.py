"""What the tasks share: their targets, their parameters, and how a failure is told."""

import logging
from pathlib import Path

import luigi

from pipeline.errors import HostileName, MirrorError
from pipeline.mirror.context import Site
from pipeline.mirror.state.layout import Layout, Step
from pipeline.mirror.state.marker_file import read_marker
from pipeline.mirror.state.markers import Fileset, fresh_marker
from tasks.errors import Stopped, as_mirror_error
from tasks.run import current_run

log = logging.getLogger("ipp-mirror")


class ProductNames(luigi.Parameter):
    """Names of products, separated by commas."""

    def parse(self, text: str) -> tuple[str, ...]:
        """The names in ``a,b``."""
        return tuple(name.strip() for name in text.split(",") if name.strip())

    def serialize(self, names: tuple[str, ...]) -> str:
        """The names as ``a,b``."""
        return ",".join(names)


class StepMarker(luigi.Target):
    """The marker of one step of one registration of a fileset."""

    def __init__(self, layout: Layout, step: Step, fileset: Fileset) -> None:
        self._of = (layout, step, fileset)

    def exists(self) -> bool:
        """Whether the step is done: the marker is readable and of this registration.

        What hinders the look hinders the step too, which then says so.
        """
        try:
            return fresh_marker(*self._of) is not None
        except (HostileName, OSError):
            return False


class RunMarker(luigi.Target):
    """A marker that an update writes each time it went through a product without a failure."""

    def __init__(self, path: Path, started: str) -> None:
        self._path = path
        self._started = started

    def exists(self) -> bool:
        """Whether this update wrote it, and nothing had failed."""
        try:
            marker = read_marker(self._path)
        except OSError:
            return False
        return marker is not None and marker.get("run") == self._started and not marker.get("failed")


class MirrorTask(luigi.Task):
    """A task of this mirror."""

    # The next run decides what is tried again; the scheduler must never refuse it.
    retry_count = 1_000_000
    # Whether the task does nothing but wait for others, and so needs no worker of its own.
    only_waits = False
    # Whether this process did it, as long as nobody knows better.
    did = True
    # Whether no assistant is admitted until it is settled: its connections are not counted by the scheduler.
    before_assistants = False
    # Whether assistants may do it.
    for_assistants = False
    # Whether others may take part in what it brings about.
    takes_assistants = False

    @property
    def site(self) -> Site:
        """The site that is being updated."""
        return current_run().site

    @property
    def layout(self) -> Layout:
        """Where its files lie."""
        return self.site.layout

    def on_failure(self, exception: BaseException) -> str:
        """What the scheduler's page shows."""
        error = as_mirror_error(exception)
        return self.told(error, self.task_family, error.exit_code)

    def told(self, error: MirrorError, what: str, code: int) -> str:
        """Log the failure and let the run end with ``code``."""
        current_run().note(code)
        level = logging.DEBUG if isinstance(error, Stopped) else logging.WARNING
        log.log(level, "%s failed: %s", what, error)
        return str(error)
