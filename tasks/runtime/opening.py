"""Opening of a run: settings, lock, processes, displays, log; closed in the opposite order."""

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.errors import MirrorError, machine_faults
from pipeline.mirror.context import RunContext, open_context
from pipeline.mirror.resources.file_systems import log_missing_flush
from pipeline.mirror.resources.update_lock import heartbeat
from pipeline.mirror.state.owner_records import restore_owner_records
from pipeline.mirror.state.root_note import write_note
from tasks.mirror_config import NONE, settings_file
from tasks.runtime.causes import FirstOfEachCause
from tasks.runtime.current import STARTED, begin_run
from tasks.runtime.display import display_kind, progress_displayed, progress_in_file
from tasks.runtime.ending import RunEnd
from tasks.runtime.log import log_beginning, log_to
from tasks.runtime.notifications import Notifications
from tasks.runtime.page_renewal import PageRenewal
from tasks.runtime.processes import Processes, step_processes
from tasks.runtime.progress import Progress
from tasks.runtime.run import Run
from tasks.runtime.takeover import mirror_acquired
from tasks.steps import STEPS

log = logging.getLogger(__name__)


@contextmanager
def open_run(cut_short: threading.Event) -> Iterator[RunEnd]:
    """Open the run of this process, which holds the lock of the mirror; yield its end, which has the run.

    ``cut_short`` ends the hooks of the run.

    Raises SettingsError, MachineFault or AlreadyRunning.
    """
    config, stopping = settings_file(), threading.Event()
    with ExitStack() as stack:
        context = stack.enter_context(open_context(config, STEPS, stopping.wait, stopping))
        layout, progress = context.layout, Progress(context.layout, context.counters)
        with machine_faults(f"acquiring the lock of the mirror at {layout.root}"):
            last = stack.enter_context(mirror_acquired(context))
            processes = stack.enter_context(started_processes(context, stopping))
            stack.enter_context(heartbeat(layout))
        notifications = Notifications(context, cut_short)
        causes = stack.enter_context(shown_and_logged(config, context, progress, layout.log_file))
        progress_file = stack.enter_context(ExitStack())
        progress_file.enter_context(progress_in_file(progress))
        page = stack.enter_context(_page_renewed(config, context, progress))
        if last.not_recorded:
            log.warning("%s", last.not_recorded)
        # Before any step, and after the heartbeat began.
        with machine_faults(f"recording the owners of the files in {layout.data}"):
            restore_owner_records(layout)
        write_note(config, layout)
        run = Run(STARTED, _with_prepared_steps(context), progress, processes, stopping, last)
        begin_run(run)
        yield RunEnd(run, notifications, causes, progress_file, page)


@contextmanager
def started_processes(
    context: RunContext, stopping: threading.Event
) -> Iterator[tuple[Processes, Processes]]:
    """Fork the processes that do the steps, those that fetch and those that unpack.

    All threads of the run are started after that.
    """
    for step in context.included_steps:
        step.load(context)
    with step_processes(context, stopping) as processes:
        yield processes


@contextmanager
def shown_and_logged(
    config: Path, context: RunContext, progress: Progress, log_file: Path
) -> Iterator[FirstOfEachCause]:
    """Show the progress, and log all messages of the run, with its beginning as the first one.

    Raises MachineFault when the log cannot be opened.
    """
    kind = display_kind()
    with progress_displayed(progress, kind), log_to(log_file, each_failure=kind != NONE) as causes:
        log_beginning(config, context.settings)
        log_missing_flush(context.layout)
        yield causes


@contextmanager
def _page_renewed(config: Path, context: RunContext, progress: Progress) -> Iterator[PageRenewal | None]:
    """Have the page renewed while the run works; yield None for a mirror without a page."""
    if not context.settings.mirror.page:
        yield None
        return
    page = PageRenewal(config, context.layout, progress.knows_filesets)
    with page.while_running():
        yield page


def _with_prepared_steps(context: RunContext) -> RunContext:
    """Prepare the steps that the settings ask for; leave out an optional one that cannot be done.

    Raises MirrorError for a required one.
    """
    for step in context.included_steps:
        try:
            step.prepare(context)
        except MirrorError as error:
            if not step.optional:
                raise
            log.warning("%s", error)
            context = replace(context, left_out=context.left_out | {step.name})
    return context
