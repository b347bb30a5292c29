"""Luigi's two schedulers, which also forget tasks: the local and the central one (``luigid.py``)."""

import threading
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Any

from luigi.rpc import RemoteScheduler, RPCError
from luigi.scheduler import RPC_METHODS, Scheduler, rpc_method
from luigi.task_status import FAILED, RUNNING

from tasks.runtime.scheduler_answers import checked_messages, checked_workers, checked_works, running_tasks

# Completed tasks that a central scheduler keeps for its page: 10 kB each.
SHOWN = 2000


class MirrorScheduler(Scheduler):
    """Luigi's scheduler with three more calls: ``forget``, ``get_works``, ``several``."""

    @rpc_method()
    def is_pause_enabled(self) -> dict[str, bool]:
        """Return Luigi's answer, and that ``several`` and ``forget`` are known."""
        answer: dict[str, bool] = super().is_pause_enabled()
        return answer | {"several": True}

    @rpc_method()
    def forget(self, task_ids: list[str]) -> None:
        """Remove tasks; Luigi itself does so only long after their worker has gone."""
        for task_id in task_ids:
            if (task := self._state.get_task(task_id)) is not None:
                for worker in self._state.get_active_workers():
                    worker.tasks.discard(task)
                self._state.inactivate_tasks([task_id])

    @rpc_method()
    def get_works(self, most: int, worker: str, host: str, running: list[str]) -> list[dict[str, Any]]:
        """Return the answers to at most so many calls of ``get_work``: until there is no task left."""
        return _works_of(self, most, worker, host, running)

    @rpc_method()
    def several(self, calls: list[tuple[str, dict[str, Any]]]) -> list[Any]:
        """Make the calls, each a method and its arguments, in this order; return the answers."""
        return [self._answer(method, arguments) for method, arguments in calls]

    def _answer(self, method: str, arguments: dict[str, Any]) -> Any:
        if method not in RPC_METHODS:
            raise ValueError(f"expected a call of a scheduler, got {method!r}")
        return getattr(self, method)(**arguments)

    def _serialize_task(self, task_id: str, include_deps: bool = True, deps: Any = None) -> dict[str, Any]:
        """Return what Luigi's page shows of a task: for one of a mirror, what it does and how far it is.

        The page shows a status message after a click only; so the message is shown with the parameters too.
        The priority, which is a place in the order, and the resources, which are one slot, are not shown.
        """
        shown: dict[str, Any] = super()._serialize_task(task_id, include_deps, deps)
        if "mirror" not in shown["params"]:
            return shown
        if shown["status"] == RUNNING and shown["status_message"]:
            shown["params"] = shown["params"] | {"progress": shown["status_message"]}
        return shown | {"priority": None, "resources": {}, "resources_running": {}}


class LocalScheduler(MirrorScheduler):
    """Scheduler inside the only process that uses it."""

    def __init__(self) -> None:
        super().__init__(prune_on_get_work=False, record_task_history=False)

    def forget_completed(self, task_ids: list[str]) -> None:
        """Remove tasks that are done or have failed for good."""
        self.forget(task_ids)

    def flush(self) -> None:
        """Do nothing: no call is deferred."""


class CentralScheduler(RemoteScheduler):
    """Luigi's client of a central scheduler, for the thread that creates it; others may call it too.

    Nearly all the cost of a call is HTTP. So ``add_task`` and ``forget``, which have no answer, are deferred
    and sent with the next call that has one, or by ``flush``. A luigid without ``several`` gets each call by
    itself, and keeps all tasks.
    """

    def __init__(self, url: str, shown: int = SHOWN) -> None:
        super().__init__(url)
        self._shown = shown
        self._thread = threading.current_thread()
        self._deferred: list[tuple[str, dict[str, Any]]] = []
        self._completed: deque[str] = deque()

    def add_task(self, **arguments: Any) -> None:
        """Add or update a task."""
        if threading.current_thread() is self._thread and self._takes_several:
            self._deferred.append(("add_task", arguments))
        else:
            super().add_task(**arguments)  # type: ignore[misc]  # added by Luigi at run time

    def get_works(self, most: int, worker: str, host: str, running: list[str]) -> list[dict[str, Any]]:
        """Return the answers to at most so many calls of ``get_work``, in one request."""
        if most < 1 or not self._takes_several:
            return _works_of(self, most, worker, host, running)
        arguments = {"most": most, "worker": worker, "host": host, "running": running}
        return checked_works(self._send([("get_works", arguments)])[-1], most)

    def worker_list(self, include_running: bool = True) -> list[dict[str, Any]]:
        """Return all workers that the scheduler knows. Raises RPCError."""
        workers = super().worker_list(include_running=include_running)  # type: ignore[misc]
        return checked_workers(workers)

    def ping(self, worker: str) -> dict[str, Any]:
        """Tell the scheduler that the worker lives; return the messages that the worker follows."""
        answer = super().ping(worker=worker)  # type: ignore[misc]
        return {"rpc_messages": checked_messages(answer)}

    def forget_completed(self, task_ids: list[str]) -> None:
        """Remove tasks that are done or have failed for good, except for the last ones."""
        self._completed.extend(task_ids)
        over = [self._completed.popleft() for _ in range(len(self._completed) - self._shown)]
        if over and self._takes_several:
            self._deferred.append(("forget", {"task_ids": over}))

    def flush(self) -> None:
        """Send the deferred calls. Raises RPCError."""
        if self._deferred:
            self._send([])

    def _request(self, url: str, data: dict[str, Any], attempts: int = 3, allow_null: bool = True) -> Any:
        if self._deferred and threading.current_thread() is self._thread:
            return self._send([(url.removeprefix("/api/"), data)])[-1]
        return self._ask(url, data, attempts, allow_null)

    def _ask(self, url: str, data: dict[str, Any], attempts: int = 3, allow_null: bool = True) -> Any:
        """Make one request. Raises RPCError, also for an answer that is not one of a scheduler."""
        try:
            return super()._request(url, data, attempts, allow_null)
        except (ValueError, LookupError, TypeError, RecursionError):
            raise RPCError(
                "that of another program; see scheduler_host and scheduler_port in luigi.cfg"
            ) from None

    def _send(self, calls: list[tuple[str, dict[str, Any]]]) -> list[Any]:
        calls, self._deferred = self._deferred + calls, []
        answers = self._ask("/api/several", {"calls": calls})
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise RPCError(f"expected {len(calls)} answers, got {str(answers)[:100]}")
        return answers

    @cached_property
    def _takes_several(self) -> bool:
        answer = self._ask("/api/is_pause_enabled", {})
        return isinstance(answer, dict) and answer.get("several") is True


def _works_of(scheduler: Any, most: int, worker: str, host: str, running: list[str]) -> list[dict[str, Any]]:
    works: list[dict[str, Any]] = []
    while len(works) < most and (not works or works[-1]["task_id"] is not None):
        current = running + [work["task_id"] for work in works]
        work = scheduler.get_work(worker=worker, host=host, current_tasks=current)
        works += checked_works([work], 1)
    return works


def fail_tasks_of(scheduler: Any, mirror: str, is_gone: Callable[[dict[str, Any]], bool]) -> None:
    """Report the running tasks of workers that are gone as failed, those of the mirror with this short id.

    Without that the scheduler counts the workers as alive until ``worker_disconnect_delay`` has passed, and
    hands out none of their tasks. A living worker of another mirror may have the process id of one that is
    gone.
    """
    for worker in scheduler.worker_list(include_running=True):
        if is_gone(worker):
            for task_id in running_tasks(worker, mirror):
                scheduler.add_task(worker=worker["name"], task_id=task_id, status=FAILED, runnable=False)
