"""``ipp-mirror skip`` and ``unskip``."""

import csv

import pytest
from support.command import ipp_mirror
from support.follower import Follower
from support.upstream import File, Upstream

PRODUCT = "md-all-rel-200907"


@pytest.fixture
def mirrored(upstream: Upstream, follower: Follower) -> Follower:
    """A mirror of one good fileset, and one that was published with a wrong checksum."""
    upstream.add(PRODUCT, "right", [File("r.fits", b"r")])
    upstream.add(PRODUCT, "wrong", [File("w.fits", b"w", listed={"md5": "0" * 32})])
    assert follower.update().code == 30
    return follower


def counted(follower: Follower) -> tuple[str, str]:
    """Return the numbers of failed and skipped filesets in the status file."""
    with open(follower.root / "status" / "product_status.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    return row["failed"], row["skipped"]


def test_skip_and_unskip(mirrored: Follower):
    marker = mirrored.root / "state" / PRODUCT / "skipped" / "wrong.json"
    skipped = ipp_mirror("skip", "--config", mirrored.config, PRODUCT, "wrong", "--reason", "why not")
    assert (skipped.returncode, skipped.stderr) == (0, "")
    assert skipped.stdout == f"{PRODUCT}/wrong is skipped until it is registered again, or unskipped.\n"
    assert '"why not"' in marker.read_text()
    assert counted(mirrored) == ("0", "1")
    unskipped = ipp_mirror("unskip", "--config", mirrored.config, PRODUCT, "wrong")
    assert (unskipped.returncode, unskipped.stderr) == (0, "")
    assert not marker.exists()
    assert counted(mirrored) == ("0", "0")


def test_quiet_prints_nothing(mirrored: Follower):
    options = ["--config", mirrored.config, "--quiet", PRODUCT, "wrong"]
    for command in (["skip", "--reason", "why not"], ["unskip"], ["unskip"]):
        done = ipp_mirror(*command, *options)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_nothing_is_to_be_done_nothing_is_changed(mirrored: Follower):
    skipped = ipp_mirror("skip", "--config", mirrored.config, PRODUCT, "right", "--reason", "why not")
    assert (skipped.returncode, skipped.stderr) == (0, "")
    assert skipped.stdout == (
        f"{PRODUCT}/right is complete here, nothing is left to skip. Nothing was changed.\n"
    )
    assert not (mirrored.root / "state" / PRODUCT / "skipped").exists()
    unskipped = ipp_mirror("unskip", "--config", mirrored.config, PRODUCT, "wrong")
    assert (unskipped.returncode, unskipped.stderr) == (0, "")
    assert unskipped.stdout == f"{PRODUCT}/wrong is not skipped. Nothing was changed.\n"
    assert counted(mirrored) == ("1", "0")


def test_what_is_said_of_a_fileset_that_is_skipped_already_or_not_selected(mirrored: Follower):
    mirrored.mirror["products"] = [{"name": PRODUCT, "select": {"stage": "stack"}}]
    skip = ["skip", "--config", mirrored.config, PRODUCT, "wrong", "--reason"]
    assert ipp_mirror(*skip, "first").stdout == (
        f"{PRODUCT}/wrong is skipped until it is registered again, or unskipped. The settings do not select "
        "it: updates leave it out anyway.\n"
    )
    again = ipp_mirror(*skip, "second").stdout
    assert again.startswith(f"{PRODUCT}/wrong is skipped already, since 20")
    assert again.endswith(": first. Its reason was replaced.\n")
    assert '"second"' in (mirrored.root / "state" / PRODUCT / "skipped" / "wrong.json").read_text()


WRONG = [
    (["md-all-rel", "wrong"], f"product of this mirror ({PRODUCT}), got 'md-all-rel'. Did you mean"),
    ([PRODUCT, "wron"], "its listing of 2 filesets, got 'wron'. Did you mean 'wrong'? Nothing was changed."),
    ([PRODUCT, "../w*"], f"product {PRODUCT}: expected the name of one fileset, got the pattern '../w*'"),
]


def test_what_no_product_or_fileset_has(mirrored: Follower):
    before = mirrored.content("state")
    commands = [(command, *wrong) for command in (["skip", "--reason", "why"], ["unskip"]) for wrong in WRONG]
    for command, names, said in (*commands, (["get", "--forget"], *WRONG[0])):
        refused = ipp_mirror(*command, "--config", mirrored.config, *names)
        assert (refused.returncode, refused.stdout) == (40, ""), command
        assert said in refused.stderr
    assert mirrored.content("state") == before


def test_a_skip_without_a_reason(follower: Follower):
    refused = ipp_mirror("skip", "--config", follower.config, PRODUCT, "right", "--reason", " ")
    assert refused.returncode == 40
    assert (
        refused.stderr
        == "ipp-mirror: expected a reason for the skip, got none (--reason TEXT). Nothing was skipped.\n"
    )


def test_a_skip_that_cannot_be_written(mirrored: Follower):
    in_the_way = mirrored.root / "state" / PRODUCT / "skipped"
    in_the_way.write_text("")
    refused = ipp_mirror("skip", "--config", mirrored.config, PRODUCT, "wrong", "--reason", "why not")
    assert refused.returncode == 30
    assert refused.stderr.startswith(f"ipp-mirror: skipping {PRODUCT}/wrong: ")
    assert str(in_the_way) in refused.stderr
    assert "Traceback" not in refused.stderr
