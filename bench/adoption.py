"""Old mirror to adopt, and the Data Store of which it has every file; both have the same inodes."""

import os
import random
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.datastore.listing import INDEX
from pipeline.sample.publisher import Product, Publication, PublishedFile, writer_of

PRODUCT = "adopted"
_FIRST = datetime(2009, 8, 1, 3, 2, 11, tzinfo=UTC)
_DISTINCT_FILES = 32


@dataclass(frozen=True)
class OldTree:
    """Store and old mirror below ``home``: ``filesets`` with ``files`` files of ``size`` bytes each."""

    home: Path
    filesets: int
    files: int
    size: int

    @property
    def store(self) -> Path:
        """Folder of the server."""
        return self.home / "store"

    @property
    def old(self) -> Path:
        """Folder to adopt."""
        return self.home / "old"

    @property
    def count(self) -> int:
        """Number of files to adopt."""
        return self.filesets * self.files

    def make(self) -> None:
        """Make both afresh."""
        print(f"making {self.count:,} files of {self.size:,} bytes in {self.home}", flush=True)
        shutil.rmtree(self.home, ignore_errors=True)
        self.store.mkdir(parents=True)
        content = random.Random(self.size)
        writers = [writer_of(content.randbytes(self.size)) for _ in range(_DISTINCT_FILES)]
        publication = Publication(self.store, Product(PRODUCT, "table", "Files that are adopted"))
        for number in range(self.filesets):
            files = [
                PublishedFile(f"{number}.{part}.fits", "table", writers[(number + part) % _DISTINCT_FILES])
                for part in range(self.files)
            ]
            publication.add(f"fileset.{number:06d}", _FIRST + timedelta(seconds=number), "table", files)
        publication.announce()
        shutil.copytree(
            self.store / PRODUCT,
            self.old / PRODUCT,
            ignore=shutil.ignore_patterns(INDEX),
            copy_function=os.link,
        )

    def check(self, root: Path) -> None:
        """Check that each file of the mirror is the file of the old one. Raises AssertionError."""
        for path in self.old.rglob("*.fits"):
            adopted = root / "store" / path.relative_to(self.old)
            assert adopted.samefile(path), f"{adopted} is not {path}"
