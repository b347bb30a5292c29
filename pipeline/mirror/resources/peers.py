"""Peers: workers on this host or others that take part in the running update.

The update alone holds the mirror's lock. It publishes one notice with the admitted peers and whether the
update is ending. Each peer registers with a file that stays locked while the peer runs, and appends a line to
its report after each step. All these files are in ``workers/`` (docs/on-disk.md, "Workers").

No peer outlives its update: a peer tests the update's lock three times a second, and the next update does not
start before all peers of the last one have exited.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from pipeline import __version__
from pipeline.config import Settings
from pipeline.errors import EXIT_DONE, EXIT_SETTINGS_OR_BUG, AlreadyRunning, SettingsError
from pipeline.mirror.resources.update_lock import Holder
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import utc_now

# Seconds without a touch of its registration after which a peer counts as hanging: no update waits for it.
SILENT_SECONDS = 30.0
# Seconds of suspension after which a peer exits at once: its tasks may run in another process.
HUNG_SECONDS = 20.0
# Seconds that a new update waits for the peers of a killed one to exit.
EXIT_SECONDS = 10.0
_RETRY_SECONDS = 0.2
_REGISTERED, _REPORT = ".json", ".report"
T = TypeVar("T")
_WRITING = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC


class NoUpdateToJoin(AlreadyRunning):
    """No update is running that accepts peers."""


class PeerState(Enum):
    """State of a peer: registered, admitted by its update, ending with its update, or without one."""

    WAITING = auto()
    ADMITTED = auto()
    ENDING = auto()
    LOST = auto()


@dataclass
class Notice:
    """Notice of an update: its process, and the names of the peers that it has admitted.

    ``worker`` is its name for Luigi's scheduler, ``settings`` a digest of all settings.
    """

    host: str
    pid: int
    run: str
    worker: str
    settings: str
    admitted: list[str] = field(default_factory=list)
    ending: bool = False
    stopped: bool = False


@dataclass(frozen=True)
class PeerRegistration:
    """Registration of a peer with the update ``run``; ``worker`` is its name for Luigi's scheduler."""

    name: str
    host: str
    pid: int
    since: str
    run: str
    worker: str
    processors: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@dataclass(frozen=True)
class StepDone:
    """Report of a step: the task id, its status, the bytes received since the last report.

    ``code`` is the exit code of the peer so far.
    """

    task: str
    status: Annotated[str, Field(pattern="^(DONE|FAILED)$")]
    received: Annotated[int, Field(ge=0)]
    code: Annotated[int, Field(ge=EXIT_DONE, le=EXIT_SETTINGS_OR_BUG)]


@dataclass(frozen=True)
class PeerChanges:
    """Result of one poll: the running peers, those that have exited, and the reported steps.

    ``hanging`` is the number of further peers that hang.
    """

    running: list[PeerRegistration]
    hanging: int
    exited: list[PeerRegistration]
    steps: list[StepDone]


def settings_digest(settings: Settings) -> str:
    """Return a digest of the settings and the version of the program."""
    return hashlib.sha256(f"{__version__} {settings.model_dump_json()}".encode()).hexdigest()


class PeerRegistry:
    """Peers of an update, and their reports. For use by one thread, while the mirror's lock is held.

    A method that raises OSError, as a file system over the network may fail for a while, loses nothing: the
    next ``poll`` makes up for it.
    """

    def __init__(self, layout: Layout, run: str, worker: str, settings: Settings) -> None:
        self._folder = layout.peers
        self._layout = layout
        self._notice = Notice(socket.gethostname(), os.getpid(), run, worker, settings_digest(settings))
        self._published: dict[str, Any] = {}
        self._peers: dict[str, _Peer] = {}
        # Names of peers whose files may still be there.
        self._exited: set[str] = set()
        self._steps: list[StepDone] = []
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(_lock_file(self._folder))
        self._publish()

    def reported(self) -> list[StepDone]:
        """Return the steps that were reported since the last call. Raises OSError."""
        for peer in self._peers.values():
            self._steps += peer.read_report()
        steps, self._steps = self._steps, []
        return steps

    def poll(self) -> PeerChanges:
        """Return the changes since the last poll, and remove the files of peers that have exited.

        Raises OSError.
        """
        self._publish()
        self._read_registrations()
        exited = [peer for peer in self._peers.values() if not peer.holder.is_alive()]
        # Read after that: peers that have exited report nothing further.
        steps = self.reported()
        for peer in exited:
            del self._peers[peer.registration.name]
            self._exited.add(peer.registration.name)
            with contextlib.suppress(OSError):
                _remove(self._folder, peer.registration.name)
        running = [peer.registration for peer in self._peers.values() if not peer.hangs()]
        hanging = len(self._peers) - len(running)
        return PeerChanges(running, hanging, [peer.registration for peer in exited], steps)

    def admit(self, peers: list[PeerRegistration]) -> None:
        """Admit these peers and no others: a peer that is no longer admitted exits at once.

        Raises OSError.
        """
        self._notice.admitted = [peer.name for peer in peers]
        self._publish()

    def end(self, stopped: bool) -> None:
        """Announce the end: peers finish the steps in progress, and exit. Raises OSError."""
        if not self._notice.ending:
            self._notice.ending, self._notice.stopped = True, stopped
        self._publish()

    def close(self) -> None:
        """Withdraw the notice: this update accepts no more peers."""
        with contextlib.suppress(OSError):
            for path in (_notice_file(self._folder), _lock_file(self._folder)):
                path.unlink(missing_ok=True)
        os.close(self._lock)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _read_registrations(self) -> None:
        for registration in _registrations(self._folder):
            is_known = registration.name in self._peers or registration.name in self._exited
            if registration.run == self._notice.run and not is_known:
                self._peers[registration.name] = _Peer(self._folder, registration)

    def _publish(self) -> None:
        """Write the notice where it differs from what was written last. Raises OSError."""
        content = asdict(self._notice)
        if content != self._published:
            _write(_notice_file(self._folder), content)
            self._published = content


class _Peer:
    """Registered peer of this update."""

    def __init__(self, folder: Path, registration: PeerRegistration) -> None:
        self.registration = registration
        self.holder = _holder(folder, registration)
        self._file = _path(folder, registration)
        self._report = folder / (registration.name + _REPORT)
        self._read = 0
        self._touched = 0
        self._hung = False
        self._seen = time.monotonic()

    def hangs(self) -> bool:
        """Return True once the registration was not touched for ``SILENT_SECONDS`` by this host's clock."""
        with contextlib.suppress(OSError), open(self._file, "rb") as file:
            touched = os.fstat(file.fileno()).st_mtime_ns
            if touched != self._touched:
                self._touched, self._seen = touched, time.monotonic()
        self._hung = self._hung or time.monotonic() - self._seen > SILENT_SECONDS
        return self._hung

    def read_report(self) -> list[StepDone]:
        """Return the steps in the lines that were completed since the last call."""
        try:
            with open(self._report, "rb") as file:
                file.seek(self._read)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        steps = (_parsed(StepDone, line) for line in whole.splitlines())
        return [step for step in steps if step is not None]


def update_to_join(layout: Layout) -> tuple[Notice, Holder]:
    """Return the update that is running, and its process. Raises NoUpdateToJoin."""
    notice = _notice(layout.peers)
    if notice is not None:
        holder = Holder(_lock_file(layout.peers), notice.host, layout.lock_file)
        if holder.is_alive():
            return notice, holder
    raise NoUpdateToJoin(_no_update(layout))


class Membership:
    """Registration of this process as a peer of the running update."""

    def __init__(self, layout: Layout, worker: str, settings: Settings) -> None:
        """Register. Raises NoUpdateToJoin, or SettingsError when the update has other settings."""
        self._folder = layout.peers
        self.notice, self._update = update_to_join(layout)
        if self.notice.settings != settings_digest(settings):
            raise SettingsError(
                f"{layout.root}: expected the settings and the program of the update (process "
                f"{self.notice.pid} on {self.notice.host}), got others. Start the worker with the same "
                "settings file and the same version of the program; it did nothing."
            )
        self._registration = _new_registration(self.notice.run, worker)
        self._was_admitted = False
        self._unreported = b""
        self._file = _register(self._folder, self._registration)

    def state(self) -> PeerState:
        """Return the present state of this peer. Raises OSError."""
        notice = _notice(self._folder)
        if notice is None or notice.run != self._registration.run or not self._update.is_alive():
            return PeerState.LOST
        self.notice = notice
        if self._registration.name in notice.admitted:
            self._was_admitted = True
        elif self._was_admitted:
            return PeerState.LOST
        if notice.ending:
            return PeerState.ENDING
        return PeerState.ADMITTED if self._was_admitted else PeerState.WAITING

    def beat(self) -> None:
        """Touch the registration. Raises OSError."""
        os.utime(self._file)

    def report(self, step: StepDone) -> None:
        """Append a step to the report for the update; when that fails, with the next step, or at the end."""
        self._unreported += json.dumps(asdict(step)).encode() + b"\n"
        self._write_report()

    def leave(self) -> None:
        """End the registration. The report stays until the update has read it."""
        self._write_report()
        with contextlib.suppress(OSError):
            _path(self._folder, self._registration).unlink(missing_ok=True)
        os.close(self._file)

    def _write_report(self) -> None:
        path = self._folder / (self._registration.name + _REPORT)
        with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
            file.write(self._unreported)
            self._unreported = b""


def wait_for_exit(layout: Layout) -> list[str]:
    """Wait until the peers of a killed update have exited; then remove their files.

    For the holder of the lock, before any other work. Return the names of that update's workers in Luigi's
    scheduler, which may still list them as alive. Raises AlreadyRunning, which names the peers that remain,
    after ``EXIT_SECONDS``.
    """
    folder = layout.peers
    if not folder.is_dir():
        return []
    notice = _notice(folder)
    if notice:
        # Without ``run``, peers find their update gone. The worker's name is kept in case this run is
        # refused.
        _write(_notice_file(folder), asdict(replace(notice, run="")))
    holders = {registration: _holder(folder, registration) for registration in _registrations(folder)}
    until = time.monotonic() + EXIT_SECONDS
    while living := [str(peer) for peer, holder in holders.items() if holder.is_alive()]:
        if time.monotonic() > until:
            raise AlreadyRunning(
                f"{layout.root}: expected the workers of the last update to have exited with it, "
                f"still running: {', '.join(living)}. End them; this run did nothing, "
                "the next one tries again."
            )
        time.sleep(_RETRY_SECONDS)
    for path in folder.iterdir():
        if path != _lock_file(folder):
            path.unlink(missing_ok=True)
    return [registration.worker for registration in holders] + ([notice.worker] if notice else [])


def _no_update(layout: Layout) -> str:
    return (
        f"{layout.root}: expected an update of this mirror that runs with a central scheduler, found none. "
        "Start one first; this worker did nothing."
    )


def _new_registration(run: str, worker: str) -> PeerRegistration:
    host, pid = socket.gethostname(), os.getpid()
    # Containers may share a host's name and use the same process ids.
    name = f"{host}.{pid}.{secrets.token_hex(4)}"
    return PeerRegistration(name, host, pid, utc_now(), run, worker, os.cpu_count() or 1)


def _register(folder: Path, registration: PeerRegistration) -> int:
    """Return the open file of the registration, which is renamed to its name after it is locked."""
    hidden = folder / f".{registration.name}"
    file = os.open(hidden, _WRITING, 0o666)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.write(file, json.dumps(asdict(registration)).encode())
    os.rename(hidden, _path(folder, registration))
    return file


def _registrations(folder: Path) -> list[PeerRegistration]:
    paths = sorted(folder.glob(f"[!.]*{_REGISTERED}"))
    found = (_read(PeerRegistration, path) for path in paths if path != _notice_file(folder))
    return [registration for registration in found if registration is not None]


def _remove(folder: Path, name: str) -> None:
    for suffix in (_REGISTERED, _REPORT):
        (folder / (name + suffix)).unlink(missing_ok=True)


def _path(folder: Path, registration: PeerRegistration) -> Path:
    return folder / (registration.name + _REGISTERED)


def _holder(folder: Path, registration: PeerRegistration) -> Holder:
    path = _path(folder, registration)
    return Holder(path, registration.host, path)


def _lock_file(folder: Path) -> Path:
    return folder / "update.lock"


def _notice_file(folder: Path) -> Path:
    return folder / "update.json"


def _locked(path: Path) -> int:
    """Return the open file, locked. A peer that tests the lock may hold it for a moment."""
    file = os.open(path, _WRITING, 0o666)
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            time.sleep(_RETRY_SECONDS)


def _notice(folder: Path) -> Notice | None:
    return _read(Notice, _notice_file(folder))


def _read(kind: type[T], path: Path) -> T | None:
    """Return the content of the file; None without the file, and where the content is something else."""
    try:
        return _parsed(kind, path.read_bytes())
    except FileNotFoundError:
        return None


def _parsed(kind: type[T], content: bytes) -> T | None:
    try:
        parsed: T = _adapters()[kind].validate_json(content, strict=True)
    except ValidationError:
        return None
    return parsed


@cache
def _adapters() -> dict[type[Any], TypeAdapter[Any]]:
    """Return the adapter of each class. To make them takes long, and most updates have no peers."""
    return {kind: TypeAdapter(kind) for kind in (Notice, PeerRegistration, StepDone)}


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write the file by one rename; not durably, as the content is of no use without the process."""
    hidden = path.with_name(f".{path.name}")
    hidden.write_text(json.dumps(content))
    os.replace(hidden, path)
