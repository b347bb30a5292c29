"""Mirror of many filesets of chips, made from a few by hard links, and the rebuild of its catalog.

Only files that a rebuild reads are there: listing, markers, documents and FITS files. The FITS files of a
fileset are links to those of one of the few, so that all of them are in memory. ``python -m bench.rebuild
SAMPLE ROOT NUMBER`` makes the mirror from the one at SAMPLE; the benchmark does so in a separate process.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.markers import Fileset

# Exposures of the survey have such names too, of other nights: 10,000 of each of these.
_FIRST_NIGHT = 5000
_OF_A_NIGHT = 10_000


def many_chips(sample: Path, root: Path, filesets: int) -> None:
    """Make the mirror at ``root`` from the one at ``sample``, and print the time that takes."""
    print(f"making a mirror of {filesets:,} filesets in {root}", flush=True)
    command = [sys.executable, "-m", "bench.rebuild", str(sample), str(root), str(filesets)]
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)


def make(sample: Layout, layout: Layout, filesets: int) -> None:
    """Write the filesets of the sample in turn, each time with the name of another exposure."""
    for product in sample.state_products():
        rows = LocalListing(sample, product).rows()
        copies = [_Copy(sample, layout, Fileset.of(product, row)) for row in rows]
        listing = sample.listing(product).read_bytes().splitlines(keepends=True)
        layout.state(product).mkdir(parents=True)
        with open(layout.listing(product), "wb") as listed:
            listed.write(listing[0])
            pairs = zip(copies, listing[1:], strict=True)
            for number, (copy, row) in enumerate(islice(cycle(list(pairs)), filesets)):
                listed.write(copy.write(row, number))


class _Copy:
    """Fileset of the sample that is written many times."""

    def __init__(self, sample: Layout, layout: Layout, fileset: Fileset) -> None:
        self._root, self._target = str(sample.root), str(layout.root)
        self._exposure = fileset.columns["exp_name"].encode()
        identity = (fileset.product, fileset.name)
        texts = [sample.marker(kind, *identity) for kind in (MarkerKind.DOWNLOADED, MarkerKind.EXTRACTED)]
        texts += [*sample.info(*identity).iterdir()]
        texts += [path for path in sample.store(*identity).iterdir() if path.suffix in {".txt", ".mdc"}]
        self._texts = [(self._relative(path), path.read_bytes()) for path in texts]
        self._linked = [self._relative(path) for path in self._images(sample)]

    def write(self, row: bytes, number: int) -> bytes:
        """Write the files; return the row of the listing."""
        night, of_night = divmod(number, _OF_A_NIGHT)
        exposure = b"o%04dg%04do" % (_FIRST_NIGHT + night, of_night)
        renamed = (self._exposure.decode(), exposure.decode())
        folders = set()
        for relative, text in self._texts:
            path = self._path(relative.replace(*renamed), folders)
            Path(path).write_bytes(text.replace(self._exposure, exposure))
        for relative in self._linked:
            os.link(f"{self._root}/{relative}", self._path(relative.replace(*renamed), folders))
        return row.replace(self._exposure, exposure)

    def _images(self, sample: Layout) -> Iterator[Path]:
        return (path for path in sample.data.rglob(f"{self._exposure.decode()}*/*.fits"))

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _path(self, relative: str, folders: set[str]) -> str:
        """Return the path in the mirror, whose folder is made with the first file."""
        path = f"{self._target}/{relative}"
        folder = path.rpartition("/")[0]
        if folder not in folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
            folders.add(folder)
        return path


if __name__ == "__main__":
    make(Layout(Path(sys.argv[1])), Layout(Path(sys.argv[2])), int(sys.argv[3]))
