"""``ipp-mirror retry``: failed filesets that wait for a later try are tried by the next update."""

import json
import shlex

import pytest
from support.command import ipp_mirror
from support.follower import Follower
from support.upstream import File, Upstream

PRODUCT, OTHER = "md-all-rel-200907", "pstampresults"


@pytest.fixture
def waiting(upstream: Upstream, follower: Follower) -> Follower:
    """A mirror whose failed filesets wait: three were published with a wrong checksum, one without a file."""
    follower.mirror["retry_every_run"] = 1
    upstream.add(PRODUCT, "right", [File("r.fits", b"r")])
    for product, name in [(PRODUCT, "o1.chip"), (PRODUCT, "o1.warp"), (OTHER, "o1.chip")]:
        upstream.add(product, name, [File("w.fits", b"w", listed={"md5": "0" * 32})])
    upstream.add(PRODUCT, "o2.chip", [File("gone.fits", b"g")])
    upstream.path(PRODUCT, "o2.chip", "gone.fits").unlink()
    assert follower.update().code == 30
    return follower


def due(follower: Follower) -> set[str]:
    """Return the failed filesets that do not wait, as PRODUCT/FILESET."""
    paths = (follower.root / "state").glob("*/failed/*.json")
    records = [json.loads(path.read_bytes()) for path in paths]
    assert len(records) == 4
    return {f"{each['product']}/{each['fileset']}" for each in records if each["next_try"] is None}


MATCHING = {
    "": {f"{PRODUCT}/o1.chip", f"{PRODUCT}/o1.warp", f"{PRODUCT}/o2.chip", f"{OTHER}/o1.chip"},
    PRODUCT: {f"{PRODUCT}/o1.chip", f"{PRODUCT}/o1.warp", f"{PRODUCT}/o2.chip"},
    f"{PRODUCT} *.chip": {f"{PRODUCT}/o1.chip", f"{PRODUCT}/o2.chip"},
    f"{PRODUCT} o1.chip o2.*": {f"{PRODUCT}/o1.chip", f"{PRODUCT}/o2.chip"},
    "--cause MD5": {f"{PRODUCT}/o1.chip", f"{PRODUCT}/o1.warp", f"{OTHER}/o1.chip"},
    # A port may have the number 404 in it.
    f"{PRODUCT} --cause 'got 404'": {f"{PRODUCT}/o2.chip"},
}


@pytest.mark.parametrize("line", MATCHING)
def test_those_that_match_are_due(line, waiting: Follower):
    assert due(waiting) == set()
    shown = ipp_mirror("retry", "--config", waiting.config, *shlex.split(line))
    count = len(MATCHING[line])
    named = (
        "1 failed fileset is due, which had to wait"
        if count == 1
        else f"{count} failed filesets are due, of which {count} had to wait"
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    them = "it" if count == 1 else "them"
    assert shown.stdout == f"{named}; the next update tries {them}.\n"
    assert due(waiting) == MATCHING[line]


def test_the_next_update_tries_them(waiting: Follower, upstream: Upstream, server):
    server.clear()
    update = waiting.update()
    assert update.code == 30
    later = "are tried again later, the next ("
    assert f"product {PRODUCT}: 3 filesets that failed before {later}" in update.output
    [record] = (waiting.root / "state" / OTHER / "failed").glob("*.json")
    due_from = json.loads(record.read_bytes())["next_try"]
    assert (
        f"product {OTHER}: 1 fileset that failed before is tried again from {due_from} on (" in update.output
    )
    assert not [request for request in server.requests if "gone.fits" in request.target]
    upstream.path(PRODUCT, "o2.chip", "gone.fits").write_bytes(b"g")
    assert ipp_mirror("retry", "--config", waiting.config, PRODUCT, "o2.*").returncode == 0
    assert waiting.update().code == 30, "the others wait"
    assert waiting.marked("extracted", PRODUCT) == {"right", "o2.chip"}


def test_where_nothing_has_failed(upstream: Upstream, follower: Follower):
    assert follower.update().code == 0
    shown = ipp_mirror("retry", "--config", follower.config)
    assert (shown.returncode, shown.stdout) == (0, "No fileset has failed. Nothing was changed.\n")


@pytest.mark.parametrize("line", ["another", f"{PRODUCT} nothing.*", "--cause nonsense"])
def test_where_nothing_matches_nothing_is_changed(line, waiting: Follower):
    before = waiting.content("state")
    shown = ipp_mirror("retry", "--config", waiting.config, *line.split())
    if line == "another":
        assert shown.returncode == 40
        assert f"expected a product of this mirror ({PRODUCT}, {OTHER}), got 'another'" in shown.stderr
    else:
        assert (shown.returncode, shown.stdout) == (0, "No failed fileset matches. Nothing was changed.\n")
    assert waiting.content("state") == before
