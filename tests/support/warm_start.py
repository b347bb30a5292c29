"""Start of commands by fork: libraries, ``pipeline`` and most of ``tasks`` are imported once.

A command is a process of its own with the exit code, the output and the end of any other: only the time for
imports is saved, and that for the release of what was imported. Each command imports anew the modules of
``tasks`` that keep the time of their import as the start of the command. ``python warm_start.py`` is the
process that forks. Each line of its input is a command with its environment and two files for its output; it
prints process id and exit code of the command.
"""

import atexit
import contextlib
import gc
import json
import os
import queue
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

_IMPORTED = (
    *("asyncio", "concurrent.futures", "ctypes", "email.utils", "http.client", "logging.handlers", "mmap"),
    *("_strptime", "encodings.ascii", "multiprocessing.connection", "multiprocessing.queues"),
    *("multiprocessing.synchronize", "netrc", "resource", "secrets", "tarfile"),
    *("click.shell_completion", "isal.igzip", "jinja2", "luigi.interface", "luigi.retcodes", "luigi.rpc"),
    *("luigi.process", "luigi.server"),
    *("alembic.command", "alembic.config", "sqlalchemy.dialects.sqlite", "sqlalchemy.ext.compiler"),
    *("pydantic.dataclasses", "pydantic.main", "pydantic.type_adapter", "requests", "yaml"),
    *("pipeline.catalog.check", "pipeline.catalog.coverage", "pipeline.catalog.finish"),
    *("pipeline.catalog.gather", "pipeline.catalog.rebuild", "pipeline.catalog.step"),
    *("pipeline.mirror.steps.adopt", "pipeline.mirror.steps.verify"),
    *(
        "pipeline.mirror.steps.discover",
        "pipeline.mirror.steps.housekeeping",
        "pipeline.mirror.steps.removal",
    ),
    *("pipeline.mirror.steps.compare", "pipeline.mirror.steps.widening", "pipeline.mirror.resources.peers"),
    *("pipeline.mirror.state.pending", "pipeline.reporting.backlog", "pipeline.reporting.hooks"),
    *("pipeline.reporting.by_name", "pipeline.reporting.metrics", "pipeline.reporting.notification"),
    "pipeline.reporting.report_forms",
    # Those that keep nothing of a command.
    *("tasks.commands", "tasks.steps", "tasks.targets", "tasks.runtime.causes", "tasks.runtime.display"),
    *(
        "tasks.runtime.log",
        "tasks.runtime.notifications",
        "tasks.runtime.outage",
        "tasks.runtime.page_renewal",
    ),
    *("tasks.runtime.processes", "tasks.runtime.schedulers", "tasks.runtime.summary_line"),
    *("tasks.runtime.wanted_watch", "tasks.runtime.window"),
)
# Beginnings of the names of variables that the interpreter and the libraries read as they are started.
_READ_EARLY = ("LANG", "LC_", "LUIGI_", "PYTHON")
# Set for each test by pytest, and of no effect on a command.
_NO_SETTING = "PYTEST_CURRENT_TEST"


class WarmStart:
    """Processes that fork commands in one working directory, with one environment at their start.

    Safe for use by several threads.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = _settings(environment)
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()

    def can_run(self, command: list[str], environment: dict[str, str]) -> bool:
        """Return True for a program of this interpreter whose environment takes effect after a fork only."""
        program = Path(command[0])
        is_module = command[:2] == [sys.executable, "-m"]
        is_script = program.parent == Path(sys.executable).parent and command[0] != sys.executable
        early = (_read_early(each) for each in (_settings(environment), self._environment))
        return next(early) == next(early) and (is_module or is_script)

    def start(
        self, command: list[str], environment: dict[str, str], output: Path, errors: Path
    ) -> "WarmProcess":
        """Start the command in a session of its own; its standard streams are those files."""
        process = self._acquire()
        assert process.stdin
        request = [command, _settings(environment), str(output), str(errors)]
        process.stdin.write(json.dumps(request).encode() + b"\n")
        return WarmProcess(process, self._idle)

    def run(
        self, command: list[str], environment: dict[str, str], timeout: float
    ) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end; its output is text. Raises TimeoutExpired."""
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder) / "output", Path(folder) / "errors"
            process = self.start(command, environment, *files)
            try:
                code = process.wait(timeout)
            finally:
                process.send_signal(signal.SIGKILL)
            return subprocess.CompletedProcess(command, code, *(path.read_text() for path in files))

    def _acquire(self) -> "subprocess.Popen[bytes]":
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        atexit.register(process.communicate)
        return process


class WarmProcess:
    """Command that was forked, with methods of ``subprocess.Popen``."""

    def __init__(
        self, forking: "subprocess.Popen[bytes]", idle: "queue.SimpleQueue[subprocess.Popen[bytes]]"
    ) -> None:
        assert forking.stdout
        self._forking = forking
        self._idle = idle
        self._results = forking.stdout.fileno()
        self._code: int | None = None
        self.pid = int(_read_line(self._results))

    def poll(self) -> int | None:
        """Return the exit code, None while the command runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code. Raises TimeoutExpired."""
        if self._code is None:
            if not select.select([self._results], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self._code = int(_read_line(self._results))
            self._idle.put(self._forking)
        return self._code

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _settings(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != _NO_SETTING}


def _read_early(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_EARLY)}


def _serve() -> list[str]:
    """Fork each command that comes; return in the process of a command, with its arguments."""
    for name in _IMPORTED:
        __import__(name)
    # Handles signals as it is imported.
    del sys.modules["tasks"]
    # A collection in a command would write to all objects, and so copy the pages that it shares.
    gc.freeze()
    # Not buffered: a command must not find in its memory what was read for the next one.
    while line := _read_line(0):
        command, environment, output, errors = json.loads(line)
        pid = os.fork()
        if not pid:
            os.environ.clear()
            os.environ.update(environment)
            _become(output, errors)
            return command
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    sys.exit()


def _read_line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(descriptor, 1)):
        line += byte
    return line


def _become(output: str, errors: str) -> None:
    """Make this process the leader of a session, with these standard streams."""
    os.setsid()
    for number, path in enumerate([os.devnull, output, errors]):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)


def _start(command: list[str]) -> None:
    """Run the program as the interpreter would."""
    if command[1:2] == ["-m"]:
        sys.argv = ["-m", *command[3:]]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        sys.path[0] = str(Path(command[0]).parent)
        runpy.run_path(command[0], run_name="__main__")


def _exit_code(command: list[str]) -> int:
    """Run the program; return its exit code. Raises SystemExit for a message, and what the program raises."""
    try:
        _start(command)
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        return ended.code or 0
    return 0


def _end(code: int) -> None:
    """End as the interpreter does, without the release of all memory: that would copy most of its pages."""
    threading._shutdown()
    atexit._run_exitfuncs()
    # Warnings of files that were left open.
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _end(_exit_code(_serve()))
