"""Mirror with many old filesets, written without fetching them, and its upstream store.

Only files that an update reads are written: listings on both sides and markers, in the formats of
docs/on-disk.md. ``python -m bench.state HOME KNOWN`` makes one; the benchmark does so in a separate process.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path

from pipeline.datastore.listing import INDEX
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import marker_text

PRODUCT = "bench"
# Filesets with separate markers. Those beyond have hard links to the markers of these, and store/ is empty
# then: an update does not read the files of completed filesets.
_OF_THEIR_OWN = 100_000
_FIRST = datetime(2009, 8, 1, 3, 2, 11, tzinfo=UTC)
_CONTENT = b"SIMPLE  =                    T"
_COLUMNS = "# filesetID|time registered|type|target_id|stage|stage_id|exp_name|data_group|filter|\n"
_PRODUCTS = "# productID|Most recent|Time registered|type|Description|\n"
_FILES = "# fileID|bytes|md5sum|type|component|\n"


@dataclass
class OldMirror:
    """Mirror with ``known`` complete filesets below ``home``, and its upstream store."""

    home: Path
    known: int

    def __post_init__(self) -> None:
        self.published = self.known

    @property
    def root(self) -> Path:
        """Root folder of the mirror."""
        return self.home / "mirror"

    @property
    def store(self) -> Path:
        """Folder of the server: the listing of all filesets, and the files of the newest ones."""
        return self.home / "store"

    def make(self) -> None:
        """Make both afresh."""
        shutil.rmtree(self.home, ignore_errors=True)
        layout = Layout(self.root)
        self._list(layout.listing(PRODUCT))
        self._list(self.store / PRODUCT / INDEX)
        (self.store / INDEX).write_text(f"{_PRODUCTS}{PRODUCT}|none|null|ipp-dist|-|\n")
        self._mark(layout, MarkerKind.DOWNLOADED)
        self._mark(layout, MarkerKind.EXTRACTED)
        for number in range(self.known if self.known <= _OF_THEIR_OWN else 0):
            _put(layout.store(PRODUCT, _name(number)), number)

    def _list(self, path: Path) -> None:
        path.parent.mkdir(parents=True)
        with open(path, "w", encoding="ascii") as file:
            file.write(_COLUMNS)
            file.writelines(_row(number) for number in range(self.known))

    def _mark(self, layout: Layout, step: MarkerKind) -> None:
        (layout.state(PRODUCT) / step).mkdir()
        for number in range(self.known):
            path = layout.marker(step, PRODUCT, _name(number))
            if number < _OF_THEIR_OWN:
                _write_marker(path, number, _files(number) if step is MarkerKind.DOWNLOADED else [])
            else:
                os.link(layout.marker(step, PRODUCT, _name(number % _OF_THEIR_OWN)), path)

    def register(self, count: int) -> None:
        """Publish some more filesets, each with one small file."""
        listing = self.store / PRODUCT / INDEX
        more = range(self.published, self.published + count)
        for number in more:
            _put(self.store / PRODUCT / _name(number), number)
        with open(listing, "a", encoding="ascii") as file:
            file.writelines(_row(number) for number in more)
        self.published = more.stop


def old_mirror(folder: Path, known: int) -> OldMirror:
    """Return a new mirror of that size, below ``folder``."""
    made = OldMirror(folder / f"state-{known}", known)
    print(f"making the state of {known:,} filesets in {made.home}", flush=True)
    command = [sys.executable, "-m", "bench.state", str(made.home), str(known)]
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)
    return made


def _name(number: int) -> str:
    return f"o5045g{number:07d}o.chip.{14000 + number}.1.1"


def _registered(number: int) -> str:
    return f"{_FIRST + timedelta(seconds=number):%Y-%m-%dT%H:%M:%SZ}"


def _row(number: int) -> str:
    exposure = f"o5045g{number:07d}o"
    middle = f"{number % 40}|chip|{14000 + number}|{exposure}|MD01.{number % 10}|{'grizy'[number % 5]}.00000"
    return f"{_name(number)}|{_registered(number)}|IPP-DIST|{middle}|\n"


def _file(number: int) -> str:
    return f"{_name(number)}.fits"


def _files(number: int) -> list[dict[str, object]]:
    digest = md5(_CONTENT).hexdigest()
    return [{"name": _file(number), "bytes": len(_CONTENT), "md5": digest, "type": "fits", "component": None}]


def _put(folder: Path, number: int) -> None:
    """Write the folder of a fileset, the same on the server and in the mirror."""
    folder.mkdir(parents=True)
    listed = f"{_file(number)}|{len(_CONTENT)}|{md5(_CONTENT).hexdigest()}|fits|-|\n"
    (folder / INDEX).write_text(_FILES + listed)
    (folder / _file(number)).write_bytes(_CONTENT)


def _write_marker(path: Path, number: int, files: list[dict[str, object]]) -> None:
    registered = _registered(number)
    text = marker_text(
        {
            "product": PRODUCT,
            "fileset": _name(number),
            "registered": registered,
            "started": registered,
            "finished": registered,
            "files": files,
        }
    )
    path.write_bytes(text)


if __name__ == "__main__":
    OldMirror(Path(sys.argv[1]), int(sys.argv[2])).make()
