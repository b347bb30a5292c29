"""A publisher's tree that tests change."""

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from support.bundles import bundle, dirinfo
from support.trees import tree

COLUMNS = ("filesetID", "time registered", "type", "target_id", "stage", "stage_id", "exp_name", "filter")


@dataclass
class File:
    """One file of a fileset; ``listed`` overrides what its listing row says."""

    name: str
    content: bytes
    type: str = "fits"
    component: str = ""
    listed: dict[str, str] = field(default_factory=dict)

    def row(self) -> str:
        row = {"bytes": str(len(self.content)), "md5": hashlib.md5(self.content).hexdigest()} | self.listed
        return f"{self.name}|{row['bytes']}|{row['md5']}|{self.type}|{self.component}|"


@dataclass
class Upstream:
    """A publisher's tree that tests change. Filesets are in the order of their registration."""

    folder: Path
    clock: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.products: dict[str, dict[str, tuple[str, ...]]] = {}

    def add(self, product: str, fileset: str, files: list[File], **columns: str) -> None:
        """Register a fileset, or register it again: it then moves to the end of the list."""
        self.clock += 1
        registered = f"2009-07-29T{self.clock // 3600:02}:{self.clock // 60 % 60:02}:{self.clock % 60:02}Z"
        row = {"stage": "chip", "type": "IPP-DIST"} | columns
        folder = self.folder / product / fileset
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        for file in files:
            (folder / file.name).write_bytes(file.content)
        rows = "".join(f"{file.row()}\n" for file in files)
        (folder / "index.txt").write_text(f"# fileID|bytes|md5sum|type|component|\n{rows}\n")
        self.products.setdefault(product, {}).pop(fileset, None)
        values = (row.get(column, "null") for column in COLUMNS[3:])
        self.products[product][fileset] = (fileset, registered, row["type"], *values)
        self._announce(product)

    def add_bundles(self, product: str, fileset: str, bundles: dict[str, dict[str, bytes]], **more) -> None:
        """Register a distribution fileset: a bundle for each component, unpacked below ``destdir``."""
        destdir = more.pop("destdir", "gpc1/MD01")
        components = {name: f"{fileset.split('.')[0]}.{name}" for name in bundles}
        described = File(f"dirinfo.{fileset}.mdc", dirinfo(destdir, components), "text", "dirinfo")
        packed = [
            File(f"{fileset}.{name}.tgz", bundle(files), "tgz", name) for name, files in bundles.items()
        ]
        self.add(product, fileset, [described, *packed], **more)

    def withdraw(self, product: str, fileset: str) -> None:
        """Delete a fileset."""
        shutil.rmtree(self.folder / product / fileset)
        del self.products[product][fileset]
        self._announce(product)

    def path(self, product: str, fileset: str, name: str) -> Path:
        """A file as it is served."""
        return self.folder / product / fileset / name

    def _announce(self, product: str) -> None:
        rows = "".join("|".join(row) + "|\n" for row in self.products[product].values())
        (self.folder / product / "index.txt").write_text(f"# {'|'.join(COLUMNS)}|\n{rows}\n")
        newest = {name: next(reversed(filesets), "none") for name, filesets in self.products.items()}
        names = "".join(
            f"{name}|{last}|2009-07-29T00:00:00Z|ipp-dist|test|\n" for name, last in newest.items()
        )
        (self.folder / "index.txt").write_text(
            f"# productID|Most recent|Time registered|type|Description|\n{names}\n"
        )


def served_filesets(upstream: Upstream, *products: str) -> dict[str, bytes]:
    """Return the files of ``store/`` of a complete mirror: all files of all filesets, and their index.txt."""
    whole = tree(upstream.folder)
    return {
        path: content
        for path, content in whole.items()
        if path.count("/") == 2 and (not products or path.split("/")[0] in products)
    }
