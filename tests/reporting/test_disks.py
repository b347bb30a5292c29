"""Disks: the folders on each, what stays free, and how fast each fills."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.resources.volumes import place_products
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.markers import Fileset, mark_done
from pipeline.reporting.attention import CRITICAL, attention
from pipeline.reporting.disks import disks
from pipeline.reporting.metrics import metrics_text
from pipeline.reporting.plan import DiskPlan
from pipeline.reporting.planner import Planner
from pipeline.reporting.report import mirror_report
from tasks.steps import STEPS

NOW = datetime(2026, 7, 10, 12, tzinfo=UTC)
OWN = (".", "store", "data", "incoming", "state")
# Bytes fetched, and unpacked, of the filesets of each product; of another one of each nothing is here.
HELD = {"md": (300, 900), "w": (100, 50)}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "mirror")
    for product, sizes in HELD.items():
        columns = ("filesetID", "time registered", "type")
        rows = [FilesetRow(name, "t", "T", columns, (name, "t", "T")) for name in ("here", "new")]
        LocalListing(layout, product).replace(rows)
        for kind, size in zip((MarkerKind.DOWNLOADED, MarkerKind.EXTRACTED), sizes, strict=True):
            file = {"name": "f", "bytes": size, "type": "tgz", "component": "c"}
            mark_done(layout, kind, Fileset.of(product, rows[0]), NOW.isoformat(), {"files": [file]})
    layout.store_root.mkdir()
    layout.lock_file.touch()
    return layout


def settings_of(layout: Layout, **mirror: Any) -> Settings:
    document = {"root": str(layout.root), "min_free": 7, "products": ["md", "w"]} | mirror
    return Settings.model_validate({"source": {"url": "http://h"}, "mirror": document})


def growth(layout: Layout, settings: Settings, daily: float = 4000) -> dict[tuple[str, ...], float | None]:
    return {disk.folders: disk.growth for disk in disks(layout, settings, daily, NOW)}


def planned(layout: Layout, settings: Settings) -> list[DiskPlan]:
    return Planner(settings, layout, STEPS, None, 0).plan(["md", "w"]).disks


def test_all_on_one_disk(layout):
    assert growth(layout, settings_of(layout)) == {OWN: 4000 + 9500}
    assert growth(layout, settings_of(layout, keep_bundles=False)) == {OWN: 9500}
    assert growth(layout, settings_of(layout, unpack=False)) == {OWN: 4000}


def test_a_volume_grows_by_the_products_on_it(layout, other_disk):
    settings = settings_of(layout, volumes={"md": {"path": str(other_disk), "min_free": 9}})
    place_products(layout, settings, ["md", "w"])
    assert growth(layout, settings) == {OWN: 1000 + 500, ("volumes/md",): 3000 + 9000}
    free = shutil.disk_usage(other_disk).free
    [_, disk] = disks(layout, settings, (free - 9) / 30, NOW)
    assert (disk.full, disk.min_free) == ("2026-07-20", 9)
    assert disk.name == f"the disk {other_disk} of product md"


def test_names_of_disks(layout):
    [disk] = disks(layout, settings_of(layout), None, NOW)
    assert disk.name == f"the mirror's disk {layout.root}"
    for folders, owners in (
        (("data",), "data/"),
        (("store/a",), "product a"),
        (("data", "volumes/a", "volumes/b"), "data/ and products a, b"),
        (tuple(f"volumes/{name}" for name in "abcde"), "products a, b, c, 2 more"),
    ):
        assert replace(disk, folders=folders, path="/disk2").name == f"the disk /disk2 of {owners}"


def test_metrics_keep_the_label_of_a_product_whatever_else_is_on_its_disk(layout, other_disk):
    settings = settings_of(layout, volumes={"*": {"path": str(other_disk)}})
    for products, folders in ((["w"], [*OWN, "volumes/w"]), (["md", "w"], [*OWN, "volumes/md", "volumes/w"])):
        place_products(layout, settings, products)
        text = metrics_text(layout, settings, STEPS, [])
        assert re.findall('disk_size_bytes{.*folder="(.*)"}', text) == folders


@pytest.mark.parametrize("placed", [True, False], ids=["placed", "to be placed"])
def test_plan_and_status_agree(placed, layout, other_disk):
    settings = settings_of(layout, volumes={"md": {"path": str(other_disk), "min_free": 9}})
    if placed:
        place_products(layout, settings, ["md", "w"])
    plans = planned(layout, settings)
    # A fileset as the one here, and three times its bundles.
    assert [(plan.folder, plan.needed) for plan in plans] == [(layout.root, 400), (other_disk, 1200)]
    assert [plan.min_free for plan in plans] == [7, 9]
    if placed:
        shown = disks(layout, settings, None, NOW)
        assert [disk.min_free for disk in shown] == [7, 9]
        assert [disk.size for disk in shown] == [shutil.disk_usage(plan.folder).total for plan in plans]


def test_a_product_on_a_disk_by_a_link_of_somebody(layout, other_disk):
    for folder in ("store", "incoming"):
        (layout.root / folder).mkdir(exist_ok=True)
        (other_disk / folder).mkdir()
        (layout.root / folder / "md").symlink_to(other_disk / folder)
    assert growth(layout, settings_of(layout)) == {OWN: 1000 + 9500, ("store/md",): 3000}
    assert [plan.needed for plan in planned(layout, settings_of(layout))] == [100 + 1200, 300]


def test_a_product_on_a_disk_that_is_mounted(layout):
    (layout.root / "store/md").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(layout.root / "store/md")]
    if os.geteuid() != 0 or subprocess.run(mount).returncode:
        pytest.skip("only root may mount a file system")
    try:
        assert growth(layout, settings_of(layout)) == {OWN: 1000 + 9500, ("store/md",): 3000}
    finally:
        subprocess.run(["umount", str(layout.root / "store/md")], check=True)


@pytest.mark.parametrize("answers", [True, False])
def test_a_disk_that_is_not_mounted(answers, layout, other_disk):
    settings = settings_of(layout, volumes={"md": str(other_disk / "ps1")})
    (other_disk / "ps1").mkdir()
    place_products(layout, settings, ["md", "w"])
    shutil.rmtree(other_disk / "ps1")
    volume = f"{other_disk}/ps1"
    if not answers:
        volume = f"/{300 * 'x'}"
        layout.volume("md").unlink()
        layout.volume("md").symlink_to(f"{volume}/md")
        settings = settings_of(layout, volumes={"md": volume})
    assert growth(layout, settings) == {OWN: 1000 + 500}
    report = mirror_report(layout, settings, STEPS, NOW)
    [problem] = report.volumes
    points = [point.message for point in attention(report) if point.severity == CRITICAL]
    assert f"no update can begin: {problem}" in points
    plan = Planner(settings, layout, STEPS, None, 0).plan(["md", "w"])
    assert plan.code == 40
    assert plan.volumes == [problem]
    assert problem.startswith(f"the volume {volume} is not mounted: ")
    assert [(each.folder, each.needed) for each in plan.disks] == [(layout.root, 400)]
