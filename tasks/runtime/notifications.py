"""Notifications of a run: the hooks ``on_complete`` and ``on_run``, and one message with what is new."""

import logging
import threading
from collections import defaultdict
from dataclasses import dataclass
from queue import SimpleQueue

from pipeline.errors import machine_fault
from pipeline.mirror.context import RunContext
from pipeline.mirror.state.fileset_files import stored_paths, unpacked_paths
from pipeline.reporting.history import RunRecord
from pipeline.reporting.hooks import NotNotified, addresses, run_hook, send_message
from pipeline.reporting.notification import (
    RunSummary,
    as_json,
    body,
    is_news,
    note_notified,
    summary_of,
    title,
)
from pipeline.units import as_count

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NotificationPolicy:
    """Most seconds of a hook and of sending; of waiting, at the end, for hooks of complete filesets."""

    hook: float = 60.0
    send: float = 30.0
    drain: float = 60.0


DEFAULT = NotificationPolicy()


class Notifications:
    """Notifications of one run, until ``cut_short`` is set. No failure of one is a failure of the run.

    Safe for several threads.
    """

    def __init__(
        self, context: RunContext, cut_short: threading.Event, policy: NotificationPolicy = DEFAULT
    ) -> None:
        self._context = context
        self._cut_short = cut_short
        self._settings = context.settings.notify
        self._policy = policy
        self._complete: dict[str, list[str]] = defaultdict(list)
        self._queue: SimpleQueue[tuple[str, str] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failed = 0
        # Filesets whose hook is to run, counted by the worker's thread; and has ended, by that of the hooks.
        self._queued = 0
        self._ended = 0
        self._is_closed = False

    def complete(self, product: str, fileset: str) -> None:
        """Note that the run completed a fileset, and start its hook after those before it."""
        if not self._settings.is_enabled:
            return
        self._complete[product].append(fileset)
        if self._settings.on_complete is None:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run_hooks, name="hooks", daemon=True)
            self._thread.start()
        self._queued += 1
        self._queue.put((product, fileset))

    def end(self, run: RunRecord) -> None:
        """Wait for the hooks of filesets, run that of the run, and send the message if there is news."""
        if not self._settings.is_enabled:
            return
        self._drain()
        layout = self._context.layout
        try:
            summary = summary_of(
                layout, self._context.settings, self._context.included_steps, run, self._complete
            )
            news = is_news(layout, summary)
            self._run_hook_of_run(summary, news)
            if news and self._settings.urls:
                self._send(summary)
            if news:
                note_notified(layout, summary)
        except NotNotified as error:
            log.warning("%s. The next run sends it again.", error)
        except OSError as error:
            log.warning("%s", machine_fault("notifying of the run", error))

    def _send(self, summary: RunSummary) -> None:
        urls = addresses(self._settings.urls)
        if urls:
            send_message(urls, title(summary), body(summary), self._policy.send, self._cut_short)

    def _run_hook_of_run(self, summary: RunSummary, news: bool) -> None:
        if self._settings.on_run is None:
            return
        environment = {"IPP_MIRROR_ROOT": summary.root}
        limits = self._policy.hook, self._cut_short
        try:
            run_hook(self._settings.on_run, as_json(summary, news), environment, *limits)
        except NotNotified as error:
            log.warning("notify.on_run: %s. The run is not affected.", error)

    def _run_hooks(self) -> None:
        while (fileset := self._queue.get()) is not None and not (
            self._is_closed or self._cut_short.is_set()
        ):
            try:
                self._run_hook_of(*fileset)
            except (NotNotified, OSError) as error:
                self._failed += 1
                level = logging.DEBUG if self._failed > 1 else logging.WARNING
                log.log(level, "notify.on_complete, fileset %s/%s: %s", *fileset, error)
            self._ended += 1

    def _run_hook_of(self, product: str, fileset: str) -> None:
        layout = self._context.layout
        paths = stored_paths(layout, product, fileset) + unpacked_paths(layout, product, fileset)
        listed = "".join(f"{path}\n" for path in paths)
        names = {"ROOT": str(layout.root), "PRODUCT": product, "FILESET": fileset}
        environment = {f"IPP_MIRROR_{name}": value for name, value in names.items()}
        command = self._settings.on_complete or ""
        run_hook(command, listed, environment, self._policy.hook, self._cut_short)

    def _drain(self) -> None:
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(self._policy.drain)
        self._is_closed = True
        if self._failed > 1:
            log.warning("notify.on_complete: %d commands failed; the log names them", self._failed)
        if waiting := self._queued - self._ended:
            log.warning("notify.on_complete: not run, or not ended, for %s", as_count(waiting, "fileset"))
