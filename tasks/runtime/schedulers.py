"""Luigi's two schedulers, made fit for many small filesets: here, and in ``tasks.runtime.luigid``."""

import threading
from collections import deque
from functools import cached_property
from typing import Any

import urllib3
from luigi.rpc import RemoteScheduler, RPCError
from luigi.scheduler import PENDING, RPC_METHODS, RUNNING, Scheduler, rpc_method
from requests.utils import get_environ_proxies, get_netrc_auth

# Settled tasks that a central scheduler goes on showing on its page: 10 kB each.
SHOWN = 2000


class MirrorScheduler(Scheduler):
    """Luigi's scheduler, which can let go of tasks and take several calls in one."""

    @rpc_method()
    def is_pause_enabled(self) -> dict[str, bool]:
        """As Luigi's, which its page asks; that it takes several calls in one is said as well."""
        return super().is_pause_enabled() | {"several": True}

    @rpc_method()
    def forget(self, task_ids: list[str]) -> None:
        """Let go of tasks that nobody asks about again; Luigi does so when their worker is long gone."""
        for task_id in task_ids:
            if (task := self._state.get_task(task_id)) is not None:
                for worker in self._state.get_active_workers():
                    worker.tasks.discard(task)
                self._state.inactivate_tasks([task_id])

    @rpc_method()
    def get_works(self, most: int, current_tasks: list[str], **asked: Any) -> list[dict[str, Any]]:
        """What ``most`` calls of ``get_work`` give, each task begun at once; the last may be without one."""
        works: list[dict[str, Any]] = []
        while len(works) < most and (not works or works[-1]["task_id"] is not None):
            begun = [work["task_id"] for work in works]
            works.append(self.get_work(current_tasks=current_tasks + begun, **asked))
        return works

    @rpc_method()
    def give_back(self, worker: str, task_ids: list[str]) -> None:
        """Let others have tasks which the worker got and did not begin."""
        for task in map(self._state.get_task, task_ids):
            if task is not None and task.status == RUNNING and task.worker_running == worker:
                self._state.set_status(task, PENDING, self._config)

    @rpc_method()
    def several(self, calls: list[tuple[str, dict[str, Any]]]) -> list[Any]:
        """The answers to several calls, each a method with its arguments, made one after the other."""
        return [self._answer(method, arguments) for method, arguments in calls]

    def _answer(self, method: str, arguments: dict[str, Any]) -> Any:
        if method not in RPC_METHODS:
            raise ValueError(f"expected a call of a scheduler, got {method!r}")
        return getattr(self, method)(**arguments)


class LocalScheduler(MirrorScheduler):
    """The scheduler inside the one process that uses it."""

    # Every task that is handed out here is begun.
    has_handed_out = False

    def __init__(self) -> None:
        super().__init__(prune_on_get_work=False, record_task_history=False)

    def settle(self, task_ids: list[str]) -> None:
        """Have the settled tasks forgotten."""
        self.forget(task_ids)

    def catch_up(self) -> None:
        """Nothing is put off here."""

    def hand_back(self, worker: str) -> None:
        """Nothing is left to hand back."""


class CentralScheduler(RemoteScheduler):
    """Luigi's client of a central scheduler, for the thread that makes it; others may call it too.

    Nearly all that a call costs is HTTP. So what needs no answer, ``add_task`` and ``forget``, is put off
    and goes with the next call that does, or with ``catch_up``; and work is asked for all ``hands`` that
    are free, to be had by one ``get_work`` after the other. Luigi's own luigid, which is no MirrorScheduler,
    gets each call by itself, and keeps what is settled.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        plain = url.startswith("http://") and "@" not in url
        if plain and not get_environ_proxies(url) and not get_netrc_auth(url):
            self._fetcher = _PlainFetcher()
        # How many tasks the worker could begin now.
        self.hands = 1
        self._thread = threading.current_thread()
        self._put_off: list[tuple[str, dict[str, Any]]] = []
        self._handed_out: deque[dict[str, Any]] = deque()
        self._settled: deque[str] = deque()

    def add_task(self, **arguments: Any) -> None:
        """As Luigi's, which answers nothing."""
        if threading.current_thread() is self._thread and self._takes_several:
            self._put_off.append(("add_task", arguments))
        else:
            super().add_task(**arguments)

    def get_work(self, **asked: Any) -> dict[str, Any]:
        """As Luigi's."""
        if not self._takes_several:
            return super().get_work(**asked)
        if not self._handed_out:
            calls = [("get_works", {"most": max(1, self.hands), **asked})]
            self._handed_out.extend(self._send(calls)[-1])
        return self._handed_out.popleft()

    @property
    def has_handed_out(self) -> bool:
        """Whether there is an answer that ``get_work`` did not give yet."""
        return bool(self._handed_out)

    def hand_back(self, worker: str) -> None:
        """Let others have the tasks that ``get_work`` did not give the worker yet."""
        tasks = [work["task_id"] for work in self._handed_out if work["task_id"]]
        self._handed_out.clear()
        if tasks:
            self._send([("give_back", {"worker": worker, "task_ids": tasks})])

    def settle(self, task_ids: list[str]) -> None:
        """Have all but the last of the settled tasks forgotten."""
        self._settled.extend(task_ids)
        over = [self._settled.popleft() for _ in range(len(self._settled) - SHOWN)]
        if over and self._takes_several:
            self._put_off.append(("forget", {"task_ids": over}))

    def catch_up(self) -> None:
        """Make the calls that were put off, before anybody waits for what they lead to."""
        if self._put_off:
            self._send([])

    def _request(self, url: str, data: dict[str, Any], attempts: int = 3, allow_null: bool = True) -> Any:
        if self._put_off and threading.current_thread() is self._thread:
            return self._send([(url.removeprefix("/api/"), data)])[-1]
        return super()._request(url, data, attempts, allow_null)

    def _send(self, calls: list[tuple[str, dict[str, Any]]]) -> list[Any]:
        """The answers to what was put off and to ``calls``, made in this order. Raises RPCError."""
        calls, self._put_off = self._put_off + calls, []
        answers = super()._request("/api/several", {"calls": calls})
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise RPCError(f"expected {len(calls)} answers of {self._url}, got {str(answers)[:100]}")
        return answers

    @cached_property
    def _takes_several(self) -> bool:
        """Whether it is a MirrorScheduler."""
        return "several" in super()._request("/api/is_pause_enabled", {})


class _PlainFetcher:
    """What Luigi's own fetcher does with requests, in half the time: no proxies, no passwords."""

    raises = urllib3.exceptions.HTTPError

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager()

    def fetch(self, full_url: str, body: dict[str, str], timeout: float) -> str:
        """The answer to a POST. Raises HTTPError."""
        answer = self._pool.request_encode_body(
            "POST", full_url, fields=body, encode_multipart=False, timeout=timeout, retries=False
        )
        if answer.status != 200:
            raise urllib3.exceptions.HTTPError(
                f"expected an answer of {full_url}, got status {answer.status}"
            )
        return answer.data.decode()

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.clear()
