"""Assistants: processes on this host or others that take part in the update that is running.

The update alone holds the mirror's lock. It tells the assistants in one notice whom it has admitted and
when it ends; each of them registers with a file that it keeps locked, and adds a line to a report for
each step that it did. All of that lies in ``assistants/`` (docs/on-disk.md, "Assistants").

Nobody works on for an update that has died: an assistant looks every moment, and the next update does not
begin before all assistants of the last one are gone.
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
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.config import Settings
from pipeline.errors import AlreadyRunning, SettingsError
from pipeline.mirror.resources.update_lock import Holder
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import utc_now

# An assistant that did not touch its registration for so long hangs, and is not counted on any more.
SILENT_SECONDS = 30.0
# An assistant that notices that it hung for so long ends at once: somebody else may do its work by now.
HUNG_SECONDS = 20.0
# How long a new update waits for the assistants of one that died: they notice within seconds.
FAREWELL_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.2
_REGISTERED, _REPORT = ".json", ".report"
_WRITING = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC


class NoUpdateToAssist(AlreadyRunning):
    """There is no update that takes assistants."""


class Standing(Enum):
    """How an assistant and its update stand."""

    WAITING = auto()
    ADMITTED = auto()
    ENDING = auto()
    LOST = auto()


@dataclass
class Notice:
    """What the update tells: who it is, and the names of the assistants that it has admitted.

    ``worker`` is what Luigi's scheduler knows it by, ``settings`` stands for all settings.
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
class Registration:
    """An assistant of the update that began at ``run``; ``worker`` is what Luigi's scheduler knows it by."""

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
    """A step that an assistant did: the task, how it ended, the bytes received since its last line.

    ``code`` is the exit code that the assistant would end with.
    """

    task: str
    status: str
    received: int
    code: int


@dataclass(frozen=True)
class News:
    """What an update learns when it looks at its assistants: who is there, who is gone, what was done.

    Who hangs is neither there nor gone.
    """

    there: list[Registration]
    hanging: int
    gone: list[Registration]
    steps: list[StepDone]


def settings_digest(settings: Settings) -> str:
    """What differs when settings or the program differ."""
    return hashlib.sha256(f"{__version__} {settings.model_dump_json()}".encode()).hexdigest()


class OpenUpdate:
    """The update's side: who takes part, and what they did. For use by one thread, while the lock is held."""

    def __init__(self, layout: Layout, run: str, worker: str, settings: Settings) -> None:
        self._folder = layout.assistants
        self._layout = layout
        self._notice = Notice(socket.gethostname(), os.getpid(), run, worker, settings_digest(settings))
        self._present: dict[str, _Present] = {}
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(_lock_file(self._folder))
        self._tell()

    def reported(self) -> list[StepDone]:
        """The steps that were done since this was last asked."""
        return [step for present in self._present.values() for step in present.read_report()]

    def look(self) -> News:
        """What is new since the last look. What those who are gone have left behind is removed."""
        self._see()
        gone = [present for present in self._present.values() if not present.holder.lives()]
        # After the look at who is gone: they report no more.
        steps = self.reported()
        for present in gone:
            del self._present[present.registration.name]
            _forget(self._folder, present.registration.name)
        there = [present.registration for present in self._present.values() if not present.hangs()]
        hanging = len(self._present) - len(there)
        return News(there, hanging, [present.registration for present in gone], steps)

    def admit(self, assistants: list[Registration]) -> None:
        """Let these take part, and no others: whoever was admitted and is not any more ends at once."""
        names = [assistant.name for assistant in assistants]
        if names != self._notice.admitted:
            self._notice.admitted = names
            self._tell()

    def end(self, stopped: bool) -> None:
        """Let the assistants finish what they have in hand, and end."""
        if not self._notice.ending:
            self._notice.ending, self._notice.stopped = True, stopped
            self._tell()

    def close(self) -> None:
        """There is no update any more."""
        for path in (_notice_file(self._folder), _lock_file(self._folder)):
            path.unlink(missing_ok=True)
        os.close(self._lock)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _see(self) -> None:
        for registration in _registrations(self._folder):
            if registration.run == self._notice.run and registration.name not in self._present:
                self._present[registration.name] = _Present(self._folder, registration)

    def _tell(self) -> None:
        _write(_notice_file(self._folder), asdict(self._notice))


class _Present:
    """An assistant as its update sees it."""

    def __init__(self, folder: Path, registration: Registration) -> None:
        self.registration = registration
        self.holder = _holder(folder, registration)
        self._file = _path(folder, registration)
        self._report = folder / (registration.name + _REPORT)
        self._read = 0
        self._touched = 0
        self._hung = False
        self._heard = time.monotonic()

    def hangs(self) -> bool:
        """Whether it was silent for long by our own clock; who was so once is not counted on again."""
        with contextlib.suppress(OSError), open(self._file, "rb") as file:
            touched = os.fstat(file.fileno()).st_mtime_ns
            if touched != self._touched:
                self._touched, self._heard = touched, time.monotonic()
        self._hung = self._hung or time.monotonic() - self._heard > SILENT_SECONDS
        return self._hung

    def read_report(self) -> list[StepDone]:
        """The whole lines that are new."""
        try:
            with open(self._report, "rb") as file:
                file.seek(self._read)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return [StepDone(**json.loads(line)) for line in whole.splitlines()]


class Assistance:
    """The assistant's side: its registration with the update that is running."""

    def __init__(self, layout: Layout, worker: str, settings: Settings) -> None:
        """Register. Raises NoUpdateToAssist, or SettingsError when the update has other settings."""
        self._folder = layout.assistants
        self.notice = _notice(self._folder)
        if self.notice is None:
            raise NoUpdateToAssist(_no_update(layout))
        self._update = Holder(_lock_file(self._folder), self.notice.host, layout.lock_file)
        if not self._update.lives():
            raise NoUpdateToAssist(_no_update(layout))
        if self.notice.settings != settings_digest(settings):
            raise SettingsError(
                f"{layout.root}: expected the settings and the program of the update (process "
                f"{self.notice.pid} on {self.notice.host}), got others. Start the assistant with the same "
                "settings file and the same version of the program; it did nothing."
            )
        self._registration = _new_registration(self.notice.run, worker)
        self._was_admitted = False
        self._file = _register(self._folder, self._registration)

    def standing(self) -> Standing:
        """How it stands with the update, now."""
        notice = _notice(self._folder)
        if notice is None or notice.run != self._registration.run or not self._update.lives():
            return Standing.LOST
        self.notice = notice
        if self._registration.name in notice.admitted:
            self._was_admitted = True
        elif self._was_admitted:
            return Standing.LOST
        if notice.ending:
            return Standing.ENDING
        return Standing.ADMITTED if self._was_admitted else Standing.WAITING

    def beat(self) -> None:
        """Show that it lives. Raises OSError."""
        os.utime(self._file)

    def report(self, step: StepDone) -> None:
        """Tell the update of a step that was done."""
        line = json.dumps(asdict(step)).encode() + b"\n"
        with open(self._folder / (self._registration.name + _REPORT), "ab", buffering=0) as file:
            file.write(line)

    def leave(self) -> None:
        """Take part no more. The report stays until the update has read it."""
        _path(self._folder, self._registration).unlink(missing_ok=True)
        os.close(self._file)


def await_farewell(layout: Layout) -> list[str]:
    """Wait until the assistants of an update that died are gone; then tidy up after all of them.

    For the holder of the lock, before it touches anything. Gives the workers that they were to Luigi's
    scheduler, which may not know yet. Raises AlreadyRunning, naming who stays.
    """
    folder = layout.assistants
    if not folder.is_dir():
        return []
    notice = _notice(folder)
    if notice:
        # Not its assistants' any more; who it was is still to be known when this one is refused.
        _write(_notice_file(folder), asdict(replace(notice, run="")))
    holders = {registration: _holder(folder, registration) for registration in _registrations(folder)}
    until = time.monotonic() + FAREWELL_SECONDS
    while living := [str(who) for who, holder in holders.items() if holder.lives()]:
        if time.monotonic() > until:
            raise AlreadyRunning(
                f"{layout.root}: expected the assistants of the last update to have ended with it, but "
                f"still there: {', '.join(living)}. End them; this run did nothing, the next one tries again."
            )
        time.sleep(_LOOK_AGAIN_SECONDS)
    for path in folder.iterdir():
        if path != _lock_file(folder):
            path.unlink(missing_ok=True)
    return [registration.worker for registration in holders] + ([notice.worker] if notice else [])


def _no_update(layout: Layout) -> str:
    return (
        f"{layout.root}: expected an update of this mirror that runs with a central scheduler, to assist it; "
        "there is none. Start one first; this assistant did nothing."
    )


def _new_registration(run: str, worker: str) -> Registration:
    host, pid = socket.gethostname(), os.getpid()
    # Containers may share a host's name and use the same process ids.
    name = f"{host}.{pid}.{secrets.token_hex(4)}"
    return Registration(name, host, pid, utc_now(), run, worker, os.cpu_count() or 1)


def _register(folder: Path, registration: Registration) -> int:
    """The registration, locked: it gets its name when it is, so that who sees it sees it locked."""
    hidden = folder / f".{registration.name}"
    file = os.open(hidden, _WRITING, 0o666)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.write(file, json.dumps(asdict(registration)).encode())
    os.rename(hidden, _path(folder, registration))
    return file


def _registrations(folder: Path) -> list[Registration]:
    found = (
        _read(path) for path in sorted(folder.glob(f"[!.]*{_REGISTERED}")) if path != _notice_file(folder)
    )
    return [Registration(**content) for content in found if content]


def _forget(folder: Path, name: str) -> None:
    for suffix in (_REGISTERED, _REPORT):
        (folder / (name + suffix)).unlink(missing_ok=True)


def _path(folder: Path, registration: Registration) -> Path:
    return folder / (registration.name + _REGISTERED)


def _holder(folder: Path, registration: Registration) -> Holder:
    path = _path(folder, registration)
    return Holder(path, registration.host, path)


def _lock_file(folder: Path) -> Path:
    return folder / "update.lock"


def _notice_file(folder: Path) -> Path:
    return folder / "update.json"


def _locked(path: Path) -> int:
    """The file, locked; assistants that look whether it is locked hold it for a moment."""
    file = os.open(path, _WRITING, 0o666)
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            time.sleep(_LOOK_AGAIN_SECONDS)


def _notice(folder: Path) -> Notice | None:
    content = _read(_notice_file(folder))
    return Notice(**content) if content else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Path, content: dict[str, Any]) -> None:
    """Whole, but not durably: none of it outlives the processes that say it."""
    hidden = path.with_name(f".{path.name}")
    hidden.write_text(json.dumps(content))
    os.replace(hidden, path)
