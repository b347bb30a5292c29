"""``ipp-mirror skip`` and ``unskip``."""

from support.command import ipp_mirror
from support.follower import Follower
from support.upstream import File, Upstream

PRODUCT = "md-all-rel-200907"


def test_skip_and_unskip(upstream: Upstream, follower: Follower):
    upstream.add(PRODUCT, "right", [File("r.fits", b"r")])
    assert follower.update().code == 0
    marker = follower.root / "state" / PRODUCT / "skipped" / "right.json"
    skipped = ipp_mirror("skip", "--config", follower.config, PRODUCT, "right", "--reason", "why not")
    assert (skipped.returncode, skipped.stderr) == (0, "")
    assert skipped.stdout == f"{PRODUCT}/right is skipped until it is registered again, or unskipped.\n"
    assert '"why not"' in marker.read_text()
    unskipped = ipp_mirror("unskip", "--config", follower.config, PRODUCT, "right")
    assert (unskipped.returncode, unskipped.stderr) == (0, "")
    assert not marker.exists()


def test_a_skip_without_a_reason(follower: Follower):
    refused = ipp_mirror("skip", "--config", follower.config, PRODUCT, "right", "--reason", " ")
    assert refused.returncode == 40
    assert (
        refused.stderr
        == "ipp-mirror: expected a reason for the skip, got none (--reason TEXT). Nothing was skipped.\n"
    )


def test_a_skip_that_cannot_be_written(upstream: Upstream, follower: Follower):
    upstream.add(PRODUCT, "right", [File("r.fits", b"r")])
    assert follower.update().code == 0
    in_the_way = follower.root / "state" / PRODUCT / "skipped"
    in_the_way.write_text("")
    refused = ipp_mirror("skip", "--config", follower.config, PRODUCT, "right", "--reason", "why not")
    assert refused.returncode == 30
    assert refused.stderr.startswith(f"ipp-mirror: skipping {PRODUCT}/right: ")
    assert str(in_the_way) in refused.stderr
    assert "Traceback" not in refused.stderr
