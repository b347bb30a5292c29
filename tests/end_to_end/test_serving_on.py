"""A mirror as the source of the next one."""

import subprocess
import sys
from pathlib import Path

from support.command import REPOSITORY
from support.follower import Follower
from support.summary import numbers
from support.upstream import File, Upstream

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
