"""Files in ``workers/``, by which an update and its peers know of each other (docs/on-disk.md, "Workers").

The update writes its notice; each peer writes its registration, and a report of its steps.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from pipeline import __version__
from pipeline.config import Settings
from pipeline.errors import EXIT_DONE, EXIT_SETTINGS_OR_BUG
from pipeline.mirror.resources.update_lock import Holder

# Seconds without a touch of its registration after which a peer counts as hanging: no update waits for it.
SILENT_SECONDS = 30.0
# Seconds of suspension after which a peer exits at once: its tasks may run in another process.
HUNG_SECONDS = 20.0
# Of files that are locked.
WRITING = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
_REGISTERED, _REPORT = ".json", ".report"
T = TypeVar("T")


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


def settings_digest(settings: Settings) -> str:
    """Return a digest of the settings and the version of the program."""
    return hashlib.sha256(f"{__version__} {settings.model_dump_json()}".encode()).hexdigest()


def lock_file(folder: Path) -> Path:
    """Return the path of the file that the update locks."""
    return folder / "update.lock"


def notice_file(folder: Path) -> Path:
    """Return the path of the notice."""
    return folder / "update.json"


def registration_file(folder: Path, registration: PeerRegistration) -> Path:
    """Return the path of the file that the peer locks, with its registration."""
    return folder / (registration.name + _REGISTERED)


def report_file(folder: Path, peer: str) -> Path:
    """Return the path of the report of the peer of that name: a line for each step."""
    return folder / (peer + _REPORT)


def peer_holder(folder: Path, registration: PeerRegistration) -> Holder:
    """Return the peer as the holder of its lock."""
    path = registration_file(folder, registration)
    return Holder(path, registration.host, path)


def registrations(folder: Path) -> list[PeerRegistration]:
    """Return all registrations, of other updates too."""
    paths = sorted(folder.glob(f"[!.]*{_REGISTERED}"))
    found = (_read(PeerRegistration, path) for path in paths if path != notice_file(folder))
    return [registration for registration in found if registration is not None]


def read_notice(folder: Path) -> Notice | None:
    """Return the notice; None where there is none, or something else."""
    return _read(Notice, notice_file(folder))


def remove_peer(folder: Path, peer: str) -> None:
    """Remove the registration and the report of the peer of that name."""
    for suffix in (_REGISTERED, _REPORT):
        (folder / (peer + suffix)).unlink(missing_ok=True)


def _read(kind: type[T], path: Path) -> T | None:
    """Return the content of the file; None without the file, and where the content is something else."""
    try:
        return parsed(kind, path.read_bytes())
    except FileNotFoundError:
        return None


def parsed(kind: type[T], content: bytes) -> T | None:
    """Return the content as a notice, a registration or a step; None for anything else."""
    try:
        found: T = _adapters()[kind].validate_json(content, strict=True)
    except ValidationError:
        return None
    return found


@cache
def _adapters() -> dict[type[Any], TypeAdapter[Any]]:
    """Return the adapter of each class. To make them takes long, and most updates have no peers."""
    return {kind: TypeAdapter(kind) for kind in (Notice, PeerRegistration, StepDone)}


def write_file(path: Path, content: dict[str, Any]) -> None:
    """Write the file by one rename; not durably, as the content is of no use without the process."""
    hidden = path.with_name(f".{path.name}")
    hidden.write_text(json.dumps(content))
    os.replace(hidden, path)
