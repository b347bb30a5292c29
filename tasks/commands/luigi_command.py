"""Run of a task by the ``luigi`` command within this process."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import click
import luigi.interface
from luigi.cmdline import luigi_run

# Registers the tasks.
import tasks.workflow  # noqa: F401


def run_task(task: str, *arguments: str, config: Path | None, workers: int | None) -> None:
    """Run a task with the central scheduler if one responds, with a local one otherwise.

    Raises SystemExit with the exit code of the run."""
    url = _scheduler_url()
    if _answers(url):
        click.echo(f"scheduler: {url}")
        local = []
    else:
        click.echo(f"scheduler: local, as none answers at {url}")
        local = ["--local-scheduler"]
    run_luigi(task, *arguments, *local, config=config, workers=workers)


def run_luigi(task: str, *arguments: str, config: Path | None, workers: int | None) -> None:
    """Run a task as ``luigi --module tasks TASK`` does. Raises SystemExit with the exit code of the run."""
    settings = ["--mirror-config", str(config)] if config else []
    count = ["--workers", str(workers)] if workers else []
    luigi_run([task, *arguments, *settings, *count])


def _scheduler_url() -> str:
    core = luigi.interface.core()
    return core.scheduler_url or f"http://{core.scheduler_host}:{core.scheduler_port}/"


def _answers(url: str) -> bool:
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname or "", address.port or 80), timeout=2):
            return True
    except OSError:
        return False
