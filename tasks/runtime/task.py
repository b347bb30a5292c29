"""What the tasks share: their parameters, and how a failure is told."""

import logging

import luigi

from pipeline.errors import MirrorError
from pipeline.mirror.context import Site
from pipeline.mirror.state.layout import Layout
from tasks.runtime.errors import Stopped, as_mirror_error
from tasks.runtime.run import current_run

log = logging.getLogger("ipp-mirror")


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
