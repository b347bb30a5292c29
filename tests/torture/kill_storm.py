"""Kill an update again and again at random instants, while the release changes, then compare every byte.

    python tests/torture/kill_storm.py [--kills 200] [--adopt 40] [--seed N]

Then adoptions of an old mirror of that release are killed. Prints kills, restarts and the bytes transferred
against the least that would have done. Exits 1 on any difference between what was published and what is here,
now and then on the way and after the last run.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, randrange

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

from support.bundles import bundle, dirinfo  # noqa: E402
from support.catalog import catalog_of, content_of, dbinfo, image_bytes  # noqa: E402
from support.command import COMMAND, ended  # noqa: E402
from support.follower import Follower  # noqa: E402
from support.reader import Reader  # noqa: E402
from support.running import Running, checked_markers, leftovers, marker_files, started  # noqa: E402
from support.summary_line import numbers  # noqa: E402
from support.trees import tree  # noqa: E402
from support.upstream import File, Upstream  # noqa: E402

from pipeline.sample import faults  # noqa: E402
from pipeline.sample.simulator import Simulator, simulate  # noqa: E402

PRODUCTS = ("md-all-rel-200907", "threepi-all-200908")
FILESETS = 400
SIZES = (0, 1, 300, 5_000, 40_000, 120_000)
LARGE = 2_000_000
# How slow the server is: its answers begin after so many seconds, and go on at this rate on each connection.
DELAY = 0.25
BYTES_PER_SECOND = 4_000_000
# When an update is killed, in seconds after its start. Much of the first is spent on starting.
SOONEST, LATEST = 0.1, 3.0
CONNECTIONS = 8
# Whatever was in progress in a process that is killed counts as failed, here more often than anywhere.
ALWAYS_AGAIN = {"retry_every_run": 1000}
CATALOG = {"enabled": True, "coverage": False}
# What a kill may waste for each connection: a file too small to be resumed, or what was on its way.
WASTE = 2 << 20
CHECKED_EVERY = 25
# Paths below data/ for which filesets contend, and the number of files there.
SHARED = "gpc1/MD01/shared/"
# The product on a disk of its own, and DATA of both products.
PLACED = PRODUCTS[1]
TOPS = ("data", f"volumes/{PLACED}/data")
CONTESTED = tuple(f"{top}/{SHARED}" for top in TOPS)
SHARED_FILES = 6
# Share of the filesets of an old mirror of which a file is wrong.
DAMAGED = 0.1

Files = dict[str, bytes]


@dataclass
class Version:
    """One registration of one fileset: its files in ``store/`` and in ``data/``, by path below those."""

    store: Files
    data: Files

    @property
    def bytes(self) -> int:
        """Bytes that have to be fetched."""
        return sum(len(content) for path, content in self.store.items() if not path.endswith("/index.txt"))


@dataclass
class Publisher:
    """A release that grows, and whose filesets are registered again and withdrawn.

    Each fileset unpacks to a folder of its own, and some bring one file of a folder that they share.
    """

    upstream: Upstream
    random: Random
    count: int = 0
    versions: dict[tuple[str, str], dict[str, Version]] = field(default_factory=dict)
    withdrawn: set[tuple[str, str]] = field(default_factory=set)

    def grow(self, count: int) -> None:
        """Register so many filesets that were not there before."""
        for _ in range(count):
            self.count += 1
            (product,) = self.random.choices(PRODUCTS, (4, 1))
            self._register(product, f"o{self.count}.chip.{self.count}.1.1")

    def change(self) -> None:
        """Change the release between two updates, or leave it alone."""
        what = self.random.random()
        if what < 0.4:
            self.grow(1)
        elif what < 0.65:
            self._register(*self._one_of_many())
        elif what < 0.75:
            product, name = self._one_of_many()
            self.upstream.withdraw(product, name)
            self.withdrawn.add((product, name))

    def served(self) -> Iterator[Version]:
        """The newest version of each fileset that is not withdrawn."""
        for key, versions in self.versions.items():
            if key not in self.withdrawn:
                yield list(versions.values())[-1]

    def _one_of_many(self) -> tuple[str, str]:
        product = PRODUCTS[0]
        return product, self.random.choice(list(self.upstream.products[product]))

    def _register(self, product: str, name: str) -> None:
        files, data = self._with_bundles(name) if self.random.random() < 0.75 else (self._plain(), {})
        self.upstream.add(product, name, files)
        _, registered, *_ = self.upstream.products[product][name]
        served = tree(self.upstream.folder / product / name)
        store = {f"{product}/{name}/{path}": content for path, content in served.items()}
        self.versions.setdefault((product, name), {})[registered] = Version(store, data)

    def _plain(self) -> list[File]:
        return [File(f"t{index}.fits", self._content()) for index in range(self.random.randrange(1, 5))]

    def _with_bundles(self, name: str) -> tuple[list[File], Files]:
        components = {f"XY{index:02}": f"{name}/XY{index:02}" for index in range(self.random.randrange(1, 4))}
        files = [
            File(f"dirinfo.{name}.mdc", dirinfo("gpc1/MD01", components), "text", "dirinfo"),
            File(f"dbinfo.{name}.mdc", dbinfo(self.count, self._columns()), "text", "dbinfo"),
        ]
        data = {}
        if self.random.random() < 0.3:
            components["SH00"] = "shared"
            files[0] = File(files[0].name, dirinfo("gpc1/MD01", components), "text", "dirinfo")
        for component, folder in components.items():
            names = [f"m{index}.fits" for index in range(self.random.randrange(4))]
            if folder == "shared":
                names = [f"s{self.random.randrange(SHARED_FILES)}.fits"]
            members = {member: self._content() for member in names}
            files.append(File(f"{name}.{component}.tgz", bundle(members), "tgz", component))
            data |= {f"gpc1/MD01/{folder}/{member}": content for member, content in members.items()}
        return files, data

    def _columns(self) -> str:
        """A column of dbinfo that few documents have."""
        return f"  later_{self.random.randrange(30)} S32 1\n"

    def _content(self) -> bytes:
        if self.random.random() < 0.3:
            return image_bytes(ra=self.random.uniform(0, 360))
        large = self.random.random() < 0.02
        return self.random.randbytes(
            LARGE + self.random.randrange(LARGE) if large else self.random.choice(SIZES)
        )


@dataclass
class Storm:
    """The mirror that is killed while it follows the publisher."""

    publisher: Publisher
    follower: Follower
    server: Simulator
    random: Random
    reader: Reader
    ended: Counter[str] = field(default_factory=Counter)
    transferred: int = 0
    images: int = 0
    # What was ever marked as downloaded: this much had to be transferred.
    fetched: dict[tuple[str, str, str], int] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.follower.root

    @property
    def least(self) -> int:
        """Bytes that had to be transferred."""
        return sum(self.fetched.values())

    def command(self) -> list[str]:
        """Return the command that is killed."""
        return self.follower.command()

    def run(self, kills: int) -> None:
        """Kill so many updates."""
        began = time.monotonic()
        while self.ended["kill -9"] < kills:
            self._one_update()
            self.reader.read()
            self._count_bytes()
            self.publisher.change()
            done = self.ended["kill -9"]
            if sum(self.ended.values()) % CHECKED_EVERY == 0:
                self.check_what_readers_see()
                here = len(self.fetched)
                print(f"{time.monotonic() - began:4.0f} s: {done} kills, {here} filesets fetched", flush=True)

    def finish(self) -> None:
        """The last run, which nobody disturbs: everything has to be right after it."""
        self.server.faults.clear()
        result = self.follower.update()
        assert result.code == 0, f"the last run ended with {result.code}: {result.output}"
        self._count_bytes()
        self.check_what_readers_see()
        self._check_all_is_here()
        self._check_that_the_latest_has_each_shared_file()
        self._check_that_the_reader_has_all()
        left = leftovers(self.root) + leftovers(self.root / "volumes" / PLACED)
        assert not left, f"left over: {left}"
        again = self.follower.update()
        assert numbers() in again.output, f"one more run found something to do: {again.output}"
        self._check_the_catalog()

    def _check_the_catalog(self) -> None:
        """The catalog agrees with the markers, and has the rows that a rebuild finds."""
        cataloged = content_of(catalog_of(self.root))
        for command in ("check", "rebuild"):
            result = ended([str(COMMAND), "catalog", command, "--config", str(self.follower.config)])
            assert result.code == 0, f"catalog {command}: {result.output}"
        rebuilt = content_of(catalog_of(self.root))
        differ = [name for name in rebuilt if rebuilt[name] != cataloged.get(name, [])]
        assert not differ, f"a rebuild finds other rows in {differ}"
        self.images = len(rebuilt["image"])

    def check_what_readers_see(self) -> None:
        """Whole files of some version that was published, and markers that are true."""
        for product in PRODUCTS:
            for step in ("downloaded", "extracted"):
                checked_markers(self.root, product, step, CONTESTED)
        for folder in ("store", "data"):
            published: dict[str, set[bytes]] = {}
            for versions in self.publisher.versions.values():
                for version in versions.values():
                    for path, content in getattr(version, folder).items():
                        published.setdefault(path, set()).add(content)
            for path, content in self._files(folder):
                hidden = path.rpartition("/")[2].startswith(".")
                assert hidden or content in published.get(path, ()), f"{folder}/{path} was never published so"

    def _files(self, folder: str) -> list[tuple[str, bytes]]:
        """The files below ``store/`` or ``data/``, with those of the product on a disk of its own."""
        placed = tree(self.root / "volumes" / PLACED / folder)
        product = f"{PLACED}/" if folder == "store" else ""
        files = [(f"{product}{path}", content) for path, content in placed.items()]
        return [*tree(self.root / folder).items(), *files]

    def _check_all_is_here(self) -> None:
        withdrawn = {name for _, name in self.publisher.withdrawn}
        for folder in ("store", "data"):
            served = {
                path: content
                for version in self.publisher.served()
                for path, content in getattr(version, folder).items()
                if not path.startswith(SHARED)
            }
            here = {path: content for path, content in self._files(folder) if not path.startswith(SHARED)}
            missing = [path for path, content in served.items() if here.get(path) != content]
            assert not missing, f"{folder}: missing or different: {missing[:5]}"
            strange = [path for path in here.keys() - served.keys() if not withdrawn & set(path.split("/"))]
            assert not strange, f"{folder}: unexpected: {strange[:5]}"
        for product in PRODUCTS:
            for step in ("downloaded", "extracted"):
                missed = self.publisher.upstream.products[product].keys() - checked_markers(
                    self.root, product, step, CONTESTED
                )
                assert not missed, f"{product}: not {step}: {missed}"

    def _check_that_the_latest_has_each_shared_file(self) -> None:
        owners: dict[str, tuple[str, str, str, str]] = {}
        for product in PRODUCTS:
            for marker in map(
                json.loads, map(Path.read_bytes, marker_files(self.root, product, "extracted"))
            ):
                for file in marker["files"]:
                    owner = (marker["registered"], product, marker["fileset"], file["crc32"])
                    if file["path"].startswith(CONTESTED):
                        owners[file["path"]] = max(owner, owners.get(file["path"], owner))
        here = {
            f"{top}/{SHARED}{path}": content
            for top in TOPS
            for path, content in tree(self.root / top / SHARED).items()
        }
        assert here.keys() == owners.keys(), f"shared: {here.keys() ^ owners.keys()} missing or unexpected"
        for path, content in here.items():
            assert f"{zlib.crc32(content):08x}" == owners[path][3], (
                f"{path} is not that of {owners[path][:3]}"
            )

    def _check_that_the_reader_has_all(self) -> None:
        self.reader.read()
        for product in PRODUCTS:
            listed = self.publisher.upstream.products[product]
            registered = {name: row[1] for name, row in listed.items()}
            has = {name: self.reader.has[product].get(name) for name in registered}
            assert has == registered, f"{product}: a reader of the mirror lacks or has old registrations"

    def _one_update(self) -> None:
        with started(self.command(), self.follower.folder / "output") as update:
            self.ended[self._disturb(update)] += 1

    def _disturb(self, update: Running) -> str:
        """End the update at some instant; how."""
        if update.ends_within(self.random.uniform(SOONEST, LATEST)):
            assert update.wait().code == 0, update.output
            return "by itself"
        if self.random.random() < 0.08:
            update.send(signal.SIGTERM)
            code = update.wait().code
            assert code in {25, -signal.SIGTERM}, f"{code}: {update.output}"
            return "SIGTERM"
        self._kill(update)
        return "kill -9"

    def _kill(self, update: Running) -> None:
        """The worker alone, or all processes at once, or one of those that do steps: then the worker ends."""
        whom = self.random.choice(["worker", "all", "one"])
        steps = [
            int(pid) for pid in Path(f"/proc/{update.pid}/task/{update.pid}/children").read_text().split()
        ]
        if whom == "all":
            update.send_group(signal.SIGKILL)
        elif whom == "one" and steps:
            os.kill(self.random.choice(steps), signal.SIGKILL)
            code = update.wait().code
            # What was in progress had mostly failed; it may have had nothing.
            assert code in {0, 30}, f"{code}: {update.output}"
            return
        else:
            update.send(signal.SIGKILL)
        update.wait()

    def _count_bytes(self) -> None:
        requests = [entry for entry in self.server.requests if "index.txt" not in entry.target]
        self.transferred += sum(entry.bytes_sent for entry in requests if entry.status in {200, 206})
        self.server.clear()
        for product in PRODUCTS:
            for path in marker_files(self.root, product, "downloaded"):
                marker = json.loads(path.read_bytes())
                version = self.publisher.versions[product, marker["fileset"]][marker["registered"]]
                self.fetched[product, marker["fileset"], marker["registered"]] = version.bytes


@dataclass
class AdoptionStorm(Storm):
    """A new mirror that is killed while it adopts the folder of an old one, by link or by rename.

    The old mirror has all filesets that were served when it was made; a file of some is absent or wrong.
    """

    # Files of the old mirror by path; the registrations that it has, and the bytes that it lacks of each.
    old: Files = field(default_factory=dict)
    lacking: dict[tuple[str, str, str], int] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Old mirror."""
        return self.follower.folder / "old"

    def make_old_mirror(self) -> None:
        """Write the old mirror."""
        for key, versions in self.publisher.versions.items():
            if key in self.publisher.withdrawn:
                continue
            registered, version = list(versions.items())[-1]
            files = {path: each for path, each in version.store.items() if not path.endswith("/index.txt")}
            self.lacking[*key, registered] = 0
            filled = [path for path, content in files.items() if content]
            if filled and self.random.random() < DAMAGED:
                path = self.random.choice(filled)
                self.lacking[*key, registered] = len(files[path])
                files[path] += b"wrong"
            self.old |= files
            for path, content in files.items():
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / path).write_bytes(content)

    @property
    def least(self) -> int:
        """Bytes that had to be transferred: those that the old mirror lacks."""
        return sum(self.lacking.get(key, size) for key, size in self.fetched.items())

    def command(self) -> list[str]:
        """Return the command of an adoption."""
        by = self.random.choice(["link", "rename"])
        settings = ["--config", str(self.follower.config), "--by", by]
        return [sys.executable, "-m", "tasks", "adopt", str(self.folder), *settings]

    def finish(self) -> None:
        """Adopt, undisturbed, what is left; then as for updates."""
        self.server.faults.clear()
        result = ended(self.command())
        assert result.code == 0, f"the last adoption ended with {result.code}: {result.output}"
        super().finish()

    def _count_bytes(self) -> None:
        """Check besides that no file is fetched that the old mirror has."""
        for entry in self.server.requests:
            _, _, product, name, file = entry.target.split("/") if entry.target.count("/") == 4 else [""] * 5
            versions = self.publisher.versions.get((product, name), {})
            has_all = all(self.lacking.get((product, name, each)) == 0 for each in versions)
            assert not (versions and has_all) or file.startswith("index.txt"), f"{entry.target} was fetched"
        super()._count_bytes()

    def check_what_readers_see(self) -> None:
        """Check besides that nothing of the old mirror is lost that is still registered."""
        super().check_what_readers_see()
        served = {path for version in self.publisher.served() for path in version.store.items()}
        here = {*tree(self.folder).items(), *tree(self.root / "store").items()}
        lost = [path for path, content in (self.old.items() & served) - here]
        assert not lost, f"lost of the old mirror: {lost[:5]}"


def main() -> int:
    """Let the storm pass; 1 when anything is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="how many updates are killed")
    parser.add_argument("--seed", type=int, default=randrange(1 << 30), help="for the same storm again")
    parser.add_argument("--adopt", type=int, default=40, help="how many adoptions are killed after that")
    chosen = parser.parse_args()
    random = Random(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="kill-storm-") as folder:
        publisher = Publisher(Upstream(Path(folder) / "upstream"), random)
        publisher.grow(FILESETS)
        slow = [faults.throttles(BYTES_PER_SECOND), faults.delays(DELAY)]
        with simulate(publisher.upstream.folder, faults=slow) as server:
            (Path(folder) / "disk").mkdir()
            mirror = ALWAYS_AGAIN | {"volumes": {PLACED: str(Path(folder) / "disk")}}
            follower = Follower(Path(folder), server.url, mirror=mirror, catalog=CATALOG)
            storm = Storm(publisher, follower, server, random, Reader(follower.root, PRODUCTS))
            print(f"{chosen.kills} kills over {FILESETS} filesets and more, seed {chosen.seed}", flush=True)
            if not weather(storm, chosen.kills, chosen.seed):
                return 1
            server.faults.extend(slow)
            (Path(folder) / "adopting").mkdir()
            follower = Follower(Path(folder) / "adopting", server.url, mirror=ALWAYS_AGAIN, catalog=CATALOG)
            storm = AdoptionStorm(publisher, follower, server, random, Reader(follower.root, PRODUCTS))
            storm.make_old_mirror()
            print(f"{chosen.adopt} kills of adoptions of {len(storm.lacking)} filesets", flush=True)
            return 0 if weather(storm, chosen.adopt, chosen.seed) else 1


def weather(storm: Storm, kills: int, seed: int) -> bool:
    """Run the storm and print how it was; return True if everything is as it should be."""
    try:
        storm.run(kills)
        storm.finish()
    except AssertionError as error:
        print(f"seed {seed}, after {storm.ended['kill -9']} kills: {error}", file=sys.stderr)
        return False
    publisher, least = storm.publisher, storm.least
    registrations = sum(len(versions) for versions in publisher.versions.values())
    waste = storm.transferred - least
    print(
        f"kills: {storm.ended['kill -9']}, stopped by SIGTERM: {storm.ended['SIGTERM']}, "
        f"ended by themselves: {storm.ended['by itself']}, restarts: {storm.ended.total()}\n"
        f"filesets: {publisher.count}, registrations: {registrations}, "
        f"withdrawn: {len(publisher.withdrawn)}\n"
        f"bytes transferred: {storm.transferred}, at least: {least}, "
        f"ratio: {storm.transferred / max(least, 1):.3f}\n"
        f"a reader asked for {storm.reader.whole_lists} whole lists, and has all\n"
        f"the catalog has the rows of a rebuild, {storm.images} images\n"
        "store/ and data/ are identical, every marker is true, nothing is left over"
    )
    if waste > kills * CONNECTIONS * WASTE:
        print(f"expected at most {CONNECTIONS * WASTE} bytes twice for each kill", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
