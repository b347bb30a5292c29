"""Stores to mirror: valid distribution filesets of reproducible noise.

A bundle holds FITS images of 16-bit noise that shrinks to 1/2.57 under gzip, about as the survey's own images
do, with headers of 300 cards where an image has room for one.
``python -m bench.payload FOLDER NAME`` makes one store; the benchmark does so in a separate process, as
a large parent would distort the measurements.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from isal import isal_zlib

from pipeline.sample.archive import Member, Written, write_archive
from pipeline.sample.plan import ReleaseSummary
from pipeline.sample.publisher import Product, Publication, PublishedFile, writer_of
from pipeline.sample.records import dirinfo

PRODUCT = "bench"
_VERSION = 3
_FIRST_RUN = 14000
_FIRST_REGISTERED = datetime(2009, 8, 1, 3, 2, 11, tzinfo=UTC)
_NOISE_BYTES = 32_000_000
# Standard deviation of the noise, in counts, by which the noise compresses to the ratio above.
_NOISE_SIGMA = 4.0
_CARDS = 300


@dataclass(frozen=True)
class Workload:
    """``filesets`` of ``bundles`` archives each, with ``members`` files of ``member_bytes`` in an archive."""

    name: str
    filesets: int
    bundles: int
    members: int
    member_bytes: int

    @property
    def title(self) -> str:
        """Description, for output."""
        packed = self.members * self.member_bytes / 2.57
        return f"{self.filesets} filesets x {self.bundles} bundles x {packed / 1e6:.3g} MB"


MEDIUM = Workload("medium", filesets=8, bundles=12, members=3, member_bytes=3_000_000)
SMALL = Workload("small", filesets=2000, bundles=4, members=3, member_bytes=17_000)
LARGE = Workload("large", filesets=2, bundles=1, members=40, member_bytes=64_250_000)
ONE = Workload("one", filesets=1, bundles=1, members=13, member_bytes=64_250_000)
GIGABYTE = Workload("gigabyte", filesets=1, bundles=1, members=40, member_bytes=64_250_000)
LONG = Workload("long", filesets=32, bundles=12, members=3, member_bytes=3_000_000)
FEW_SMALL = Workload("few-small", filesets=250, bundles=4, members=3, member_bytes=17_000)
MANY = Workload("many", filesets=20_000, bundles=1, members=1, member_bytes=5_000)
WORKLOADS = {each.name: each for each in (MEDIUM, SMALL, LARGE, ONE, GIGABYTE, LONG, FEW_SMALL, MANY)}


@dataclass(frozen=True)
class Payload:
    """Store on disk, and the files that a mirror of it must have.

    ``files`` is the number of files in the store without product listings, ``bytes`` their size; ``unpacked``
    maps paths below DATA to (bytes, CRC-32).
    """

    workload: Workload
    store: Path
    files: int
    bytes: int
    unpacked: dict[str, tuple[int, int]]

    @property
    def unpacked_bytes(self) -> int:
        """Bytes of all members of all bundles."""
        return sum(size for size, _ in self.unpacked.values())


def payload(folder: Path, workload: Workload) -> Payload:
    """Return the payload below ``folder``, written there first if it is missing."""
    home = folder / f"{workload.name}-{_VERSION}"
    facts = home / "facts.json"
    if not facts.exists() or json.loads(facts.read_text())["workload"] != asdict(workload):
        print(f"making {workload.title} in {home}", flush=True)
        subprocess.run(
            [sys.executable, "-m", "bench.payload", str(home), workload.name],
            check=True,
            cwd=Path(__file__).parent.parent,
        )
    known = json.loads(facts.read_text())
    return Payload(workload, home / "store", known["files"], known["bytes"], known["unpacked"])


def make(home: Path, workload: Workload) -> None:
    """Write the store, then the facts about it: with facts a store is complete."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    product = Product(PRODUCT, "ipp-dist", "Noise for benchmarks", ("stage",))
    publication = Publication(home / "store", product)
    maker = _Maker(workload)
    written = ReleaseSummary()
    for number in range(workload.filesets):
        registered = _FIRST_REGISTERED + timedelta(seconds=number)
        name = f"o5045g{number:04d}o.chip.{_FIRST_RUN + number}.1.1"
        written += publication.add(name, registered, "IPP-DIST", maker.files(name, number), ["chip"])
    publication.announce()
    facts = {"workload": asdict(workload), "files": written.files, "bytes": written.bytes}
    (home / "facts.json").write_text(json.dumps(facts | {"unpacked": maker.unpacked}))


class _Maker:
    """Writer of the files of filesets; ``unpacked`` has the members of all bundles so far, as in Payload."""

    def __init__(self, workload: Workload) -> None:
        import numpy as np  # only here, to keep the process of the benchmark small

        counts = np.random.default_rng(1).normal(0, _NOISE_SIGMA, _NOISE_BYTES // 2).round().astype(">i2")
        turns = 1 + -(-workload.member_bytes // _NOISE_BYTES)
        self._noise = memoryview(np.tile(counts, turns).tobytes())
        self._workload = workload
        self._header = _image_header(workload.member_bytes)
        self.unpacked: dict[str, tuple[int, int]] = {}

    def files(self, fileset: str, number: int) -> list[PublishedFile]:
        """Return the files of a fileset; each component unpacks to ``DATA/bench/FILESET/COMPONENT``."""
        components = [f"XY{bundle:02d}" for bundle in range(self._workload.bundles)]
        document = dirinfo(f"{PRODUCT}/{fileset}", {component: component for component in components})
        files = [
            PublishedFile(
                f"dirinfo.chip.{_FIRST_RUN + number}.mdc", "text", writer_of(document), extra=("dirinfo",)
            )
        ]
        for bundle, component in enumerate(components):
            folder = f"{PRODUCT}/{fileset}/{component}"
            write = partial(self._write, folder, number * self._workload.bundles + bundle)
            files.append(PublishedFile(f"{fileset}.{component}.tgz", "tgz", write, extra=(component,)))
        return files

    def _write(self, folder: str, bundle: int, path: Path) -> Written:
        return write_archive(path, self._members(folder, bundle), int(_FIRST_REGISTERED.timestamp()))

    def _members(self, folder: str, bundle: int) -> Iterator[Member]:
        """Yield members, each from another place in the noise: deflate finds no repetition."""
        size = self._workload.member_bytes
        for image in range(self._workload.members):
            start = (bundle * self._workload.members + image) * 7_654_322 % _NOISE_BYTES
            content = self._header + bytes(self._noise[start : start + size - len(self._header)])
            self.unpacked[f"{folder}/image{image}.fits"] = (size, isal_zlib.crc32(content))
            yield Member(f"image{image}.fits", content)


def _image_header(size: int) -> bytes:
    """Return the header of an image in a file of so many bytes; nothing where it has no room."""
    from astropy.io import fits  # only here, to keep the process of the benchmark small

    header = fits.Header()
    header.update({"SIMPLE": True, "BITPIX": 16, "NAXIS": 2, "NAXIS1": 100, "NAXIS2": size // 250})
    header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.2})
    header.update({"CRPIX1": 50.5, "CRPIX2": 50.5, "CDELT1": -7e-5, "CDELT2": 7e-5})
    header.update({"MJD-OBS": 55041.5, "EXPTIME": 30.0, "FILTER": "r.00000"})
    header.update({f"KEY{number}": number / 7 for number in range(_CARDS - len(header))})
    text: bytes = header.tostring().encode()
    return text if len(text) < size // 5 else b""


if __name__ == "__main__":
    make(Path(sys.argv[1]), WORKLOADS[sys.argv[2]])
