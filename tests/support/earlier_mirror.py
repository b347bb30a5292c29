"""A mirror that a killed update of an earlier version left, restored from ``tests/fixtures``.

It was made by a program of that format, with updates that were killed at chosen instants.
"""

import json
import os
import tarfile
import time
import zlib
from hashlib import sha256
from pathlib import Path

ARCHIVE = Path(__file__).resolve().parent.parent / "fixtures" / "mirror-format-1.tar.xz"
ROOT_MARK = b"@ROOT@"

PRODUCT = "md-all-rel-200907"
OTHER = "other"
# Complete, with bundles: the second has taken a file over from the first.
COMPLETE = {"o1.chip.1.1.1", "o1.chip.1.2.1", "plain"}
GONE = "o3.chip.1.1.1"
SKIPPED = "unwanted"
WRONG = "wrong"
# Registered again and not fetched yet.
AGAIN = "o2.chip.1.1.1"
# Downloaded, and unpacked in part.
UNPACKING = "late1.chip.1.1.1"
# Likewise; its journal has the key ``ahead``, which only earlier versions know.
AHEAD = "late2.chip.1.1.1"
RESUMED = "late3"
LARGE = "late4"
_SECOND = 10**9
_SCHEMA = 1


def restore(folder: Path, *, keep_times: bool) -> None:
    """Restore the mirror to ``folder/mirror`` and its upstream to ``folder/upstream``.

    The correction that is published later comes to ``folder/corrected``. Without ``keep_times`` every file of
    the mirror has been modified now, as after a copy that does not keep modification times.
    """
    root = folder / "mirror"
    times: dict[Path, int] = {}
    with tarfile.open(ARCHIVE) as tar:
        for member in tar:
            top, _, name = member.name.partition("/")
            target = (root if top == "root" else folder / top) / name
            content = tar.extractfile(member)
            if content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())
            seconds, _, fraction = member.pax_headers["mtime"].partition(".")
            times[target] = int(seconds) * _SECOND + int(fraction)
    _set_root(root, times)
    for path, modified in times.items():
        if keep_times or not path.is_relative_to(root):
            os.utime(path, ns=(modified, modified))
    # The lock of another host counts as held while that host touches it.
    killed = time.time() - 3600
    os.utime(root / "state" / "update.lock", (killed, killed))


def publish_correction(folder: Path) -> None:
    """Have the upstream tree restored to ``folder`` correct the fileset that fails."""
    for path in sorted((folder / "corrected").rglob("*")):
        if path.is_file():
            os.replace(path, folder / "upstream" / path.relative_to(folder / "corrected"))


def partial_file(root: Path, fileset: str, name: str) -> Path:
    """The partial file of a file that is being fetched."""
    digest = sha256(name.encode()).hexdigest()[:16]
    return root / "incoming" / PRODUCT / fileset / "partial" / f"{digest}.part"


def journal_file(root: Path, fileset: str) -> Path:
    """The journal of an unpacking."""
    return root / "incoming" / PRODUCT / fileset / "unpacking.json"


def _set_root(root: Path, times: dict[Path, int]) -> None:
    """Put the path of the root folder where it belongs, and the sizes and CRC-32 that result into markers."""
    changed: dict[str, dict[str, object]] = {}
    for path in times:
        if path.is_relative_to(root) and ROOT_MARK in (content := path.read_bytes()):
            content = content.replace(ROOT_MARK, os.fsencode(root))
            path.write_bytes(content)
            described = {"bytes": len(content), "crc32": f"{zlib.crc32(content):08x}"}
            changed[path.relative_to(root).as_posix()] = described
    for step in ("extracted", "superseded"):
        for path in root.glob(f"state/*/{step}/*.json"):
            marker = json.loads(path.read_bytes())
            marker["files"] = [file | changed.get(file["path"], {}) for file in marker["files"]]
            text = (json.dumps(marker, indent=1) + "\n").encode()
            if text != path.read_bytes():
                path.write_bytes(text)
                times[path] = times[path] // _SECOND * _SECOND + _SCHEMA * 10**8 + len(text)
