"""``ipp-mirror status``, and ``--config`` under its two names."""

import os
import subprocess

from support.command import COMMAND, REPOSITORY, ipp_mirror
from support.follower import Follower
from support.upstream import File, Upstream

PRODUCT = "md-all-rel-200907"


def test_the_tables_of_a_mirror(upstream: Upstream, follower: Follower):
    upstream.add(PRODUCT, "right", [File("r.fits", b"r")])
    upstream.add(PRODUCT, "wrong", [File("w.fits", b"w", listed={"md5": "0" * 32})])
    assert follower.update().code == 30
    skipped = ipp_mirror("skip", "--config", follower.config, PRODUCT, "wrong", "--reason", "asked IfA")
    assert (skipped.returncode, skipped.stderr) == (0, "")
    shown = ipp_mirror("status", "--config", follower.config)
    assert (shown.returncode, shown.stderr) == (0, "")
    titles = [line for line in shown.stdout.splitlines() if line.endswith((" row)", " rows)"))]
    status = follower.root / "status"
    assert titles == [
        f"{status}/product_status.csv (1 row)",
        f"{status}/download_failures.csv (0 rows)",
        "skipped (1 row)",
    ]
    assert shown.stdout.rstrip().endswith("asked IfA")
    for option in ("--config", "--mirror-config"):
        assert ipp_mirror("status", option, follower.config).stdout == shown.stdout


def test_a_reader_that_goes_away_is_no_error(upstream: Upstream, follower: Follower):
    upstream.add(PRODUCT, "right", [File("r.fits", b"r")])
    assert follower.update().code == 0
    reading, writing = os.pipe()
    os.close(reading)
    command = [COMMAND, "status", "--config", str(follower.config)]
    with os.fdopen(writing, "w") as closed:
        shown = subprocess.run(
            command, cwd=REPOSITORY, stdout=closed, stderr=subprocess.PIPE, text=True, check=False
        )
    assert shown.stderr == ""


def test_before_the_first_update(follower: Follower):
    refused = ipp_mirror("status", "--config", follower.config)
    assert (refused.returncode, refused.stdout) == (40, "")
    assert refused.stderr == (
        f"ipp-mirror: expected a status file at {follower.root}/status/product_status.csv, found none: "
        "no update of this mirror has ended. Run one with: ipp-mirror update\n"
    )
