"""Installation of the mirror's worker and schedulers in Luigi, which has no setting for them."""

from typing import Any

import luigi
import luigi.interface
from luigi.cmdline_parser import CmdlineParser

from pipeline.config import read_settings
from tasks.mirror_config import settings_file
from tasks.runtime.current import or_exit
from tasks.runtime.luigi_settings import use_defaults
from tasks.runtime.mirror_worker import MirrorWorker
from tasks.runtime.peer_worker import PeerWorker
from tasks.runtime.schedulers import CentralScheduler, LocalScheduler
from tasks.runtime.task import MirrorTask
from tasks.runtime.worker import ThreadWorker


class MirrorFactory(luigi.interface._WorkerSchedulerFactory):
    """Factory of the mirror's worker and schedulers; ``scheduler`` is a line on the one that is used."""

    def __init__(self, scheduler: str = "") -> None:
        self._scheduler = scheduler

    def create_local_scheduler(self) -> LocalScheduler:
        """Return the scheduler of one process."""
        return LocalScheduler()

    def create_remote_scheduler(self, url: str) -> CentralScheduler:
        """Return the client of the scheduler with this address."""
        return CentralScheduler(url)

    def create_worker(self, scheduler: Any, worker_processes: int, assistant: bool = False) -> ThreadWorker:
        """Return the worker of a run, or with ``assistant`` one for an update that is running.

        The task of Luigi's command line is checked before; ``ipp-mirror`` checks its own.
        """
        parser = CmdlineParser.get_instance()
        if parser is not None:
            or_exit(lambda: _check(parser.get_task_obj()))
        if assistant:
            return PeerWorker(scheduler, worker_processes)
        return MirrorWorker(scheduler, worker_processes, self._scheduler)


def _check(task: luigi.Task) -> None:
    """Check the parameters of the first task. Raises SettingsError."""
    if isinstance(task, MirrorTask):
        task.check(read_settings(settings_file()))


def use_mirror_worker() -> None:
    """Install the mirror's worker and schedulers in Luigi, and its defaults of Luigi's settings."""
    luigi.interface._WorkerSchedulerFactory = MirrorFactory  # type: ignore[misc]
    use_defaults()
    # Luigi warns that these settings of [core] are unused, although its scheduler client reads them.
    luigi.interface.core.ignore_unconsumed |= {"rpc_retry_attempts", "rpc_retry_wait"}
