"""Store of two products whose filesets hold the same paths: each fileset of the later one replaces all files
of one of the earlier one.
"""

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker
from pipeline.sample.archive import Member, Written, write_archive
from pipeline.sample.publisher import Product, Publication, PublishedFile, writer_of
from pipeline.sample.records import dirinfo

EARLIER, LATER = "earlier", "later"
FILES = 60
# Filesets that unpack into one folder, as those of one night may.
SHARING = 100
_COMPONENT = "exposure"
_FIRST = datetime(2009, 8, 1, 3, 2, 11, tzinfo=UTC)
_MTIME = int(_FIRST.timestamp())
_CHECKED = 50


@dataclass(frozen=True)
class ContestedStore:
    """Store below ``folder``, with ``filesets`` filesets in each product."""

    folder: Path
    filesets: int

    def publish(self, product: str) -> None:
        """Publish the filesets of the product."""
        print(f"making {self.filesets:,} filesets of {FILES} files in {self.folder}", flush=True)
        publication = Publication(self.folder, Product(product, "ipp-dist", "Files of the same paths"))
        first = _FIRST + timedelta(days=product == LATER)
        for number in range(self.filesets):
            registered = first + timedelta(seconds=number)
            publication.add(_name(product, number), registered, "IPP-DIST", _files(product, number))
        publication.announce()

    def check(self, root: Path, product: str) -> None:
        """Check that the files of some filesets are those of ``product``, and replaced all of the other's."""
        layout = Layout(root)
        for number in range(0, self.filesets, max(1, self.filesets // _CHECKED)):
            folder = layout.data / _destdir(number) / _folder(number)
            for member in _members(product, number):
                assert (folder / member.name).read_bytes() == member.content, f"{folder}/{member.name}"
            marker = read_marker(layout.marker(MarkerKind.EXTRACTED, product, _name(product, number))) or {}
            assert len(marker["replaces"]) == (FILES if product == LATER else 0), f"{product} {number}"

    def remove(self) -> None:
        """Remove the store."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _name(product: str, number: int) -> str:
    return f"o5045g{number:05d}o.{'cam' if product == EARLIER else 'warp'}.{14000 + number}.1.1"


def _destdir(number: int) -> str:
    return f"bench/{number // SHARING:04d}"


def _folder(number: int) -> str:
    return f"night.{number // SHARING:04d}"


def _files(product: str, number: int) -> list[PublishedFile]:
    document = dirinfo(_destdir(number), {_COMPONENT: _folder(number)})
    name = _name(product, number)
    return [
        PublishedFile(f"dirinfo.{name}.mdc", "text", writer_of(document), extra=("dirinfo",)),
        PublishedFile(f"{name}.tgz", "tgz", partial(_write, product, number), extra=(_COMPONENT,)),
    ]


def _write(product: str, number: int, path: Path) -> Written:
    return write_archive(path, _members(product, number), _MTIME)


def _members(product: str, number: int) -> Iterator[Member]:
    content = random.Random(f"{product}{number}")
    for part in range(FILES):
        yield Member(f"o5045g{number:05d}o.{14000 + number}.XY{part:02d}.cmf", content.randbytes(120))
