"""Installation of the mirror's worker and schedulers in Luigi, which has no setting for them."""

from typing import Any

import luigi.interface

from tasks.runtime.luigi_settings import use_defaults
from tasks.runtime.peer_worker import PeerWorker
from tasks.runtime.schedulers import CentralScheduler, LocalScheduler
from tasks.runtime.worker import MirrorWorker


class _MirrorFactory(luigi.interface._WorkerSchedulerFactory):
    def create_local_scheduler(self) -> LocalScheduler:
        return LocalScheduler()

    def create_remote_scheduler(self, url: str) -> CentralScheduler:
        return CentralScheduler(url)

    def create_worker(self, scheduler: Any, worker_processes: int, assistant: bool = False) -> MirrorWorker:
        return (PeerWorker if assistant else MirrorWorker)(scheduler, worker_processes)


def use_mirror_worker() -> None:
    """Install the mirror's worker and schedulers in Luigi, and its defaults of Luigi's settings."""
    luigi.interface._WorkerSchedulerFactory = _MirrorFactory  # type: ignore[misc]
    use_defaults()
    # Luigi warns that these settings of [core] are unused, although its scheduler client reads them.
    luigi.interface.core.ignore_unconsumed |= {"rpc_retry_attempts", "rpc_retry_wait"}
