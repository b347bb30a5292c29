"""Luigi's worker with threads instead of a forked process for each task.

A thread only waits for the step that it sends to one of the run's own processes (``processes.py``).
``docs/luigi.md`` has the reasons.
"""

import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from queue import Empty
from typing import Any

import luigi
from luigi.rpc import RemoteScheduler, RPCError
from luigi.scheduler import WORKER_STATE_DISABLED
from luigi.task_register import Register, load_task
from luigi.task_status import DONE, FAILED, RUNNING
from luigi.worker import Worker

from pipeline.errors import EXIT_FILESET_FAILED, EXIT_NOT_SCHEDULED, machine_faults
from tasks.runtime.coordinator import POLL_SECONDS, Coordinator, NoPeers
from tasks.runtime.run import Run, begin_run, or_exit
from tasks.runtime.runner import TaskRunner
from tasks.runtime.schedulers import CentralScheduler, LocalScheduler, fail_tasks_of
from tasks.runtime.signals import StopSignals
from tasks.runtime.task import MirrorTask

# After so many forgotten tasks, Luigi's cache of task instances is cleared.
FORGET_AFTER = 1000
# Interval at which the scheduler is asked to look for workers that are gone, and told again of all tasks in
# flight if it had none to hand out: one that was restarted has lost them.
REFRESH_SECONDS = 2.0
# Calls without an answer wait so long for one with an answer before they are sent by themselves.
FLUSH_SECONDS = 0.02
WAIT_SECONDS = 1.0


class MirrorWorker(Worker):
    """Luigi's worker for one update of the mirror; ``worker_processes`` 0: one for each step that fits."""

    _run: Run

    def __init__(self, scheduler: LocalScheduler | CentralScheduler, worker_processes: int) -> None:
        slots = worker_processes
        super().__init__(scheduler=scheduler, worker_processes=slots, no_install_shutdown_handler=True)
        # Luigi adds the calls of a scheduler to its client at run time.
        self._client: Any = scheduler
        # Luigi keeps all calls of add_task for a summary that is not printed here.
        self._add_task_history = deque(maxlen=0)  # type: ignore[assignment]
        self._root: Any = None
        # True while a task that the window does not know, of a product for example, may be ready to run.
        self._ask_anyway = True
        self._refresh_at = 0.0
        self._started_since_refresh = False
        self._to_forget: set[str] = set()
        self._forgotten = 0
        self._registering = False
        self._peers = NoPeers()

    def __enter__(self) -> "MirrorWorker":
        self._run = or_exit(self._begin_run)
        self._runner = TaskRunner(self._id, self._client, self._run.results)
        super().__enter__()
        StopSignals(self._stop)
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool:
        try:
            return bool(super().__exit__(kind, value, trace))
        finally:
            self._peers.close()
            self._run.end()

    def _begin_run(self) -> Run:
        return begin_run(Run)

    def _stop(self) -> None:
        self._run.stop()
        if self._registering:
            # Nothing is in progress, and a scheduler that does not answer is not waited for.
            raise SystemExit(self._run.finish())

    def add(self, task: luigi.Task, multiprocess: bool = False, processes: int = 0) -> bool:
        """Schedule the task; before the first one, make sure that the server and the scheduler answer."""
        if self._root is None:
            self._root = task
            or_exit(task.deps)
            or_exit(task.complete)
            self._register_resources()
        return bool(super().add(task, multiprocess, processes))

    def _register_resources(self) -> None:
        """Tell the scheduler of the resources. Ends the run when no scheduler answers."""
        self._registering = True
        killed = self._run.killed
        try:
            self._client.update_resources(**self._run.resources())
            if killed:
                fail_tasks_of(
                    self._client, lambda it: all(it.get(key) == killed[key] for key in ("host", "pid"))
                )
        except (RPCError, ValueError, LookupError, TypeError) as error:
            other = RPCError("that of another program; see scheduler_host and scheduler_port in luigi.cfg")
            self._run.lose_scheduler(error if isinstance(error, RPCError) else other)
            raise SystemExit(self._run.finish()) from None

    def run(self) -> bool:
        """Work until all is done or the run stops; end the program with the exit code of the run."""
        self._registering = False
        try:
            if self._prepare():
                self._add_worker()
                self.set_worker_processes(self.worker_processes or self._run.slots)
                self._work()
                self._finish_running()
            self._client.flush()
        except RPCError as error:
            self._run.lose_scheduler(error)
            self._finish_running(tell=False)
        except Exception as error:
            self._run.abort(error)
            self._runner.cancel()
            self._finish_running(tell=False)
        self._conclude()
        raise SystemExit(self._run.finish())

    def _prepare(self) -> bool:
        """Prepare for the first task; return False when there is nothing to do."""
        if self._root and self._root.takes_peers and isinstance(self._client, RemoteScheduler):
            with machine_faults("preparing for workers on other hosts"):
                self._peers = Coordinator(self._run, self._client, self._id, self._complete)
        return True

    def _work(self) -> None:
        """Run tasks until none is left; after a request to stop, only the last steps of what was started."""
        while True:
            while self._take_result(0):
                pass
            if self._peers.poll() and not self._run.stopping.is_set():
                self._resubmit()
            self._refresh()
            stopping = self._run.stopping.is_set()
            tasks = self._next_steps() if stopping else self._next_tasks()
            for task in tasks:
                self._start(task)
            if tasks or stopping != self._run.stopping.is_set():
                continue
            if self._is_over():
                return
            if not self._take_result(FLUSH_SECONDS):
                self._client.flush()
                self._take_result(self._wait_seconds)

    def _is_over(self) -> bool:
        return not (self._runner.slots_used if self._run.stopping.is_set() else self._runner.running)

    @property
    def _wait_seconds(self) -> float:
        return POLL_SECONDS if self._peers.workers else WAIT_SECONDS

    def _next_steps(self) -> list[MirrorTask]:
        """Return the next step of a fileset of which this process did a step; claim it from the scheduler."""
        step = self._resumable_step() if self._runner.slots_used < self.worker_processes else None
        if step is None:
            return []
        self._client.add_task(worker=self._id, task_id=step.task_id, status=RUNNING)
        return [step]

    def _resumable_step(self) -> MirrorTask | None:
        steps: Iterator[Any] = self._run.window.resumable(self._runner.running)
        return next(steps, None)

    def _next_tasks(self) -> list[MirrorTask]:
        """Submit the tasks that the window has room for; return those that the scheduler hands out."""
        while (added := self._run.window.submit()) is not None:
            if not self.add(added):
                self._complete(added.task_id, FAILED)
        running = self._runner.running
        wanted = min(self._startable(), self.worker_processes - self._runner.slots_used)
        if wanted < 1:
            return []
        works = self._client.get_works(wanted, self._id, self.host, list(running))
        if any(work.get("worker_state") == WORKER_STATE_DISABLED for work in works):
            self._run.stop()
        found = [work for work in works if work["task_id"] is not None and work["task_id"] not in running]
        self._ask_anyway = self._ask_anyway and bool(found)
        return [self._task(work) for work in found]

    def _task(self, work: dict[str, Any]) -> MirrorTask:
        if work["task_id"] not in self._scheduled_tasks:
            loaded = load_task(work.get("task_module"), work["task_family"], work["task_params"])
            self._scheduled_tasks[work["task_id"]] = loaded
        task: MirrorTask = self._scheduled_tasks[work["task_id"]]
        return task

    def _startable(self) -> int:
        """Return how many of the ready steps fit into the share of this process; 0 if asking is in vain."""
        held, share = self._runner.held(), self._run.fair_share(self._processes)
        count = 0
        for step in self._run.window.ready(self._runner.running):
            if all(held[name] + amount <= share.get(name, amount) for name, amount in step.resources.items()):
                held.update(step.resources)
                count += 1
        if self._ask_anyway or not self._runner.running:
            count = max(count, 1)
        # Of several processes, none is to take all tasks at once.
        return min(count, 1) if self._processes > 1 else count

    @property
    def _processes(self) -> int:
        """Number of processes that take part in the update."""
        return 1 + len(self._peers.workers)

    def _start(self, task: MirrorTask) -> None:
        self._runner.start(task)
        self._scheduled_tasks[task.task_id] = task
        self._started_since_refresh = True
        self._run.window.start(task.task_id)

    def _take_result(self, seconds: float | None, tell: bool = True) -> bool:
        """Take the next result of a task; return False if none came within the time."""
        try:
            result = self._runner.take_result(seconds)
        except Empty:
            return False
        if result is not None:
            task, status, explanation = result
            self._record_result(task, status)
            if tell:
                self._tell(task, status, explanation)
            else:
                self._complete(task.task_id, status)
        return True

    def _record_result(self, task: MirrorTask, status: str) -> None:
        """Record the result where others than the scheduler read it."""

    def _tell(self, task: MirrorTask, status: str, explanation: str) -> None:
        self._add_task(
            worker=self._id,
            task_id=task.task_id,
            status=status,
            expl=json.dumps(explanation),
            resources=task.process_resources(),
            runnable=None,
            params=task.to_str_params(),
            family=task.task_family,
            module=task.task_module,
            retry_policy_dict={"retry_count": task.retry_count},
        )

    def _add_task(self, *args: Any, **result: Any) -> None:
        """Tell the scheduler of a task: that it is to be done, or how it ended."""
        super()._add_task(*args, **result)
        task_id, status = result["task_id"], result["status"]
        self._peers.offer(self._scheduled_tasks[task_id], result)
        if status in (DONE, FAILED):
            self._complete(task_id, status)

    def _complete(self, task_id: str, status: str) -> None:
        """Note the result of a task in the window, and forget the tasks that nothing needs any more."""
        released = self._run.window.complete(task_id, status)
        self._ask_anyway = self._ask_anyway or released is None
        self._to_forget.update(released or [])
        # The result of a task that was done elsewhere, and runs here as well, is still to come.
        over = self._to_forget - self._runner.running.keys()
        self._to_forget -= over
        self._client.forget_completed(list(over))
        self._forget(over)

    def _forget(self, task_ids: Iterable[str]) -> None:
        """Free the memory of tasks: it must not grow with their number."""
        for task_id in task_ids:
            self._scheduled_tasks.pop(task_id, None)
            self._forgotten += 1
        if self._forgotten > FORGET_AFTER:
            self._forgotten = 0
            Register.clear_instance_cache()

    def _refresh(self) -> None:
        """From time to time, have the scheduler look for workers that are gone, and resubmit what it lost."""
        now = time.monotonic()
        if now < self._refresh_at or self._run.stopping.is_set():
            return
        self._refresh_at = now + REFRESH_SECONDS
        self._client.prune()
        if not self._started_since_refresh:
            self._resubmit()
        self._started_since_refresh = False
        self._ask_anyway = True

    def _resubmit(self) -> None:
        """Register the resources and the tasks in flight again, except for those that run here."""
        self._client.update_resources(**self._run.resources(self._peers.processors))
        for task in self._run.window.in_flight:
            # A task that has failed elsewhere must not be added again.
            self._peers.read()
            if self._run.window.is_idle(task, self._runner.running):
                self.add(task)

    def _finish_running(self, tell: bool = True) -> None:
        """Wait for the running tasks; release those that only wait once all others are done."""
        while self._runner.slots_used:
            self._take_result(None, tell)
        self._peers.drain()
        self._run.window.abort()
        while self._runner.running:
            self._take_result(None, tell)

    def _conclude(self) -> None:
        if self._run.code == 0 and self._root and not self._root.complete():
            failed = self._run.context.counters.failed
            self._run.note(EXIT_FILESET_FAILED if failed else EXIT_NOT_SCHEDULED)
