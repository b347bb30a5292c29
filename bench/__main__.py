"""``python -m bench``: time, CPU time and memory of the mirror, and of general download tools."""

import argparse
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.adoption import OldTree
from bench.catalog import catalog_chips, catalog_many_chips, chips, print_ratio
from bench.check import check
from bench.contested import EARLIER, FILES, LATER, ContestedStore
from bench.daemons import Daemon, data_store, nginx, relay
from bench.measure import Run, Spread, disk_write_seconds, first_and_last_thousand, md5_seconds
from bench.memory import PeakMemory, at_a_tenth_and_at_the_end
from bench.payload import (
    FEW_SMALL,
    GIGABYTE,
    LARGE,
    LONG,
    MANY,
    MEDIUM,
    ONE,
    SMALL,
    Payload,
    Workload,
    payload,
)
from bench.questions import ask, ask_postgresql
from bench.relay import HOST, Link
from bench.reporting import reporting_cost
from bench.slow_disk import missing, slow_disk
from bench.state import OldMirror, old_mirror
from bench.tables import comparison_table, measured_cells, print_table
from bench.tools import (
    ARIA2C,
    OURS,
    OURS_8,
    OURS_CATALOG,
    OURS_CENTRAL,
    RCLONE,
    WGET,
    Peer,
    Tool,
    compare,
    installed,
)

NEEDED_BYTES = {
    "medium": 3e9,
    "small": 2e9,
    "large": 11e9,
    "disk": 3e9,
    "slow-disk": 7e9,
    "far": 3e9,
    "far-small": 1e9,
    "far-one": 6e9,
    "far-gigabyte": 6e9,
    "far-long": 8e9,
    "many": 2e9,
    "state": 3e9,
    "state-million": 5e9,
    "contested": 6e9,
    "catalog": 6e9,
    "rebuild": 10e9,
    "reporting": 3e9,
    "adopt": 4e9,
}
NEEDED_FILES = {
    "many": 500_000,
    "state": 600_000,
    "state-million": 2_200_000,
    "contested": 900_000,
    "rebuild": 2_100_000,
    "adopt": 500_000,
}
FAR_PEERS = (WGET, ARIA2C)
NEW_FILESETS = 10
# Filesets of 60 chips each, and images of the survey that is asked.
CHIP_FILESETS = 20
SURVEY_IMAGES = 1_000_000
# Filesets, files of each, bytes of each file.
ADOPTIONS = ((500, 10, 2_000), (5_000, 10, 2_000), (20, 60, 1_000_000))
SLOW_RATES = (150_000_000, 450_000_000)
SLOW_DISK_BYTES = 4 << 30


@dataclass(frozen=True)
class Bench:
    """Options of the benchmark. ``folder`` is memory-backed, ``disk`` lies on the disk that is measured."""

    folder: Path
    disk: Path
    rounds: int
    server: str
    filesets: int
    postgresql: int

    def near(self, workload: Workload) -> None:
        """Measure a first update from a server on loopback into memory-backed storage."""
        given = payload(self.folder, workload)
        with self._serving(given) as server:
            tools = installed([OURS, OURS_CENTRAL, OURS_CATALOG, WGET, ARIA2C, RCLONE])
            self._compare(f"Near, {workload.title}", tools, given, server.port)

    def onto_disk(self) -> None:
        """Measure a first update onto a disk, and the writing of as many bytes in one file."""
        self.disk.mkdir(parents=True, exist_ok=True)
        self._beside_dd(self.disk, f"the disk of {self.disk}")

    def onto_slow_disks(self) -> None:
        """Measure the same onto disks that are slower than the processors."""
        if needed := missing():
            print(f"slow-disk is left out: it needs {needed}")
            return
        for rate in SLOW_RATES:
            with slow_disk(self.folder, SLOW_DISK_BYTES, rate) as folder:
                self._beside_dd(folder, f"a disk of {rate / 1e6:.0f} MB/s")

    def _beside_dd(self, disk: Path, title: str) -> None:
        given = payload(self.folder, MEDIUM)
        size = given.bytes + given.unpacked_bytes
        written, ours = [], []
        with self._serving(given) as server:
            for _ in range(self.rounds):
                written.append(disk_write_seconds(disk, size))
                runs = compare([OURS], given, _url(server.port), disk / "target", rounds=1)
                ours.append(runs[OURS.name][0].seconds)
        rows = [["", "seconds", "min-max", "ratio to dd"]]
        for name, spread in (("dd, flushed", Spread.of(written)), (OURS.name, Spread.of(ours))):
            ratio = spread.median / Spread.of(written).median
            rows.append(
                [name, f"{spread.median:.2f}", f"{spread.least:.2f}-{spread.most:.2f}", f"{ratio:.2f}"]
            )
        print_table(f"Onto {title}, {MEDIUM.title}: {size / 1e6:.0f} MB written", rows)

    def far(self, workload: Workload, peers: Sequence[Peer] = FAR_PEERS) -> None:
        """Measure a first update through the relay, and print the least time that its connections allow."""
        given = payload(self.folder, workload)
        link = Link()
        with self._serving(given) as server, relay(server.port, link, self.folder) as relayed:
            tools = installed([OURS, OURS_8, *peers])
            self._compare(f"Far, {workload.title}", tools, given, relayed.port)
        for connections in (8, 16):
            rate = min(link.rate, connections * link.connection_rate)
            print(f"  {connections} connections: at most {rate / 1e6:.0f} MB/s, {given.bytes / rate:.2f} s")

    def many(self) -> None:
        """Measure time and memory at the beginning and at the end of a long first update."""
        given = payload(self.folder, MANY)
        rows = [
            [
                *("", "seconds", "ms each, first 1000", "last 1000", "CPU ms each"),
                *("MB at a tenth", "at the end", "luigid, MB at a tenth", "at the end"),
            ]
        ]
        with self._serving(given) as server:
            for tool in (OURS, OURS_CENTRAL):
                target = self.folder / "target"
                target.mkdir(parents=True)
                with PeakMemory(os.getpid(), beside={server.pid}) as memory:
                    run = tool.run(_url(server.port), target)
                check(given, target, thorough=True)
                first, last = first_and_last_thousand(target)
                held = [
                    *at_a_tenth_and_at_the_end(memory.course),
                    *at_a_tenth_and_at_the_end(memory.scheduler),
                ]
                rows.append(
                    [
                        tool.name,
                        f"{run.seconds:.1f}",
                        f"{first:.2f}",
                        f"{last:.2f}",
                        f"{run.cpu_seconds / MANY.filesets * 1000:.1f}",
                        *(f"{each / 1e6:.0f}" for each in held),
                    ]
                )
                shutil.rmtree(target)
        print_table(f"A long first update, {MANY.title} (memory of all processes)", rows)

    def state(self, sizes: Sequence[int]) -> None:
        """Measure updates of mirrors with many filesets, and ``status``.

        Updates without and with a few new filesets, and a slow one.
        """
        rows = [["known", "new", "seconds", "min-max", "CPU s", "peak MB"]]
        for known in sizes:
            old = old_mirror(self.folder, known)
            with data_store(old.store, self.folder) as server:
                # From the second update on, nothing has come to the folders of markers for two seconds.
                lost, *_ = [self._update(old, server) for _ in range(3)]
                for new in (0, NEW_FILESETS):
                    measured = [self._update(old, server, new) for _ in range(self.rounds)]
                    rows.append([f"{known:,}", str(new), *measured_cells(measured)])
                rows.append([f"{known:,}", "0, no snapshots", *measured_cells([lost])])
            status = [OURS.status(old.root) for _ in range(self.rounds)]
            rows.append([f"{known:,}", "ipp-mirror status", *measured_cells(status)])
            shutil.rmtree(old.home)
        print_table(f"Scale of state ({self.rounds} rounds; memory of all processes)", rows)

    def contested(self) -> None:
        """Measure an update whose filesets replace all files of another product, after the one without."""
        store = ContestedStore(self.folder / "contested", self.filesets)
        target = self.folder / "target"
        store.remove()
        target.mkdir(parents=True)
        figures = []
        for product in (EARLIER, LATER):
            store.publish(product)
            with data_store(store.folder, self.folder) as server:
                run = OURS.run(_url(server.port), target)
            store.check(target, product)
            each = (run.seconds, run.cpu_seconds)
            first, last = first_and_last_thousand(target, product)
            figures.append((*(1000 * seconds / self.filesets for seconds in each), first, last))
        without, replacing = figures
        ratios = [there / here for here, there in zip(without, replacing, strict=True)]
        rows = [["ms for each fileset", "all", "CPU", "first 1000", "last 1000"]]
        for name, row in (
            ("no conflict", without),
            (f"{FILES} files replaced", replacing),
            ("ratio", ratios),
        ):
            rows.append([name, *(f"{value:.2f}" for value in row)])
        print_table(f"{self.filesets:,} filesets that replace the files of as many others", rows)
        store.remove()
        shutil.rmtree(target)

    def catalog(self) -> None:
        """Measure what the catalog adds to an update, a rebuild of realistic filesets, and questions."""
        given = payload(self.folder, MEDIUM)
        with self._serving(given) as server:
            tools = [OURS, OURS_CATALOG]
            runs = compare(tools, given, _url(server.port), self.folder / "target", self.rounds)
        print_ratio(f"Updates with a new catalog, {MEDIUM.title} ({self.rounds} rounds)", runs)
        with data_store(chips(self.folder, CHIP_FILESETS), self.folder) as server:
            catalog_chips(self.folder, CHIP_FILESETS, _url(server.port))
        ask(self.folder, SURVEY_IMAGES)
        if self.postgresql:
            ask_postgresql(self.folder, SURVEY_IMAGES, self.postgresql)

    def reporting(self) -> None:
        """Measure which share of an update's CPU time its progress, history, metrics and status take."""
        rows = [["", "CPU s", "ms of reporting", "share", "min-max"]]
        for workload in (MEDIUM, FEW_SMALL):
            given, target = payload(self.folder, workload), self.folder / "target"
            with self._serving(given) as server:
                measured = []
                for _ in range(self.rounds):
                    target.mkdir(parents=True)
                    measured.append(reporting_cost(given, _url(server.port), target))
                    shutil.rmtree(target)
            cpu = Spread.of([run.cpu_seconds for run, _ in measured])
            own = Spread.of([1000 * seconds for _, seconds in measured])
            share = Spread.of([100 * seconds / run.cpu_seconds for run, seconds in measured])
            between = f"{share.least:.2f}-{share.most:.2f} %"
            cells = [f"{cpu.median:.2f}", f"{own.median:.0f}", f"{share.median:.2f} %", between]
            rows.append([workload.title, *cells])
        print_table(f"Progress, history, metrics and status of an update ({self.rounds} rounds)", rows)

    def rebuild(self) -> None:
        """Measure the rebuild of a catalog of many realistic filesets."""
        with data_store(chips(self.folder, CHIP_FILESETS), self.folder) as server:
            catalog_many_chips(self.folder, self.filesets, _url(server.port))

    def adopt(self) -> None:
        """Measure adoptions by link, next to ``md5sum`` of the same files with a process for each core."""
        rows = [["files", "MB", "seconds", "files/s", "md5sum", "CPU s", "MB at a tenth", "at the end"]]
        for filesets, files, size in ADOPTIONS:
            tree = OldTree(self.folder / "adoption", filesets, files, size)
            tree.make()
            read = [md5_seconds(tree.old) for _ in range(self.rounds)]
            with data_store(tree.store, self.folder) as server:
                measured = [self._adopt(tree, server) for _ in range(self.rounds)]
            time = Spread.of([run.seconds for run, _ in measured])
            run, memory = measured[-1]
            rows.append(
                [
                    f"{tree.count:,}",
                    f"{tree.count * size / 1e6:.0f}",
                    f"{time.median:.2f}",
                    f"{tree.count / time.median:.0f}",
                    f"{Spread.of(read).median:.2f}",
                    f"{run.cpu_seconds:.2f}",
                    *(f"{each / 1e6:.0f}" for each in at_a_tenth_and_at_the_end(memory)),
                ]
            )
            shutil.rmtree(tree.home)
        print_table(f"Adoption by link ({self.rounds} rounds; memory of all processes)", rows)

    def _adopt(self, tree: OldTree, server: Daemon) -> tuple[Run, list[int]]:
        """Adopt the tree into an empty mirror; return the run and the course of its memory."""
        target = self.folder / "target"
        target.mkdir(parents=True)
        with PeakMemory(os.getpid(), beside={server.pid}) as memory:
            run = OURS.adopt(_url(server.port), target, tree.old)
        tree.check(target)
        shutil.rmtree(target)
        return run, memory.course

    def _update(self, old: OldMirror, server: Daemon, new: int = 0) -> Run:
        """Run an update after registering ``new`` filesets. The peak is that of all processes together."""
        if new:
            old.register(new)
        with PeakMemory(os.getpid(), beside={server.pid}) as peak:
            run = OURS.run(_url(server.port), old.root)
        return replace(run, peak_bytes=peak.bytes)

    def _compare(self, title: str, tools: list[Tool], given: Payload, port: int) -> None:
        runs = compare(tools, given, _url(port), self.folder / "target", self.rounds)
        peers = [each.name for each in tools if isinstance(each, Peer)]
        print_table(f"{title} ({self.rounds} rounds)", comparison_table(runs, peers, given.bytes))

    @contextmanager
    def _serving(self, given: Payload) -> Iterator[Daemon]:
        serve = nginx if self.server == "nginx" else data_store
        with serve(given.store, self.folder) as server:
            yield server


SUITES: dict[str, Callable[[Bench], None]] = {
    "medium": lambda bench: bench.near(MEDIUM),
    "small": lambda bench: bench.near(SMALL),
    "large": lambda bench: bench.near(LARGE),
    "disk": Bench.onto_disk,
    "slow-disk": Bench.onto_slow_disks,
    "far": lambda bench: bench.far(MEDIUM),
    "far-small": lambda bench: bench.far(FEW_SMALL),
    "far-one": lambda bench: bench.far(ONE),
    # Large enough for a small share of start and end in the time of a run; wget would take minutes.
    "far-gigabyte": lambda bench: bench.far(GIGABYTE, [ARIA2C]),
    "far-long": lambda bench: bench.far(LONG, [ARIA2C]),
    "many": Bench.many,
    "state": lambda bench: bench.state([1_000, 10_000, 100_000]),
    "state-million": lambda bench: bench.state([1_000_000]),
    "contested": Bench.contested,
    "catalog": Bench.catalog,
    "rebuild": Bench.rebuild,
    "reporting": Bench.reporting,
    "adopt": Bench.adopt,
}


def main() -> None:
    """Run the chosen suites, one after another."""
    options = _parser().parse_args()
    # An exception, unlike the signal alone, stops the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    suites = ["medium"] if options.quick else options.suite or list(SUITES)
    rounds = 3 if options.quick else options.rounds
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        folder=options.folder.resolve(),
        disk=options.disk.resolve(),
        rounds=rounds,
        server=options.server,
        filesets=options.filesets,
        postgresql=options.postgresql,
    )
    shutil.rmtree(bench.folder / "target", ignore_errors=True)
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}, "
        f"served by {'nginx' if options.server == 'nginx' else 'this project'}"
    )
    for suite in suites:
        if shutil.disk_usage(bench.folder).free < NEEDED_BYTES[suite]:
            print(f"{suite} is left out: it needs {NEEDED_BYTES[suite] / 1e9:.0f} GB free in {bench.folder}")
            continue
        if os.statvfs(bench.folder).f_favail < NEEDED_FILES.get(suite, 0):
            print(f"{suite} is left out: it needs {NEEDED_FILES[suite]:,} free inodes in {bench.folder}")
            continue
        SUITES[suite](bench)


def _url(port: int) -> str:
    return f"http://{HOST}:{port}/ds"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split(": ", 1)[1])
    known = ", ".join(SUITES)
    parser.add_argument(
        "suite", nargs="*", choices=[*SUITES, []], metavar="SUITE", help=f"some of {known} (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="the suite medium only, three rounds")
    parser.add_argument(
        "--rounds", type=int, default=3, help="runs of each mirror or tool (default: %(default)s)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("/dev/shm/ipp-bench"),
        help="memory-backed; the served files stay there (default: %(default)s)",
    )
    parser.add_argument(
        "--disk",
        type=Path,
        default=Path("var/bench"),
        help="a folder on the disk to measure (default: %(default)s)",
    )
    parser.add_argument(
        "--filesets",
        type=int,
        default=10_000,
        help="filesets in the suite rebuild, and of each product in contested (default: %(default)s)",
    )
    parser.add_argument(
        "--postgresql",
        type=int,
        default=0,
        metavar="MILLIONS",
        help="millions of images to ask about in PostgreSQL too, in the suite catalog (default: none)",
    )
    parser.add_argument("--server", choices=["own", "nginx"], default="own", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    main()
