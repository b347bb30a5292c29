"""A Data Store that tests change and serve again, and the mirror that follows it."""

import gc
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from pipeline.sample.simulator import Simulator, simulate

T = TypeVar("T")
REPOSITORY = Path(__file__).resolve().parent.parent
COLUMNS = ("filesetID", "time registered", "type", "target_id", "stage", "stage_id", "exp_name", "filter")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names a case of bytes that are no text by its place: compressed bytes hold the second of their making.

    Each process of a run collects the tests by itself, and all must find the same names.
    """
    return argname if isinstance(val, bytes) and not val.isascii() else None


def bundle(members: dict[str, bytes]) -> bytes:
    """A gzipped tar archive as a distribution bundle is written."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        top = tarfile.TarInfo("./")
        top.type, top.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(top)
        for name, content in members.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mtime = len(content), 1_250_000_000
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def dirinfo(destdir: str, components: dict[str, str]) -> bytes:
    """A dirinfo document."""
    rows = "".join(f"\t{name}\tSTR\t{folder}\n" for name, folder in components.items())
    return f"destdir METADATA\n\tdestdir\tSTR\t{destdir}\nEND\n\ncomponents METADATA\n{rows}END\n".encode()


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
        names = "".join(f"{name}|none|2009-07-29T00:00:00Z|ipp-dist|test|\n" for name in self.products)
        (self.folder / "index.txt").write_text(
            f"# productID|Most recent|Time registered|type|Description|\n{names}\n"
        )


@dataclass
class Ended:
    """How a command ended."""

    code: int
    output: str


@dataclass
class Follower:
    """A mirror of the served store, updated as a person does it: with the ``luigi`` command."""

    folder: Path
    url: str
    source: dict[str, object] = field(default_factory=dict)
    mirror: dict[str, object] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "mirror"

    @property
    def config(self) -> Path:
        path = self.folder / "mirror.yaml"
        settings = {
            "source": {"url": self.url, "retry_pause": 0.02, "timeout": 5} | self.source,
            "mirror": {"root": str(self.root)} | self.mirror,
        }
        path.write_text(json.dumps(settings))
        return path

    def command(self, *more: str) -> list[str]:
        """The update as a command line."""
        luigi = [str(Path(sys.executable).with_name("luigi")), "--module", "tasks", "UpdateMirror"]
        return [*luigi, "--mirror-config", str(self.config), "--local-scheduler", *more]

    def update(self, *more: str) -> Ended:
        """Run one update."""
        return ended(self.command(*more))

    def marked(self, step: str, product: str) -> set[str]:
        """The filesets that have a marker of that step."""
        return {path.stem for path in (self.root / "state" / product / step).glob("*.json")}

    def content(self, room: str) -> dict[str, bytes]:
        """Every file below one folder of the root."""
        return tree(self.root / room)


def ended(command: list[str]) -> Ended:
    """Run a command from the repository root."""
    environment = os.environ | {"PYTHONWARNINGS": "error::DeprecationWarning:tasks,error::ResourceWarning"}
    result = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    return Ended(result.returncode, result.stdout + result.stderr)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below the folder: its path and its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def served_filesets(upstream: Upstream, *products: str) -> dict[str, bytes]:
    """What ``store/`` of a complete mirror holds: all files of all filesets, and their index.txt."""
    whole = tree(upstream.folder)
    return {
        path: content
        for path, content in whole.items()
        if path.count("/") == 2 and (not products or path.split("/")[0] in products)
    }


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "upstream")


@pytest.fixture
def server(upstream: Upstream):
    with simulate(upstream.folder) as running:
        yield running


@pytest.fixture
def follower(tmp_path: Path, server: Simulator) -> Follower:
    return Follower(tmp_path, server.url)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    """A certificate of 127.0.0.1 with its key, both in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    named = "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 {named} -keyout {path} -out {path}.crt"
    subprocess.run(command.split(), check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


def takes_at_most(times: float, work: Callable[[T], object], less: T, more: T, slack: float = 0.05) -> bool:
    """Whether ``more`` takes at most so many times the processor time of ``less``, and ``slack`` (seconds).

    What else happens on the machine only ever adds to a measurement: the least of some counts, and
    there are more of them while the answer is no.
    """
    least, most = float("inf"), float("inf")
    for tried in range(1, 11):
        least, most = min(least, _spent(work, less)), min(most, _spent(work, more))
        if tried >= 3 and most < times * least + slack:
            return True
    return False


def _spent(work: Callable[[T], object], what: T) -> float:
    """Processor seconds, without the garbage collector, which looks at all that the tests before left."""
    gc.collect()
    gc.disable()
    try:
        begun = time.process_time()
        work(what)
        return time.process_time() - begun
    finally:
        gc.enable()
