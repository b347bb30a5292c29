"""Membership of this process in the running update, as one of its peers (``peers``)."""

import contextlib
import fcntl
import json
import os
import secrets
import socket
from dataclasses import asdict
from enum import Enum, auto
from pathlib import Path

from pipeline.config import Settings
from pipeline.cores import CORES
from pipeline.errors import AlreadyRunning, SettingsError
from pipeline.mirror.resources.peer_files import (
    WRITING,
    Notice,
    PeerRegistration,
    StepDone,
    lock_file,
    read_notice,
    registration_file,
    report_file,
    settings_digest,
)
from pipeline.mirror.resources.update_lock import Holder
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import utc_now


class NoUpdateToJoin(AlreadyRunning):
    """No update is running that accepts peers."""


class PeerState(Enum):
    """State of a peer: registered, admitted by its update, ending with its update, or without one."""

    WAITING = auto()
    ADMITTED = auto()
    ENDING = auto()
    LOST = auto()


def update_to_join(layout: Layout) -> tuple[Notice, Holder]:
    """Return the update that is running, and its process. Raises NoUpdateToJoin."""
    notice = read_notice(layout.peers)
    if notice is not None:
        holder = Holder(lock_file(layout.peers), notice.host, layout.lock_file)
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
        notice = read_notice(self._folder)
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
            registration_file(self._folder, self._registration).unlink(missing_ok=True)
        os.close(self._file)

    def _write_report(self) -> None:
        path = report_file(self._folder, self._registration.name)
        with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
            file.write(self._unreported)
            self._unreported = b""


def _no_update(layout: Layout) -> str:
    return (
        f"{layout.root}: expected an update of this mirror that runs with a central scheduler, found none. "
        "Start one first; this worker did nothing."
    )


def _new_registration(run: str, worker: str) -> PeerRegistration:
    host, pid = socket.gethostname(), os.getpid()
    # Containers may share a host's name and use the same process ids.
    name = f"{host}.{pid}.{secrets.token_hex(4)}"
    return PeerRegistration(name, host, pid, utc_now(), run, worker, CORES)


def _register(folder: Path, registration: PeerRegistration) -> int:
    """Return the open file of the registration, which is renamed to its name after it is locked."""
    hidden = folder / f".{registration.name}"
    file = os.open(hidden, WRITING, 0o666)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.write(file, json.dumps(asdict(registration)).encode())
    os.rename(hidden, registration_file(folder, registration))
    return file
