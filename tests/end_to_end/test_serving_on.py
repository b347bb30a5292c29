"""A mirror as the source of the next one."""

import os
import subprocess
import sys
import time
from pathlib import Path

from support.command import REPOSITORY
from support.follower import Follower
from support.summary_line import numbers
from support.upstream import File, Upstream

from pipeline.sample import faults
from pipeline.sample.simulator import Simulator

PRODUCT = "md-all-rel-200907"


def test_a_mirror_of_the_mirror_holds_the_same(upstream: Upstream, follower: Follower, tmp_path: Path):
    upstream.add_bundles(PRODUCT, "o1.chip.1.1.1", {"XY01": {"a.fits": b"A" * 5000}})
    upstream.add(PRODUCT, "plain", [File("t.fits", b"T" * 70)], type="table")
    assert follower.update().code == 0
    command = [sys.executable, "-m", "tasks", "serve", "--port", "0", "--mirror-config", str(follower.config)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as serving:
        try:
            url = serving.stdout.readline().split()[-1]
            folder = tmp_path / "next"
            folder.mkdir()
            following = Follower(folder, url)
            result = following.update()
            assert result.code == 0, result.output
            assert following.content("store") == follower.content("store")
            assert following.content("data") == follower.content("data")
            root_listing = (following.root / "state" / "root.txt").read_text()
            assert [
                line.split("|")[3:] for line in root_listing.splitlines() if line.startswith(PRODUCT)
            ] == [["ipp-dist", "test", ""]]
            assert numbers() in following.update().output
        finally:
            serving.terminate()
    assert serving.returncode in {0, -15}


def test_the_types_of_named_products_are_those_of_the_source(
    upstream: Upstream, server: Simulator, follower: Follower
):
    upstream.add(PRODUCT, "plain", [File("t.fits", b"T" * 70)], type="table")
    follower.mirror["products"] = [PRODUCT]
    root_listing = follower.root / "state" / "root.txt"
    root_fails = faults.fails(404, target="index.txt")
    server.faults.append(root_fails)
    assert follower.update().code == 0
    assert root_listing.read_text() == "# productID|Most recent|Time registered|type|Description|\n"
    server.faults.remove(root_fails)
    for age, rows in ((0, 0), (8 * 86_400, 1)):
        os.utime(root_listing, (time.time() - age,) * 2)
        assert follower.update().code == 0
        assert root_listing.read_text().count("|ipp-dist|test|\n") == rows
