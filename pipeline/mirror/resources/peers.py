"""Peers: workers on this host or others that take part in the running update.

The update alone holds the mirror's lock. It publishes one notice with the admitted peers and whether the
update is ending. Each peer registers with a file that stays locked while the peer runs, and appends a line to
its report after each step. The side of a peer is in ``membership``, the files are those of ``peer_files``.

No peer outlives its update: a peer tests the update's lock three times a second, and the next update does not
start before all peers of the last one have exited.
"""

import contextlib
import fcntl
import os
import socket
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import Settings
from pipeline.errors import AlreadyRunning
from pipeline.mirror.resources.peer_files import (
    SILENT_SECONDS,
    WRITING,
    Notice,
    PeerRegistration,
    StepDone,
    lock_file,
    notice_file,
    parsed,
    peer_holder,
    read_notice,
    registration_file,
    registrations,
    remove_peer,
    report_file,
    settings_digest,
    write_file,
)
from pipeline.mirror.state.layout import Layout

# Seconds that a new update waits for the peers of a killed one to exit.
EXIT_SECONDS = 10.0
_RETRY_SECONDS = 0.2


@dataclass(frozen=True)
class PeerChanges:
    """Result of one poll: the running peers, those that have exited, and the reported steps.

    ``hanging`` is the number of further peers that hang.
    """

    running: list[PeerRegistration]
    hanging: int
    exited: list[PeerRegistration]
    steps: list[StepDone]


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
        self._lock = _locked(lock_file(self._folder))
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
                remove_peer(self._folder, peer.registration.name)
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
            for path in (notice_file(self._folder), lock_file(self._folder)):
                path.unlink(missing_ok=True)
        os.close(self._lock)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _read_registrations(self) -> None:
        for registration in registrations(self._folder):
            is_known = registration.name in self._peers or registration.name in self._exited
            if registration.run == self._notice.run and not is_known:
                self._peers[registration.name] = _Peer(self._folder, registration)

    def _publish(self) -> None:
        """Write the notice where it differs from what was written last. Raises OSError."""
        content = asdict(self._notice)
        if content != self._published:
            write_file(notice_file(self._folder), content)
            self._published = content


class _Peer:
    """Registered peer of this update."""

    def __init__(self, folder: Path, registration: PeerRegistration) -> None:
        self.registration = registration
        self.holder = peer_holder(folder, registration)
        self._file = registration_file(folder, registration)
        self._report = report_file(folder, registration.name)
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
        steps = (parsed(StepDone, line) for line in whole.splitlines())
        return [step for step in steps if step is not None]


def wait_for_exit(layout: Layout) -> list[str]:
    """Wait until the peers of a killed update have exited; then remove their files.

    For the holder of the lock, before any other work. Return the names of that update's workers in Luigi's
    scheduler, which may still list them as alive. Raises AlreadyRunning, which names the peers that remain,
    after ``EXIT_SECONDS``.
    """
    folder = layout.peers
    if not folder.is_dir():
        return []
    notice = read_notice(folder)
    if notice:
        # Without ``run``, peers find their update gone. The worker's name is kept in case this run is
        # refused.
        write_file(notice_file(folder), asdict(replace(notice, run="")))
    holders = {registration: peer_holder(folder, registration) for registration in registrations(folder)}
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
        if path != lock_file(folder):
            path.unlink(missing_ok=True)
    return [registration.worker for registration in holders] + ([notice.worker] if notice else [])


def _locked(path: Path) -> int:
    """Return the open file, locked. A peer that tests the lock may hold it for a moment."""
    file = os.open(path, WRITING, 0o666)
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            time.sleep(_RETRY_SECONDS)
