"""How the tasks run: Luigi's worker with threads instead of forked processes.

A thread only waits for the step that it hands to one of the run's own processes (``processes.py``):
one fetches for all filesets, with one pool of connections, one rate limit and one account of disk
space; the others unpack. ``docs/luigi.md`` has the measurements behind this.
"""

import os
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import luigi
import luigi.interface
from luigi.rpc import RemoteScheduler, RPCError
from luigi.scheduler import DONE, FAILED, PENDING, RUNNING
from luigi.task_register import Register
from luigi.worker import (
    WORKER_STATE_DISABLED,
    GetWorkResponse,
    TaskStatusReporter,
    Worker,
    rpc_message_callback,
)

from pipeline.errors import EXIT_FILESET_FAILED, EXIT_NOT_SCHEDULED, EXIT_STOPPED, machine_faults
from pipeline.mirror.resources.peers import StepDone
from tasks.runtime.coordinator import LOOK_SECONDS, Crew
from tasks.runtime.run import Run, begin_run, or_exit
from tasks.runtime.schedulers import CentralScheduler, LocalScheduler
from tasks.runtime.threads import Results, TaskThread, Threads
from tasks.runtime.window import Feed

# After so many tasks that are done for good, what Luigi remembers of them is let go.
FORGET_AFTER = 1000
# How often a scheduler without work is reminded of what is open.
REMIND_SECONDS = 2.0
# How often it looks for workers that are gone: at each request for work (prune_on_get_work) is dear.
PRUNE_SECONDS = 2.0
# Signals so close to each other are one request: a shell and `timeout` signal a process and its group.
ONE_REQUEST_SECONDS = 0.5

_NO_WORK = GetWorkResponse(None, [], 0, 0, 0, "active")


class MirrorWorker(Worker):
    """Luigi's worker for one update of the mirror."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._task_result_queue = Results()
        self._threads = Threads()
        self._feeds: list[Feed] = []
        self._begun: dict[str, luigi.Task] = {}
        # Of what the run itself requires: products.
        self._not_begun: set[str] = set()
        self._root: luigi.Task | None = None
        # How many of the tasks that it requires only wait.
        self._waiting = 0
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
        self._waiting = sum(step.only_waits for step in required)
        self.worker_processes += self._waiting
        self._greet_scheduler()
        added = super().add(task, multiprocess, processes)
        self._not_begun = self._scheduled_tasks.keys() - {task.task_id}
        return added

    @rpc_message_callback
    def set_worker_processes(self, n: int) -> None:
        """As many tasks at once as Luigi's page asks for, beside those that only wait."""
        super().set_worker_processes(max(1, n) + self._waiting)

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
            self._scheduler.hand_back(self._id)
            self._scheduler.catch_up()
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
        if self._task_result_queue.empty:
            # It waits now, perhaps for long, and others may be waiting for what it has to say.
            self._scheduler.catch_up()
        super()._handle_next_task()

    def _get_work(self) -> GetWorkResponse:
        self._look_around()
        if self._run.stopping.is_set() and not self._stop_requesting_work:
            self._start_phasing_out()
            self._let_waiting_go()
        if self._stop_requesting_work:
            self._scheduler.hand_back(self._id)
            return self._finish_begun()
        self._hand_on()
        now = time.monotonic()
        if now > self._prune_at:
            self._prune_at = now + PRUNE_SECONDS
            self._scheduler.prune()
        if not self._scheduler.has_handed_out and (self._has_its_fill() or self._has_results()):
            return _NO_WORK
        if isinstance(self._scheduler, CentralScheduler):
            self._scheduler.hands = self.worker_processes - len(self._running_tasks) if self._alone else 1
        work = super()._get_work()
        if work.worker_state == WORKER_STATE_DISABLED and not self._stop_requesting_work:
            # By somebody on Luigi's page; Luigi's worker says so too once it asks for no more work.
            self._run.stop()
            self._let_waiting_go()
        if work.task_id is None and now > self._remind_at:
            self._remind_at = now + REMIND_SECONDS
            self._remind()
        return work

    def _has_results(self) -> bool:
        """Whether tasks have ended meanwhile: one call tells of them all, and asks for what can be begun."""
        return bool(self._running_tasks) and not self._task_result_queue.empty

    def _has_its_fill(self) -> bool:
        """Whether filesets are in hand and nothing else can be begun now: asking would be for nothing."""
        if self._not_begun:
            return False
        held = self._held()
        free = {name for name, limit in self._run.resources().items() if held[name] < limit}
        in_hand = sum(feed.has_step(task_id) for feed in self._feeds for task_id in self._running_tasks)
        to_fetch = sum(len(feed.open) for feed in self._feeds) - in_hand - len(self._begun)
        could_fetch = to_fetch and "connections" in free and not self._has_its_share(held)
        return in_hand > 0 and not could_fetch and not (self._begun and "unpackers" in free)

    def _held(self) -> Counter[str]:
        """What the tasks that run here hold of all that the scheduler shares out."""
        held: Counter[str] = Counter()
        for running in self._running_tasks.values():
            held.update(running.task.process_resources())
        return held

    @property
    def _sharers(self) -> int:
        """How many processes take part in the update."""
        return 1 + (len(self._crew.workers) if self._crew else 0)

    @property
    def _alone(self) -> bool:
        return self._sharers == 1

    def _has_its_share(self, held: Counter[str]) -> bool:
        """Whether it fetches its part beside others: whoever asks first would otherwise have all for good."""
        connections = self._run.resources()["connections"]
        return not self._alone and held["connections"] * self._sharers >= connections

    def _remind(self) -> None:
        """Add again what is open and not running here: the scheduler may have lost it, or it is done.

        One that was restarted has always lost what there is to share out.
        """
        if self._feeds:
            self._scheduler.update_resources(
                **self._run.resources(self._crew.processors if self._crew else 0)
            )
        for feed in self._feeds:
            for task in feed.open:
                if self._crew and self._crew.workers:
                    # What has failed elsewhere meanwhile would be tried again.
                    self._crew.hear()
                steps = feed.steps(task)
                if steps and not any(step.task_id in self._running_tasks for step in steps):
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
        self._scheduler.settle(over)
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
            self._threads,
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
        from tasks.runtime.peer_worker import AssistantWorker

        kind = AssistantWorker if assistant else MirrorWorker
        return kind(scheduler=scheduler, worker_processes=worker_processes)


def use_mirror_worker() -> None:
    """Let the ``luigi`` command make its worker here: it has no setting for that."""
    luigi.interface._WorkerSchedulerFactory = _MirrorWorkerFactory
    # Luigi reads these settings of [core] elsewhere, and warns that nobody does.
    luigi.interface.core.ignore_unconsumed |= {"rpc_retry_attempts", "rpc_retry_wait"}
