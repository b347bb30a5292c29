"""Who takes part: this project's mirror in its forms, and the tools that people would use instead."""

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


@dataclass(frozen=True)
class Contestant:
    """Mirrors a whole Data Store into an empty folder: discover, fetch, verify, unpack."""

    name: str

    def missing(self) -> str | None:
        """What has to be installed before it can take part; None when nothing has."""
        raise NotImplementedError

    def run(self, url: str, folder: Path) -> Run:
        """Mirror the Data Store at ``url``; leaves ``store/`` and ``data/`` in ``folder``."""
        raise NotImplementedError


@dataclass(frozen=True)
class Ours(Contestant):
    """The ``luigi`` command, start-up included, with the local or the central scheduler."""

    connections: int = 8
    central: bool = False

    def missing(self) -> str | None:
        """It is always there."""
        return None

    def run(self, url: str, folder: Path) -> Run:
        """One update. What a central scheduler takes of CPU time and memory is counted as ours."""
        config = folder / "mirror.yaml"
        settings = {"source": {"url": url, "connections": self.connections}, "mirror": {"root": str(folder)}}
        config.write_text(json.dumps(settings))
        command = [str(BIN / "luigi"), "--module", "tasks", "UpdateMirror", "--mirror-config", str(config)]
        if not self.central:
            return run([*command, "--local-scheduler"], REPOSITORY, folder / "output.log")
        with luigid(folder) as scheduler:
            before = scheduler.cpu_seconds()
            command += ["--scheduler-host", HOST, "--scheduler-port", str(scheduler.port)]
            done = run(command, REPOSITORY, folder / "output.log")
            used = scheduler.cpu_seconds() - before
            peak = max(done.peak_bytes, scheduler.peak_bytes())
        return Run(done.seconds, done.cpu_seconds + used, peak)


@dataclass(frozen=True)
class Peer(Contestant):
    """A script of peers/, named after the tool that it is about."""

    package: str

    def missing(self) -> str | None:
        """The Debian package, when its command is not there."""
        return None if shutil.which(self.name) else f"Debian package {self.package}"

    def run(self, url: str, folder: Path) -> Run:
        """The script, from the listings to the unpacked files."""
        return run(["bash", str(_PEERS / f"{self.name}.sh"), url], folder, folder / "output.log")


OURS = Ours("ours")
OURS_CENTRAL = Ours("ours, central scheduler", central=True)
OURS_16 = Ours("ours, 16 connections", connections=16)
WGET = Peer("wget", package="wget")
ARIA2C = Peer("aria2c", package="aria2")
RCLONE = Peer("rclone", package="rclone")


def present(contestants: list[Contestant]) -> list[Contestant]:
    """Those that can take part; says who cannot, and why."""
    for each in contestants:
        if missing := each.missing():
            print(f"{each.name} is left out: it needs {missing}")
    return [each for each in contestants if each.missing() is None]


def race(
    contestants: list[Contestant], payload: Payload, url: str, arena: Path, rounds: int
) -> dict[str, list[Run]]:
    """The runs of all contestants, taking turns, each into an empty folder below ``arena``, each checked.

    Every round begins with another one, so that none always follows the same.
    """
    runs: dict[str, list[Run]] = {each.name: [] for each in contestants}
    for number in range(rounds):
        first = number % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            with ExitStack() as afterwards:
                arena.mkdir(parents=True)
                afterwards.callback(shutil.rmtree, arena)
                runs[contestant.name].append(contestant.run(url, arena))
                check(payload, arena, thorough=isinstance(contestant, Ours))
            print(
                f"  round {number + 1}: {contestant.name} {runs[contestant.name][-1].seconds:.2f} s",
                flush=True,
            )
    return runs
