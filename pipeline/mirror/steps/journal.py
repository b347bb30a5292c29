"""What is remembered of a fileset's unpacking while it lasts, so that a kill leaves nothing for long.

The journal names the folders in which temporary files may lie before the first of them is written, and the
files that are about to get their names. It also has on record which bundles were unpacked while the fileset
was fetched; whoever unpacks it takes those over.
"""

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

from pipeline.bundle.unpack import UnpackedFile, remove_temporaries, temporary_name
from pipeline.durable import write_whole
from pipeline.mirror.state.layout import Layout, short_digest
from pipeline.mirror.state.markers import Fileset

# What reading a file that is no journal, or a damaged one, leads to.
_NO_JOURNAL = (OSError, ValueError, LookupError, TypeError)


@dataclass(frozen=True)
class AsUnpacked:
    """A bundle as it was unpacked ahead: its name, size and md5 as listed, and under which settings.

    ``folder`` is absolute: where the root lies is written into config dumps.
    """

    bundle: str
    bytes: int
    md5: str | None
    folder: str
    ratio: int


@dataclass(frozen=True)
class Journal:
    """The journal in ``folder``. Temporary files of the fileset have ``tag`` in their names."""

    root: Path
    folder: Path
    tag: str

    @property
    def _file(self) -> Path:
        return self.folder / "unpacking.json"

    def begin(self, folders: set[Path], taken_over: Iterable[UnpackedFile] = ()) -> None:
        """Clean up after an unpacking that was killed, and note the folders of this one.

        The temporary files of ``taken_over`` stay; which bundles they are of is not on record any more.
        """
        files = self.files()
        self.clean_up(but={file.temporary for file in taken_over})
        self._write(sorted(str(folder) for folder in folders), files)

    def note(self, files: set[str]) -> None:
        """Note the files (relative to the root) that are about to get their names."""
        if self._file.exists():
            self._write(self._read()["folders"], files)

    def files(self) -> set[str]:
        """The files that an unpacking which was killed may have put in place, unmarked."""
        return set(self._read()["files"])

    def record(self, ahead: dict[AsUnpacked, list[UnpackedFile]]) -> None:
        """Note bundles that are verified, and unpacked into temporary files that are on the disk."""
        records = [
            asdict(bundle) | {"files": [self._described(file) for file in files]}
            for bundle, files in ahead.items()
        ]
        self._write(self._read()["folders"], self.files(), records)

    @property
    def has_record(self) -> bool:
        """Whether any bundle is on record."""
        return bool(self._records())

    def recorded(self, bundle: AsUnpacked) -> list[UnpackedFile] | None:
        """What the bundle was unpacked to; None unless it is on record as it is, and every file is there."""
        wanted = asdict(bundle)
        with suppress(*_NO_JOURNAL):
            for record in self._records():
                if {key: record[key] for key in wanted} == wanted:
                    files = [self._unpacked(file) for file in record["files"]]
                    return files if all(map(_is_there, files)) else None
        return None

    def clean_up(self, but: set[Path] = frozenset()) -> None:
        """Remove the temporary files that a killed unpacking left, other than those in ``but``."""
        for folder in self._read()["folders"]:
            remove_temporaries(Path(folder), self.tag, but)

    def give_up(self) -> None:
        """Remove all temporary files, and forget all but the files that have their names.

        What cannot be removed now stays noted: whoever unpacks the fileset next tells of the reason.
        """
        with suppress(OSError):
            if not self._file.exists():
                return
            self.clean_up()
            if files := self.files():
                self._write([], files)
            else:
                self._file.unlink()

    def end(self) -> None:
        """Forget the folders: nothing temporary is left in them, nor anything to be fetched on with."""
        self._file.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> dict[str, list[str]]:
        nothing: dict[str, list[str]] = {"folders": [], "files": []}
        try:
            noted = json.loads(self._file.read_bytes())
            return {kind: [str(path) for path in noted[kind]] for kind in nothing}
        except _NO_JOURNAL:
            return nothing

    def _records(self) -> list[dict[str, Any]]:
        try:
            return list(json.loads(self._file.read_bytes())["ahead"])
        except _NO_JOURNAL:
            return []

    def _write(self, folders: list[str], files: set[str], ahead: list[dict[str, Any]] | None = None) -> None:
        noted = {"folders": folders, "files": sorted(files)} | ({"ahead": ahead} if ahead else {})
        write_whole(self._file, json.dumps(noted).encode())

    def _described(self, file: UnpackedFile) -> dict[str, Any]:
        path = file.path.relative_to(self.root).as_posix()
        return {"path": path, "bytes": file.bytes, "crc32": file.crc32}

    def _unpacked(self, described: dict[str, Any]) -> UnpackedFile:
        path = self.root / described["path"]
        temporary = path.with_name(temporary_name(path.name, self.tag))
        return UnpackedFile(path, temporary, described["bytes"], described["crc32"])


def journal_of(layout: Layout, fileset: Fileset) -> Journal:
    """The journal of the fileset's unpacking."""
    folder = layout.incoming(fileset.product, fileset.name)
    return Journal(layout.root, folder, short_digest(str(fileset)))


def _is_there(file: UnpackedFile) -> bool:
    """Whether the temporary file is one of the recorded size. Raises OSError when there is none."""
    state = file.temporary.lstat()
    return S_ISREG(state.st_mode) and state.st_size == file.bytes
