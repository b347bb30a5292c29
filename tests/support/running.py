"""Updates that run while a test looks on: what they are waiting for, signals, and what they leave behind."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.mirror.state.arrivals_file import scan_arrivals
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.state.owner_records import unrecorded
from pipeline.sample.faults import Fault
from pipeline.sample.simulator import Simulator
from pipeline.serving import MirrorTree
from support.command import REPOSITORY, Ended
from support.follower import Follower
from support.trees import tree
from support.upstream import Upstream
from support.warm_start import WarmProcess, WarmStart

# Longer than anything takes on a busy machine; only a failing test waits for it.
TIMEOUT_SECONDS = 90
# Time for a signal to be seen by its receiver: nothing outside shows that it was.
SEEN_SECONDS = 0.7
_warm_start = WarmStart(REPOSITORY, dict(os.environ))
_held_ports: list[socket.socket] = []


def gate(opened: Event, target: str, after: int | None = None) -> Fault:
    """Requests that match wait until ``opened`` is set: all of them, or those after the first ``after``."""
    passed = 0

    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        nonlocal passed
        passed += 1
        if after is None or passed > after:
            while not opened.is_set():
                await asyncio.sleep(0.01)
        await app(scope, receive, send)

    return Fault(act, target)


class Turnstile:
    """Lets so many of the requests that match through as it is told to: ``free`` from the start on."""

    def __init__(self) -> None:
        self.free = 0
        self.came = 0
        self.passed = 0

    @property
    def waiting(self) -> int:
        return self.came - self.passed

    def open(self) -> None:
        self.free = 10**9

    def fault(self, target: str) -> Fault:
        async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
            self.came += 1
            while self.passed >= self.free:
                await asyncio.sleep(0.01)
            self.passed += 1
            await app(scope, receive, send)

        return Fault(act, target)


class Running:
    """A command in a process group of its own, as cron or a shell starts it."""

    def __init__(
        self,
        command: list[str],
        log: Path,
        environment: dict[str, str] | None = None,
        warm_start: WarmStart = _warm_start,
    ) -> None:
        self._log = log
        variables = os.environ | (environment or {})
        log.write_bytes(b"")
        self._process: subprocess.Popen[bytes] | WarmProcess
        if warm_start.can_run(command, variables):
            self._process = warm_start.start(command, variables, log, log)
            return
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def ends_within(self, seconds: float) -> bool:
        """Wait at most so long; return True if the command has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.ended

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the command alone."""
        self._process.send_signal(number)

    def request_stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the command alone, and wait until it stops what it does."""
        self.send(number)
        until(lambda: "stopping after what is in progress" in self.output, "the signal is not seen")

    def send_group(self, number: signal.Signals) -> None:
        """Send a signal to the command and all that it started, as a terminal or a batch system does."""
        os.killpg(self.pid, number)

    def wait(self) -> Ended:
        """The end of the command; none of its processes may be left."""
        try:
            code = self._process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the command does not end; it said: {self.output}") from None
        until(lambda: not self.left, "a process is left")
        return Ended(code, self.output)

    @property
    def left(self) -> bool:
        """True while any process of the group is there."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """Kill the whole group, if it is there."""
        with contextlib.suppress(ProcessLookupError):
            self.send_group(signal.SIGKILL)
        self._process.wait()


def until(condition: Callable[[], object], otherwise: str) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


@contextlib.contextmanager
def started(
    command: list[str],
    log: Path,
    environment: dict[str, str] | None = None,
    warm_start: WarmStart = _warm_start,
) -> Iterator[Running]:
    """The command, running; killed at the end if it still runs."""
    running = Running(command, log, environment, warm_start)
    try:
        yield running
    finally:
        running.kill()


@dataclass
class Scheduler:
    """The central scheduler, as ``make scheduler`` starts it; or as Luigi does, which cannot do all of it.

    Both with the settings of the repository.
    """

    folder: Path
    port: int
    plain: bool = False

    @property
    def command(self) -> list[str]:
        plain = [str(Path(sys.executable).with_name("luigid"))]
        luigid = plain if self.plain else [sys.executable, "-m", "tasks.runtime.luigid"]
        state = str(self.folder / "state.pickle")
        return [*luigid, "--address", "127.0.0.1", "--port", str(self.port), "--state-path", state]

    def start(self, settings: str = "") -> Running:
        """Start it, with further settings, and wait until it answers."""
        more = self.folder / "luigid.cfg"
        more.write_text(settings)
        environment = {"LUIGI_CONFIG_PATH": str(more)} if settings else None
        running = Running(self.command, self.folder / "luigid.log", environment)
        until(lambda: running.ended or answers(self.port), "luigid does not answer")
        assert not running.ended, running.output
        return running


def free_port() -> int:
    """A port at which nobody listens, and that no other process is given while this one lives."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    # Set after the binding: a server may listen at the port all the same, and again after its end.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _held_ports.append(holder)
    return int(holder.getsockname()[1])


def answers(port: int) -> bool:
    """Return True if a server listens there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


def luigi_command(follower: Follower, port: int | None, *more: str) -> list[str]:
    """The luigi command for a local scheduler, or for the central one at the port."""
    command = follower.command(*more)
    if port is not None:
        command.remove("--local-scheduler")
        command += ["--scheduler-port", str(port)]
    return command


def tasks_command(follower: Follower, *more: str) -> list[str]:
    """The command that ``make update`` runs; ``scheduler_settings`` name its scheduler."""
    command = [sys.executable, "-m", "tasks", "update", "--mirror-config", str(follower.config)]
    return [*command, *more]


def scheduler_settings(folder: Path, port: int | None) -> dict[str, str]:
    """The environment in which ``make update`` finds a scheduler at that port, or none."""
    path = folder / "scheduler.cfg"
    path.write_text(f"[core]\nscheduler_port={port or free_port()}\n")
    return {"LUIGI_CONFIG_PATH": str(path)}


def progress_of(follower: Follower) -> dict[str, int]:
    """Return the progress that a run has recorded for ``status``; empty before."""
    try:
        return json.loads(Layout(follower.root).progress.read_bytes())
    except FileNotFoundError:
        return {}


def requested_filesets(server: Simulator) -> set[str]:
    """The filesets whose listing was asked for."""
    paths = [unquote(request.target).split("/") for request in server.requests]
    return {path[3] for path in paths if len(path) == 5 and path[4] == "index.txt"}


def leftovers(root: Path) -> list[str]:
    """Return what no finished run leaves behind: partial and temporary files, journals, old copies."""
    return [
        path
        for path in tree(root)
        if path.startswith("incoming/") or path.endswith((".unpacking", ".writing", ".replaced", ".part"))
    ]


def served_tree(upstream: Upstream) -> dict[str, bytes]:
    """Return the files of ``store/`` of a complete mirror."""
    return {path: content for path, content in tree(upstream.folder).items() if path.count("/") == 2}


def tree_is_true(root: Path, product: str, filesets: set[str]) -> None:
    """Every fileset is marked, and the markers say what is on disk: sizes, md5 and CRC-32."""
    for step in ("downloaded", "extracted"):
        assert checked_markers(root, product, step) == filesets, f"wrong markers in {step}"


def served_on(root: Path, product: str) -> set[str]:
    """Return the filesets that a mirror with a sound order of arrival lists to its readers."""
    lines = (Layout(root).arrivals(product)).read_bytes().splitlines(keepends=True)
    assert None not in scan_arrivals(lines)
    listing = (MirrorTree(Layout(root)).product_listing(product) or b"").decode()
    return {line.split("|")[0].strip() for line in listing.splitlines() if line and line[0] != "#"}


def checked_markers(root: Path, product: str, step: str, contested: str | tuple[str, ...] = "@") -> set[str]:
    """The filesets that have a marker of that step, after comparing what it says with what is on disk.

    Files whose paths begin with ``contested`` may be those of other filesets.
    """
    names = set()
    for path in marker_files(root, product, step):
        marker = json.loads(path.read_bytes())
        assert (marker["schema"], marker["product"], marker["fileset"]) == (1, product, path.stem)
        for file in marker["files"]:
            if file.get("path", "").startswith(contested):
                continue
            assert marked(file) == found(root, product, path.stem, file), f"{path} lies about {file}"
        unpacked = [file["path"] for file in marker["files"] if "path" in file]
        assert unrecorded(Layout(root), Fileset(product, path.stem, ""), unpacked) == [], "no owner record"
        names.add(path.stem)
    return names


def marker_files(root: Path, product: str, step: str) -> Iterator[Path]:
    return (root / "state" / product / step).glob("[!.]*.json")


def marked(file: dict[str, str | int]) -> tuple:
    return file["bytes"], file.get("md5") or file["crc32"]


def found(root: Path, product: str, fileset: str, file: dict[str, str | int]) -> tuple:
    if "path" in file:
        content = (root / file["path"]).read_bytes()
        return len(content), f"{zlib.crc32(content):08x}"
    content = (root / "store" / product / fileset / file["name"]).read_bytes()
    return len(content), hashlib.md5(content).hexdigest()
