"""Luigi's two schedulers, made fit for many small filesets."""

import urllib3
from luigi.rpc import RemoteScheduler
from luigi.scheduler import Scheduler
from requests.utils import get_environ_proxies


class LocalScheduler(Scheduler):
    """Luigi's scheduler inside the one process that uses it."""

    def __init__(self) -> None:
        super().__init__(prune_on_get_work=False, record_task_history=False)

    def forget(self, task_ids: list[str]) -> None:
        """Let go of tasks that are done or failed. A central scheduler does so when the run is over."""
        for task_id in task_ids:
            if (task := self._state.get_task(task_id)) is not None:
                for worker in self._state.get_active_workers():
                    worker.tasks.discard(task)
                self._state.inactivate_tasks([task_id])


class CentralScheduler(RemoteScheduler):
    """Luigi's client of a central scheduler. Each fileset takes some seven calls: they have to be cheap."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        if "@" not in url and not get_environ_proxies(url):
            self._fetcher = _PlainFetcher()


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
