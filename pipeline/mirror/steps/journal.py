"""Journal of an unpacking in progress, by which the next run removes the leftovers of a killed one.

The journal names the folders of temporary files before the first of these is written, and the files that are
about to be renamed into place.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.bundle.unpack import remove_temporaries
from pipeline.durable import write_whole
from pipeline.mirror.state.layout import Layout, short_digest
from pipeline.mirror.state.markers import Fileset

# Raised by reading a file that is no journal, or a damaged one.
_NO_JOURNAL = (OSError, ValueError, LookupError, TypeError)


@dataclass(frozen=True)
class Journal:
    """Journal in ``folder``. Temporary files of the fileset have ``tag`` in their names."""

    folder: Path
    tag: str

    @property
    def _file(self) -> Path:
        return self.folder / "unpacking.json"

    def start(self, folders: set[Path]) -> None:
        """Clean up after an unpacking that was killed, and record the folders of this one."""
        self.clean_up()
        self._write(sorted(str(folder) for folder in folders), self.files())

    def record(self, files: set[str]) -> None:
        """Record the files (relative to the root) that are about to be renamed into place."""
        if self._file.exists():
            self._write(self._read()["folders"], files)

    def files(self) -> set[str]:
        """Return the files that a killed unpacking may have put in place without a marker."""
        return set(self._read()["files"])

    def clean_up(self) -> None:
        """Remove the temporary files that a killed unpacking left."""
        for folder in self._read()["folders"]:
            remove_temporaries(Path(folder), self.tag)

    def end(self) -> None:
        """Remove the journal, with all that is left in ``incoming/`` for the fileset."""
        self._file.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> dict[str, list[str]]:
        nothing: dict[str, list[str]] = {"folders": [], "files": []}
        try:
            content = json.loads(self._file.read_bytes())
            return {kind: [str(path) for path in content[kind]] for kind in nothing}
        except _NO_JOURNAL:
            return nothing

    def _write(self, folders: list[str], files: set[str]) -> None:
        write_whole(self._file, json.dumps({"folders": folders, "files": sorted(files)}).encode())


def journal_of(layout: Layout, fileset: Fileset) -> Journal:
    """Return the journal of the fileset's unpacking."""
    folder = layout.incoming(fileset.product, fileset.name)
    return Journal(folder, short_digest(str(fileset)))
