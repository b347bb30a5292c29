"""Plans of a mirror that is changed at random: their numbers are those of the update that follows."""

import json
import random
import re
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.catalog import PRODUCT, add_chips, dbinfo
from support.follower import Follower
from support.summary_line import NOTHING
from support.upstream import File, Upstream

from pipeline.config import Product
from pipeline.mirror.state.beginning import find_beginning
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.skip import skip_fileset, unskip_fileset
from pipeline.mirror.state.wanted import forget_filesets, want_filesets
from pipeline.sample.simulator import Simulator
from tasks.commands import ipp_mirror as ipp_mirror_group

HOUR = 3600
LINE = re.compile(r"filesets: (\d+) \w+, (\d+) selected: (\d+) \w+, (\d+) failed, (\d+) skipped, (\d+) left")
STAGES = ("chip", "warp", "stack")


@dataclass
class Mirror:
    """A mirror and its upstream, whose filesets are registered an hour apart; ``_`` begins a change."""

    upstream: Upstream
    follower: Follower
    random: random.Random
    volumes: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    added: int = 0

    @property
    def layout(self) -> Layout:
        return Layout(self.follower.root)

    @property
    def listed(self) -> list[str]:
        return list(self.upstream.products[PRODUCT])

    def one_here(self) -> list[str]:
        here = sorted(self.layout.names(MarkerKind.DOWNLOADED, PRODUCT))
        return self.random.sample(here, min(1, len(here)))

    def known(self) -> str:
        return self.random.choice([row.name for row in LocalListing(self.layout, PRODUCT).registrations()])

    def add(self, name: str = "") -> None:
        self.added += not name
        name, some = name or f"o{self.added}.x.{self.added}", self.random
        self.upstream.clock = (self.upstream.clock // HOUR + 1) * HOUR
        stage = some.choice(STAGES)
        if some.random() < 0.3:
            files = [File(f"{letter}.fits", some.randbytes(700)) for letter in "abc"[: some.randint(1, 3)]]
            self.upstream.add(PRODUCT, name, files, stage=stage)
            return
        components = some.sample(["XY01", "XY02", "exposure"], some.randint(1, 3))
        bundles = {
            each: {f"{name}.{each}.fits": some.randbytes(900), f"{name}.{each}.cmf": some.randbytes(80)}
            for each in components
        }
        self.upstream.add_bundles(PRODUCT, name, bundles, stage=stage)

    def add_run(self) -> None:
        """Register a chip run, full or cleaned: one of a few, so that filesets are known by others."""
        self.added += 1
        self.upstream.clock = (self.upstream.clock // HOUR + 1) * HOUR
        name, number = f"o{self.added}.x.{self.added}", self.random.randint(1, 4)
        document = dbinfo(number, state=self.random.choice(["full", "cleaned"]))
        add_chips(
            *(self.upstream, name, number, {f"{name}.cmf": self.random.randbytes(90)}),
            document=document,
            stage_id=str(number),
        )

    def _new(self) -> None:
        self.add()

    def _new_run(self) -> None:
        self.add_run()

    def _again(self) -> None:
        self.add(self.random.choice(self.listed))

    def _wrong(self) -> None:
        self.added += 1
        files = [File("w.fits", b"w" * 50, listed={"md5": "0" * 32}), File("g.fits", b"g" * 60)]
        self.upstream.add(PRODUCT, f"o{self.added}.x.{self.added}", files, stage="chip")

    def _withdraw(self) -> None:
        # The last one, so that the whole list is fetched and no fileset is missed while it is.
        if len(self.listed) > 3:
            self.upstream.withdraw(PRODUCT, self.listed[-1])

    def _components(self) -> None:
        self.settings["components"] = self.random.choice([None, "XY*", ["XY01", "exposure"], "exposure"])

    def _files(self) -> None:
        self.settings["files"] = self.random.choice([None, "*.XY02.tgz", ["a.fits", "w.fits"], "none"])

    def _members(self) -> None:
        self.settings["members"] = self.random.choice([None, "*.cmf", "*.fits", "*XY01*"])

    def _select(self) -> None:
        several = [{"stage": "stack"}, {"stage": "warp", "filesetID": "*[02468]"}]
        self.settings["select"] = self.random.choice([None, {"stage": "chip"}, several])

    def _clean(self) -> None:
        clean = {"clean": False, "unknown": self.random.choice([True, False])}
        self.settings["select"] = self.random.choice([clean, [{"stage": "warp"}, {"stage": "chip"} | clean]])

    def _keep(self) -> None:
        # Half an hour from each registration: the time of the test does not matter.
        begin = datetime(2009, 7, 29, self.random.randint(0, 20), 30, tzinfo=UTC)
        aged = datetime.now(UTC) - begin
        keep = {"keep": f"{aged // timedelta(hours=1)} hours"}
        self.settings["select"] = self.random.choice([keep, [{"stage": "chip"}, keep]])

    def _begin_after(self) -> None:
        self.settings["begin_after"] = self.random.choice([None, self.random.choice(self.listed)])

    def _skip(self) -> None:
        skip_fileset(self.layout, PRODUCT, self.known(), reason="r", by="me")

    def _unskip(self) -> None:
        for name in sorted(self.layout.names(MarkerKind.SKIPPED, PRODUCT))[:1]:
            unskip_fileset(self.layout, PRODUCT, name)

    def _get(self) -> None:
        want_filesets(self.layout, PRODUCT, [self.known()], by="me")

    def _forget(self) -> None:
        forget_filesets(self.layout, PRODUCT, ["*[13579]"])

    def _volumes(self) -> None:
        # The links in the root decide, once there are some.
        if Layout(self.follower.root).products_on_volumes():
            self.follower.mirror["volumes"] = self.random.choice([{}, self.volumes])

    def _unpack(self) -> None:
        self.follower.mirror["unpack"] = not self.follower.mirror["unpack"]

    def _keep_bundles(self) -> None:
        self.follower.mirror["keep_bundles"] = not self.follower.mirror["keep_bundles"]

    def _on_removed(self) -> None:
        self.follower.mirror["on_removed"] = self.random.choice(["keep", "delete"])

    def _lose_marker(self) -> None:
        for name in self.one_here():
            kind = self.random.choice([MarkerKind.DOWNLOADED, MarkerKind.EXTRACTED])
            self.layout.marker(kind, PRODUCT, name).unlink(missing_ok=True)

    def _lose_files(self) -> None:
        for name in self.one_here():
            shutil.rmtree(self.layout.store(PRODUCT, name), ignore_errors=True)
            self.layout.marker(MarkerKind.DOWNLOADED, PRODUCT, name).unlink()

    def change(self) -> list[str]:
        """Change one to three things; return their names."""
        changes = [name for name in vars(Mirror) if re.fullmatch("_[a-z_]*[a-z]", name)]
        chosen = self.random.choices(changes, k=self.random.randint(1, 3))
        for name in chosen:
            getattr(self, name)()
        if not self.has_seen_beginning():
            self.settings["begin_after"] = None
        given = {key: value for key, value in self.settings.items() if value is not None}
        self.follower.mirror["products"] = [{"name": PRODUCT, **given}]
        return chosen

    def has_seen_beginning(self) -> bool:
        """True where the fileset of ``begin_after`` is listed, or has been when an update chose by it."""
        product = Product(name=PRODUCT, begin_after=self.settings.get("begin_after"))
        known = find_beginning(self.layout, product).registered is not None
        return known or product.begin_after in self.listed

    def plan(self) -> dict[str, Any]:
        command = ["plan", "--listings", "1000", "--json", "--config", str(self.follower.config)]
        shown = CliRunner().invoke(ipp_mirror_group, command, standalone_mode=False)
        [product] = json.loads(shown.stdout)["products"]
        return product


def counted(output: str) -> list[int]:
    """Return the numbers of the line that ends an update."""
    if match := LINE.search(output):
        return list(map(int, match.groups()))
    new = re.search(r"filesets: (\d+) discovered, none selected;", output)
    assert new or f"filesets: {NOTHING}; " in output, output
    return [int(new[1]) if new else 0, 0, 0, 0, 0, 0]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_each_update_does_what_was_planned(
    seed: int, upstream: Upstream, server: Simulator, follower: Follower, other_disk: Path
):
    follower.mirror = {"retry_every_run": 1, "delete_at_most": 1.0, "unpack": True, "keep_bundles": True}
    follower.mirror["products"] = [PRODUCT]
    follower.catalog |= {"enabled": True, "snapshot": False}
    disk = other_disk / "ps1"
    disk.mkdir()
    mirror = Mirror(upstream, follower, random.Random(seed), {PRODUCT: str(disk)})
    if seed % 2:
        follower.mirror["volumes"] = mirror.volumes
    for _ in range(3):
        mirror.add()
        mirror.add_run()
    changes: list[Any] = []
    for _ in range(16):
        planned, expired = mirror.plan(), mirror.layout.names(MarkerKind.EXPIRED, PRODUCT)
        server.clear()
        result = follower.update("--workers", "4")
        said = "\n".join(map(str, [*changes[-4:], follower.mirror, planned, result.output]))
        new, selected, _, failed, skipped, left = counted(result.output)
        assert not [problem for problem in planned["problems"] if not problem.startswith("select")], said
        assert (new, left) == (planned["new"], planned["postponed"]), said
        # The update counts skipped filesets that are not selected, too.
        assert selected - skipped == planned["due"] + planned["postponed"], said
        deleted = mirror.layout.names(MarkerKind.EXPIRED, PRODUCT) - expired
        assert len(deleted) == planned["to_expire"], said
        files = {entry.target for entry in server.requests if "index.txt" not in entry.target}
        assert len(files) == planned["files"], said
        if not failed:
            fetched = mirror.layout.history.read_text().splitlines()[-1].split(",")[4]
            assert int(fetched) == planned["bytes"], said
        changes.append(mirror.change())
