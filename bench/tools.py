"""Programs to compare: this project's mirror with several settings, and general download tools."""

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.check import check
from bench.daemons import BIN, HOST, REPOSITORY, luigid
from bench.measure import Run, run
from bench.payload import Payload

_PEERS = Path(__file__).parent / "peers"
_SETTINGS = "mirror.yaml"


@dataclass(frozen=True)
class Tool:
    """Program that mirrors a whole Data Store into an empty folder: discover, fetch, verify, unpack."""

    name: str

    def missing(self) -> str | None:
        """Return the software that has to be installed first; None when all is there."""
        raise NotImplementedError

    def run(self, url: str, folder: Path) -> Run:
        """Mirror the Data Store at ``url`` to ``store/`` and ``data/`` in ``folder``."""
        raise NotImplementedError


@dataclass(frozen=True)
class Ours(Tool):
    """Command ``luigi``, start-up included, with the local or the central scheduler."""

    connections: int | None = None
    central: bool = False
    catalog: bool = False

    def missing(self) -> str | None:
        """Return None."""
        return None

    def run(self, url: str, folder: Path) -> Run:
        """Run one update. CPU time and memory of a central scheduler are included."""
        command = self._command(url, folder, "UpdateMirror")
        if not self.central:
            return run([*command, "--local-scheduler"], REPOSITORY, folder / "output.log")
        with luigid(folder) as scheduler:
            before = scheduler.cpu_seconds()
            command += ["--scheduler-host", HOST, "--scheduler-port", str(scheduler.port)]
            done = run(command, REPOSITORY, folder / "output.log")
            used = scheduler.cpu_seconds() - before
            peak = max(done.peak_bytes, scheduler.peak_bytes())
        return Run(done.seconds, done.cpu_seconds + used, peak)

    def status(self, folder: Path) -> Run:
        """Print the state of the mirror that ``run`` made."""
        command = [str(BIN / "ipp-mirror"), "status", "--config", str(folder / _SETTINGS)]
        return run(command, REPOSITORY, folder / "status.log")

    def adopt(self, url: str, folder: Path, old: Path) -> Run:
        """Adopt the files of the folder ``old`` by link."""
        command = self._command(url, folder, "AdoptMirror", "--folder", str(old))
        return run([*command, "--local-scheduler"], REPOSITORY, folder / "output.log")

    def _command(self, url: str, folder: Path, *task: str) -> list[str]:
        """Return the command of a task, after writing its settings."""
        config = self.settings(url, folder)
        return [str(BIN / "luigi"), "--module", "tasks", *task, "--mirror-config", str(config)]

    def settings(self, url: str, folder: Path) -> Path:
        """Write the settings of a mirror in the folder; return their file."""
        config = folder / _SETTINGS
        source = {"url": url} | ({"connections": self.connections} if self.connections else {})
        settings = {
            "source": source,
            "mirror": {"root": str(folder), "page": False},
            "catalog": {"enabled": self.catalog, "coverage": False},
        }
        config.write_text(json.dumps(settings))
        return config


@dataclass(frozen=True)
class Peer(Tool):
    """Script of peers/, named after its download tool."""

    package: str

    def missing(self) -> str | None:
        """Return the Debian package of the tool if its command is missing."""
        return None if shutil.which(self.name) else f"Debian package {self.package}"

    def run(self, url: str, folder: Path) -> Run:
        """Run the script, from the listings to the unpacked files."""
        return run(["bash", str(_PEERS / f"{self.name}.sh"), url], folder, folder / "output.log")


OURS = Ours("ours")
OURS_CENTRAL = Ours("ours, central scheduler", central=True)
OURS_CATALOG = Ours("ours, with a catalog", catalog=True)
OURS_8 = Ours("ours, 8 connections", connections=8)
WGET = Peer("wget", package="wget")
ARIA2C = Peer("aria2c", package="aria2")
RCLONE = Peer("rclone", package="rclone")


def installed(tools: list[Tool]) -> list[Tool]:
    """Return the installed ones; print the name of each other one, and its missing software."""
    for each in tools:
        if missing := each.missing():
            print(f"{each.name} is left out: it needs {missing}")
    return [each for each in tools if each.missing() is None]


def compare(tools: list[Tool], payload: Payload, url: str, target: Path, rounds: int) -> dict[str, list[Run]]:
    """Return the runs of all tools, by name, each into an empty folder ``target`` and checked.

    Tools run in turns; every round begins with another one, so that none always follows the same.
    """
    runs: dict[str, list[Run]] = {each.name: [] for each in tools}
    for number in range(rounds):
        first = number % len(tools)
        for tool in tools[first:] + tools[:first]:
            with ExitStack() as afterwards:
                target.mkdir(parents=True)
                afterwards.callback(shutil.rmtree, target)
                runs[tool.name].append(tool.run(url, target))
                check(payload, target, thorough=isinstance(tool, Ours))
            print(
                f"  round {number + 1}: {tool.name} {runs[tool.name][-1].seconds:.2f} s",
                flush=True,
            )
    return runs
