"""How the tasks run: Luigi's worker with threads instead of forked processes.

One process does a whole update, so that all filesets share one pool of connections, one rate limit
and one account of disk space, and a kill leaves no orphans. The work (sockets, md5, inflate, disk)
gives the interpreter lock free. ``docs/luigi.md`` has the measurements behind this.
"""

import os
import queue
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import luigi
import luigi.interface
from luigi.rpc import RemoteScheduler, RPCError
from luigi.scheduler import DONE, FAILED, PENDING, RUNNING
from luigi.task_register import Register
from luigi.worker import GetWorkResponse, TaskProcess, TaskStatusReporter, Worker

from pipeline.errors import EXIT_FILESET_FAILED, EXIT_NOT_SCHEDULED, EXIT_STOPPED, machine_faults
from pipeline.mirror.assistants import StepDone
from pipeline.mirror.site import Tally
from tasks.crew import LOOK_SECONDS, Crew
from tasks.run import Run, begin_run, or_exit
from tasks.schedulers import CentralScheduler, LocalScheduler

# Filesets known to the scheduler at once: each request for work looks at all that is pending.
WINDOW = 32
# After so many tasks that are done for good, what Luigi remembers of them is let go.
FORGET_AFTER = 1000
# How often a scheduler without work is reminded of what is open.
REMIND_SECONDS = 2.0
# How often it looks for workers that are gone: at each request for work (prune_on_get_work) is dear.
PRUNE_SECONDS = 2.0
# Signals so close to each other are one request: a shell and `timeout` signal a process and its group.
ONE_REQUEST_SECONDS = 0.5

_NO_WORK = GetWorkResponse(None, [], 0, 0, 0, "active")


class TaskThread(TaskProcess):
    """Luigi's task process, run in a thread."""

    def start(self) -> None:
        """Run the task beside the worker."""
        self._thread = threading.Thread(target=self.run, name=self.task.task_id, daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the task still runs."""
        return self._thread.is_alive()

    def finish(self) -> None:
        """Wait until the task has ended."""
        self._thread.join()

    @property
    def exitcode(self) -> None:
        """A thread has none: what went wrong comes through the result queue."""


class Results:
    """The worker's result queue; ``wake`` makes its reader look around at once.

    ``put`` and ``wake`` are safe inside a signal handler.
    """

    def __init__(self) -> None:
        # Whoever waits looks around that often (seconds), whatever Luigi says.
        self.patience = float("inf")
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, result: tuple) -> None:
        """Hand in the result of a task."""
        self._queue.put(result)

    def wake(self) -> None:
        """Let the reader go on as if nothing had come."""
        self._queue.put(None)

    def get(self, timeout: float) -> tuple:
        """The next result; raises queue.Empty after ``timeout`` seconds or when woken."""
        result = self._queue.get(timeout=min(timeout, self.patience))
        if result is None:
            raise queue.Empty
        return result

    def close(self) -> None:
        """Nothing is left open."""


class Feed:
    """Tasks that a running task hands on to the worker, ``WINDOW`` of them at a time.

    A task is settled when it is done, or when it or what it requires has failed. ``tally`` learns of
    filesets that were done elsewhere.
    """

    def __init__(self, tasks: Iterator[luigi.Task], tally: Tally) -> None:
        self._tasks = tasks
        self._tally = tally
        self._last_of: dict[str, luigi.Task] = {}
        self._open: set[str] = set()
        self.settled: list[str] = []
        self.failed = 0
        self.ended = threading.Event()

    def next_task(self) -> luigi.Task | None:
        """The next task to hand on; None while enough are open, or when there are no more."""
        if self.ended.is_set() or len(self._open) >= WINDOW:
            return None
        task = next(self._tasks, None)
        if task is None:
            if not self._open:
                self.ended.set()
            return None
        self._open.add(task.task_id)
        for step in (task, *task.deps()):
            self._last_of[step.task_id] = task
        return task

    @property
    def open(self) -> list[luigi.Task]:
        """The tasks that are handed on and not settled."""
        return [self._last_of[task_id] for task_id in self._open]

    def has_step(self, task_id: str) -> bool:
        """Whether it is a step of a task that is handed on and not settled."""
        return task_id in self._last_of

    def is_open(self, task: luigi.Task) -> bool:
        """Whether the task is handed on and not settled."""
        return task.task_id in self._open

    def settle(self, task_id: str, status: str) -> luigi.Task | None:
        """Take note of a result; the task that goes on from there, if one does."""
        last = self._last_of.get(task_id)
        if last is None or last.task_id not in self._open:
            return None
        if status == DONE and task_id != last.task_id:
            return last
        if status in (DONE, FAILED):
            self.failed += status == FAILED
            self._tally.count(done=status == DONE and not last.did)
            self._open.remove(last.task_id)
            for step in (last, *last.deps()):
                self._last_of.pop(step.task_id, None)
                self.settled.append(step.task_id)
        return None


class MirrorWorker(Worker):
    """Luigi's worker for one update of the mirror."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._task_result_queue = Results()
        self._feeds: list[Feed] = []
        self._begun: dict[str, luigi.Task] = {}
        # Of what the run itself requires: products.
        self._not_begun: set[str] = set()
        self._root: luigi.Task | None = None
        self._remind_at = 0.0
        self._prune_at = 0.0
        self._forgotten = 0
        # Luigi keeps every word to the scheduler, for a summary that is not printed here.
        self._add_task_history = self._get_work_response_history = deque(maxlen=1)
        self._asked_at: float | None = None
        self._greeting = False
        self._crew: Crew | None = None
        self._before_assistants: set[str] = set()

    def __enter__(self) -> "MirrorWorker":
        self._run = or_exit(self._begin)
        self._run.hand_on = self._settle
        super().__enter__()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_interrupt)
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool:
        try:
            return super().__exit__(kind, value, trace)
        finally:
            if self._crew:
                self._crew.close()
            self._run.end()

    def _begin(self) -> Run:
        return begin_run()

    def add(self, task: luigi.Task, multiprocess: bool = False, processes: int = 0) -> bool:
        """Schedule the task. What a whole update asks first is asked here, for a clear answer."""
        if self._root is not None:
            return super().add(task, multiprocess, processes)
        self._root = task
        required = or_exit(task.deps)
        or_exit(task.complete)
        self.worker_processes += sum(step.only_waits for step in required)
        self._greet_scheduler()
        added = super().add(task, multiprocess, processes)
        self._not_begun = self._scheduled_tasks.keys() - {task.task_id}
        return added

    def _greet_scheduler(self) -> None:
        """Tell the scheduler what there is to share out. Ends the run when it does not answer as one."""
        self._greeting = True
        try:
            self._scheduler.update_resources(**self._run.resources())
            if self._run.killed:
                self._disown(self._run.killed)
        except (RPCError, ValueError, LookupError, TypeError) as error:
            other = RPCError("that of another program; see scheduler_host and scheduler_port in luigi.cfg")
            self._run.lose_scheduler(error if isinstance(error, RPCError) else other)
            raise SystemExit(self._run.finish()) from None

    def _disown(self, killed: dict[str, object]) -> None:
        """Report on behalf of a worker that was killed that nothing of it runs any more.

        A central scheduler would believe so for as long as ``worker_disconnect_delay``, and hand nothing out.
        """
        for worker in self._scheduler.worker_list(include_running=True):
            if (worker.get("host"), worker.get("pid")) == (killed.get("host"), killed.get("pid")):
                for task_id in worker["running"]:
                    self._scheduler.add_task(worker=worker["name"], task_id=task_id, status=FAILED)

    def run(self) -> bool:
        """Work until all is done, then leave with the exit code that is true of the mirror."""
        self._greeting = False
        try:
            if self._make_ready():
                super().run()
        except RPCError as error:
            self._run.lose_scheduler(error)
            self._finish_running()
        except Exception as error:
            self._run.break_off(error)
            self._finish_running()
        self._conclude()
        raise SystemExit(self._run.finish())

    def _finish_running(self) -> None:
        self._let_waiting_go()
        for task in self._running_tasks.values():
            task.finish()

    def _make_ready(self) -> bool:
        """Before the first task runs; whether there is anything to do."""
        if self._root.takes_assistants and isinstance(self._scheduler, RemoteScheduler):
            with machine_faults("making ready for assistants"):
                self._crew = Crew(self._run, self._scheduler, self._id, self._settle_elsewhere)
        return True

    def _conclude(self) -> None:
        if self._crew:
            self._crew.dismiss()
        if self._run.code == 0 and not self._root.complete():
            self._run.note(EXIT_FILESET_FAILED if self._run.site.tally.failed else EXIT_NOT_SCHEDULED)

    def handle_interrupt(self, signum: int, _: Any) -> None:
        """Stop after the filesets in hand; at once when asked a second time."""
        if self._asked_at is not None:
            if signum != signal.SIGUSR1 and time.monotonic() - self._asked_at > ONE_REQUEST_SECONDS:
                os._exit(EXIT_STOPPED)
            return
        self._asked_at = time.monotonic()
        self._run.stop()
        self._start_phasing_out()
        self._let_waiting_go()
        if self._greeting:
            # Nothing is in hand, and a scheduler that does not answer is not waited for.
            raise SystemExit(self._run.finish())

    def _let_waiting_go(self) -> None:
        for feed in self._feeds:
            feed.ended.set()
        self._task_result_queue.wake()

    def _settle(self, tasks: Iterator[luigi.Task]) -> int:
        """Have the tasks run, and wait until all are settled; how many failed. Called by running tasks."""
        feed = Feed(tasks, self._run.site.tally)
        self._feeds.append(feed)
        if self._run.stopping.is_set():
            # The request came before there was this feed to let go.
            feed.ended.set()
        self._task_result_queue.wake()
        feed.ended.wait()
        return feed.failed

    def _settle_elsewhere(self, step: StepDone) -> None:
        """Take note of a step that an assistant did."""
        self._begun.pop(step.task, None)
        for feed in self._feeds:
            failed = feed.failed
            feed.settle(step.task, step.status)
            self._run.site.tally.count(failed=feed.failed - failed)

    def _look_around(self) -> None:
        """See what assistants did, and who came or went; whoever came gets what is open."""
        if not self._crew:
            return
        if self._crew.look(admit=not self._before_assistants) and not self._stop_requesting_work:
            self._remind()
        self._task_result_queue.patience = LOOK_SECONDS if self._crew.workers else float("inf")

    def _handle_next_task(self) -> None:
        self._look_around()
        self._hand_on()
        super()._handle_next_task()

    def _get_work(self) -> GetWorkResponse:
        self._look_around()
        if self._run.stopping.is_set() and not self._stop_requesting_work:
            self._start_phasing_out()
            self._let_waiting_go()
        if self._stop_requesting_work:
            return self._finish_begun()
        self._hand_on()
        now = time.monotonic()
        if now > self._prune_at:
            self._prune_at = now + PRUNE_SECONDS
            self._scheduler.prune()
        if self._has_its_fill():
            return _NO_WORK
        work = super()._get_work()
        if work.task_id is None and now > self._remind_at:
            self._remind_at = now + REMIND_SECONDS
            self._remind()
        return work

    def _has_its_fill(self) -> bool:
        """Whether filesets are in hand and nothing else can be begun now: asking would be for nothing."""
        if self._not_begun:
            return False
        held: Counter[str] = Counter()
        for running in self._running_tasks.values():
            held.update(running.task.process_resources())
        free = {name for name, limit in self._run.resources().items() if held[name] < limit}
        in_hand = sum(feed.has_step(task_id) for feed in self._feeds for task_id in self._running_tasks)
        to_fetch = sum(len(feed.open) for feed in self._feeds) - in_hand - len(self._begun)
        could = (to_fetch and "connections" in free) or (self._begun and "unpackers" in free)
        return in_hand > 0 and not could

    def _remind(self) -> None:
        """Add again what is open and not running here: the scheduler may have lost it, or it is done."""
        for feed in self._feeds:
            for task in feed.open:
                if self._crew and self._crew.workers:
                    # What has failed elsewhere meanwhile would be tried again.
                    self._crew.hear()
                if feed.is_open(task) and not any(
                    step.task_id in self._running_tasks for step in (task, *task.deps())
                ):
                    self.add(task)

    def _hand_on(self) -> None:
        for feed in self._feeds:
            while (task := feed.next_task()) is not None:
                if not self.add(task):
                    feed.settle(task.task_id, FAILED)

    def _add_task(self, *args: Any, **result: Any) -> None:
        super()._add_task(*args, **result)
        task_id, status = result["task_id"], result["status"]
        self._think_of_assistants(args, result)
        self._begun.pop(task_id, None)
        if status in (DONE, FAILED):
            self._not_begun.discard(task_id)
        for feed in self._feeds:
            if (following := feed.settle(task_id, status)) is not None:
                self._begun[following.task_id] = following
            self._forget(feed.settled)

    def _forget(self, settled: list[str]) -> None:
        """Let go of tasks that nobody will ask about again: memory must not grow with their number."""
        # What was settled elsewhere may still run here, and its result comes yet.
        running = [task_id for task_id in settled if task_id in self._running_tasks]
        over = [task_id for task_id in settled if task_id not in self._running_tasks]
        for task_id in over:
            self._scheduled_tasks.pop(task_id, None)
        if isinstance(self._scheduler, LocalScheduler):
            self._scheduler.forget(over)
        self._forgotten += len(over)
        settled[:] = running
        if self._forgotten > FORGET_AFTER:
            self._forgotten = 0
            Register.clear_instance_cache()

    def _think_of_assistants(self, args: tuple, result: dict[str, Any]) -> None:
        """Hand the step of a fileset to them too; keep them out until the products' listings are here."""
        task_id, pending = result["task_id"], result["status"] == PENDING
        task = self._scheduled_tasks[task_id]
        if task.before_assistants:
            (self._before_assistants.add if pending else self._before_assistants.discard)(task_id)
        if self._crew and task.for_assistants and pending:
            for worker in self._crew.workers:
                self._scheduler.add_task(*args, **result | {"worker": worker})

    def _finish_begun(self) -> GetWorkResponse:
        """While stopping: the next step of a fileset of which this run did a step; no other work."""
        task_id = None
        if self._begun:
            task_id, _ = self._begun.popitem()
            self._scheduler.add_task(worker=self._id, task_id=task_id, status=RUNNING)
        return _NO_WORK._replace(task_id=task_id)

    def _create_task_process(self, task: luigi.Task) -> TaskThread:
        self._begun.pop(task.task_id, None)
        self._not_begun.discard(task.task_id)
        return TaskThread(
            task,
            self._id,
            self._task_result_queue,
            TaskStatusReporter(self._scheduler, task.task_id, self._id, None),
            use_multiprocessing=True,
            check_unfulfilled_deps=self._config.check_unfulfilled_deps,
            check_complete_on_run=True,
        )


class _MirrorWorkerFactory(luigi.interface._WorkerSchedulerFactory):
    def create_local_scheduler(self) -> LocalScheduler:
        return LocalScheduler()

    def create_remote_scheduler(self, url: str) -> CentralScheduler:
        return CentralScheduler(url)

    def create_worker(self, scheduler: Any, worker_processes: int, assistant: bool = False) -> MirrorWorker:
        # Only here: an assistant is a worker of this kind.
        from tasks.assistant import AssistantWorker

        kind = AssistantWorker if assistant else MirrorWorker
        return kind(scheduler=scheduler, worker_processes=worker_processes)


def use_mirror_worker() -> None:
    """Let the ``luigi`` command make its worker here: it has no setting for that."""
    luigi.interface._WorkerSchedulerFactory = _MirrorWorkerFactory
    # Luigi reads these settings of [core] elsewhere, and warns that nobody does.
    luigi.interface.core.ignore_unconsumed |= {"rpc_retry_attempts", "rpc_retry_wait"}
