"""Base class of the mirror's tasks: attributes for the worker, and the report of a failure."""

import argparse
import contextlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility
from luigi.rpc import RPCError

from pipeline.config import Settings
from pipeline.errors import MirrorError, with_next_try
from pipeline.mirror.context import RunContext
from pipeline.mirror.state.layout import Layout
from tasks.runtime.causes import Failure
from tasks.runtime.current import current_mirror, current_run
from tasks.runtime.errors import Stopped, as_mirror_error
from tasks.runtime.run import resources_of
from tasks.runtime.summary_line import update_summary

# Description of a parameter that the program sets, and that `luigi TASK --help` does not list.
HIDDEN = argparse.SUPPRESS
# Parameters that tell one run from another.
_OF_RUN = {"started", "verification"}

log = logging.getLogger(__name__)


class MirrorTask(luigi.Task):
    """Task of a mirror.

    A central scheduler takes two tasks with the same parameters for one. So ``mirror``, the short id, is a
    parameter of every task, and a part of the name of every resource.
    """

    mirror = luigi.Parameter(default="", description=HIDDEN)

    # Failed steps are retried by the next run; the scheduler must never disable a task.
    retry_count = 1_000_000
    # True for a task that only waits for other tasks, and occupies no slot of the worker.
    only_waits = False
    # True for a step without which the fileset still counts as mirrored.
    optional = False
    # True for a task that uses connections which the scheduler does not count: no peer is admitted before the
    # task is done or has failed.
    before_peers = False
    # True for a task that workers on other hosts may do.
    for_peers = False
    # True for a task of which workers on other hosts may do a part.
    takes_peers = False
    # True for a task that shows the progress of the run on the scheduler's page.
    shows_all = False
    # Word for what the task does with its fileset or product, for the display of progress; empty: not shown.
    doing = ""
    # True for a task that does not begin while the mirror is paused.
    pausable = False
    # Numbers of the line that ends a run of this task.
    summary = staticmethod(update_summary)

    def __init__(self, *arguments: Any, **parameters: Any) -> None:
        super().__init__(*arguments, **{"mirror": current_mirror()} | parameters)

    def check(self, settings: Settings) -> None:
        """Check the parameters of the first task of a run, before anything is made. Raises SettingsError.

        What only a run can find out is refused by it.
        """

    def _get_param_visibilities(self) -> dict[str, int]:
        """Return which parameters Luigi's page shows: not those that are empty, or the same in the whole run.

        A parameter that is declared as hidden would not count for the id of the task.
        """
        shown: dict[str, int] = super()._get_param_visibilities()
        hidden = ParameterVisibility.HIDDEN.serialize()
        return {
            name: hidden if name in _OF_RUN or getattr(self, name) in ("", ()) else visibility
            for name, visibility in shown.items()
        }

    def process_resources(self) -> dict[str, int]:
        """Return the resources that the task takes, by their names for Luigi's scheduler."""
        return resources_of(self.mirror, self.resources)

    def is_listed(self) -> bool:
        """Return True if a scheduler may offer the task although this process has not submitted it."""
        return False

    def more_tasks(self) -> Iterable["MirrorTask"]:
        """Return further tasks for the worker, which asks the first task of its run again and again."""
        return ()

    @property
    def fetches(self) -> tuple[str, str, str | None] | None:
        """Product, fileset and stage if the task fetches a fileset."""
        return None

    @property
    def fetches_wanted_of(self) -> Sequence[str]:
        """Products of which the run of this task fetches the filesets that come to be wanted meanwhile."""
        return ()

    @property
    def of_fileset(self) -> tuple[str, str] | None:
        """Product and fileset that the task is for; None for another task."""
        return None

    @property
    def completes(self) -> tuple[str, str] | None:
        """Product and fileset if the fileset is complete once the task is done."""
        return None

    def show(self, message: str, share: float) -> None:
        """Show the progress on the scheduler's page, if the scheduler answers and the task is running."""
        # Luigi sets both for the time of a run.
        set_message, set_percentage = self.set_status_message, self.set_progress_percentage
        if set_message and set_percentage:
            with contextlib.suppress(RPCError):
                set_message(message)
                set_percentage(int(100 * share))

    @property
    def following(self) -> "MirrorTask | None":
        """Next step of the same fileset; None after the last one."""
        return None

    @property
    def context(self) -> RunContext:
        """Context of the run."""
        return current_run().context

    @property
    def layout(self) -> Layout:
        """Paths of the mirror."""
        return self.context.layout

    @property
    def subject(self) -> str:
        """Beginning of each message about a failure of the task."""
        product = getattr(self, "product", "")
        return f"product {product}" if product else "this run"

    def on_failure(self, exception: BaseException) -> str:
        """Log the failure, and return the text that the scheduler's page shows."""
        error = as_mirror_error(exception)
        return self.report_failure(error, error.exit_code)

    def report_failure(self, error: MirrorError, code: int, next_try: str | None = None) -> str:
        """Log the failure, and raise the exit code of the run to at least ``code``; return the message.

        ``next_try`` is when it is tried again (UTC), None for the next run.
        """
        message = with_next_try(str(error), next_try)
        current_run().note(code, message)
        if not message.startswith(self.subject):
            message = f"{self.subject}: {message}"
        level = logging.DEBUG if isinstance(error, Stopped) else logging.WARNING
        log.log(level, "%s", message, extra={"failure": Failure.of(self.subject, error)})
        return message
