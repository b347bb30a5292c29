"""Run of a task within this process: as the ``luigi`` command does it, without a command line for Luigi."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import luigi.configuration
import luigi.interface
from luigi.task_register import Register

# Registers the tasks.
import tasks.workflow  # noqa: F401
from pipeline.config import read_settings
from tasks.mirror_config import checked_section, mirror, settings_file, use_settings, use_settings_file
from tasks.runtime.errors import as_mirror_error
from tasks.runtime.install import MirrorFactory
from tasks.runtime.own_scheduler import ANSWER_SECONDS, HOST, PORT, is_own_scheduler

_NAMES = ("scheduler_url", "scheduler_host", "scheduler_port")


def run_task(
    task: str,
    parameters: Mapping[str, str],
    config: Path | None,
    workers: int | None,
    console: Mapping[str, str],
    host: str | None = None,
    port: int | None = None,
) -> None:
    """Run a task with a central scheduler, or with a local one where no central scheduler may be used.

    ``host`` and ``port`` name the scheduler, as ``luigi.cfg`` may; without a name, only an own one is used.
    ``console`` are settings of Luigi's section ``[mirror]``.
    Raises SystemExit with the exit code of the run, or MirrorError.
    """
    _use(config, console)
    url = scheduler_url(host, port)
    scheduler: dict[str, str | bool] = {"scheduler_url": url}
    line = f"scheduler: {url}"
    if problem := _problem(url, named=bool(host or port) or any(map(_is_named, _NAMES))):
        scheduler = {"local_scheduler": True}
        line = f"scheduler: local, as {problem}"
    _run(task, parameters, workers, line, **scheduler)


def run_worker(
    config: Path | None, workers: int | None, console: Mapping[str, str], host: str | None, port: int | None
) -> None:
    """Take part in a running update. Raises SystemExit with the exit code of the run, or MirrorError."""
    _use(config, console)
    _run("UpdateMirror", {}, workers, "", scheduler_url=scheduler_url(host, port), assistant=True)


def _run(
    task: str, parameters: Mapping[str, str], workers: int | None, line: str, **settings: str | bool
) -> None:
    """Run the task with these settings of Luigi's section ``[core]``; ``line`` says which scheduler is used.

    Raises SettingsError before anything is made, where the settings and the parameters show a mistake.
    """
    given: dict[str, Any] = {"workers": workers} if workers else {}
    first = Register.get_task_cls(task).from_str_params(parameters)
    try:
        first.check(read_settings(settings_file()))
        luigi.build([first], MirrorFactory(line), **settings, **given)
    except Exception as error:
        raise as_mirror_error(error) from None


def _use(config: Path | None, console: Mapping[str, str]) -> None:
    """Use these settings in this process. Raises SettingsError for a wrong value in Luigi's settings."""
    use_settings(console)
    if config:
        use_settings_file(config)
    for section in (luigi.interface.core, mirror):
        checked_section(section)


def scheduler_url(host: str | None, port: int | None) -> str:
    """Return the address of the central scheduler: that of the options, else of ``luigi.cfg``, else ours."""
    core = luigi.interface.core()
    if core.scheduler_url and not host and not port:
        return str(core.scheduler_url)
    host = host or (core.scheduler_host if _is_named("scheduler_host") else HOST)
    port = port or (core.scheduler_port if _is_named("scheduler_port") else PORT)
    return f"http://{host}:{port}/"


def _is_named(setting: str) -> bool:
    return bool(luigi.configuration.get_config().has_option("core", setting))


def _problem(url: str, named: bool) -> str:
    """Return why the scheduler is not used; empty if it is used."""
    if not _answers(url):
        return f"none answers at {url}"
    try:
        if named or is_own_scheduler():
            return ""
    except TimeoutError:
        return f"the program at {url} gives no answer within {ANSWER_SECONDS:g} s"
    return (
        f"the program at {url} is no `ipp-mirror scheduler` of this user "
        "(a scheduler that luigi.cfg or --scheduler-host names is used all the same)"
    )


def _answers(url: str) -> bool:
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname or "", address.port or 80), timeout=ANSWER_SECONDS):
            return True
    except OSError:
        return False
