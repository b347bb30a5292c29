"""``ipp-mirror status`` as text, as JSON and for Nagios, and ``--config`` under its two names."""

import json
import os
import subprocess
from hashlib import md5

import pytest
from support.command import COMMAND, REPOSITORY, ipp_mirror
from support.follower import Follower
from support.upstream import File, Upstream

PRODUCT = "md-all-rel-200907"


@pytest.fixture
def mirrored(upstream: Upstream, follower: Follower) -> Follower:
    """A mirror with a complete fileset, a failed and a skipped one."""
    upstream.add(PRODUCT, "right", [File("r.fits", b"right")])
    upstream.add(PRODUCT, "skipped", [File("s.fits", b"s", listed={"md5": "0" * 32})])
    upstream.add(PRODUCT, "wrong", [File("w.fits", b"w", listed={"md5": "0" * 32})])
    assert follower.update().code == 30
    skipped = ipp_mirror("skip", "--config", follower.config, PRODUCT, "skipped", "--reason", "asked IfA")
    assert (skipped.returncode, skipped.stderr) == (0, "")
    return follower


def test_the_state_at_a_glance(mirrored: Follower):
    shown = ipp_mirror("status", "--config", mirrored.config)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert any(line.startswith(f"warning: product {PRODUCT}: 1 fileset failed (expected ") for line in lines)
    assert "running: nothing" in lines
    head = next(line for line in lines if line.startswith("product "))
    row = lines[lines.index(head) + 1]
    assert dict(zip(head.split(), row.split(), strict=True)) == {
        "product": PRODUCT,
        "known": "3",
        "selected": "3",
        "complete": "1",
        "left": "1",
        "failed": "1",
        "skipped": "1",
        "withdrawn": "0",
    }
    one_line = " ".join(shown.stdout.split())
    assert f"with code 30: product {PRODUCT}: 2 of 3 pending filesets failed" in one_line
    assert "failures upstream (1 fileset):" in lines
    assert f"{PRODUCT}, step download: wrong; next try in the next update" in one_line
    assert f"{PRODUCT}/skipped since" in one_line
    disk = f" the mirror's disk {mirrored.root}: "
    assert one_line.partition("skipped (1 fileset):")[2].partition(disk)[0].endswith(": asked IfA")
    assert "1 of 3 selected filesets left, about 5 bytes; all of them failed" in lines
    assert lines[-1] == "verification: none has ended"
    for option in ("--config", "--mirror-config"):
        again = ipp_mirror("status", option, mirrored.config).stdout
        # Free space is that of the moment.
        first, second = (
            text.partition("\nwarning:")[2].partition("\nthe mirror's disk ")[0]
            for text in (shown.stdout, again)
        )
        assert first == second != ""


def test_the_same_for_programs(mirrored: Follower):
    shown = ipp_mirror("status", "--json", "--config", mirrored.config)
    assert (shown.returncode, shown.stderr) == (0, "")
    report = json.loads(shown.stdout)
    assert (report["schema"], report["state"], report["root"]) == (1, "warning", str(mirrored.root))
    assert (report["last_update"]["code"], report["last_update"]["failures"]) == (30, 2)
    [failure] = report["failures"]
    assert (failure["kind"], failure["here"], failure["examples"]) == ("upstream", False, ["wrong"])


def test_each_row_on_request(mirrored: Follower):
    shown = ipp_mirror("status", "--details", "--config", mirrored.config)
    titles = [line for line in shown.stdout.splitlines() if line.endswith((" row)", " rows)"))]
    assert titles == ["failures (1 row)", "problems that verify found (0 rows)", "skipped (1 row)"]
    assert shown.stdout.rstrip().endswith("asked IfA")


def test_one_line_for_nagios(mirrored: Follower, tmp_path):
    shown = ipp_mirror("status", "--check", "--config", mirrored.config)
    assert shown.returncode == 1
    assert shown.stdout == (
        f"WARNING - product {PRODUCT}: 1 fileset failed (expected md5 {'0' * 32} as listed, got "
        f"{md5(b'w').hexdigest()}); the next update tries again | left=1 failed=1\n"
    )
    unknown = ipp_mirror("status", "--check", "--config", tmp_path / "none.yaml")
    assert (unknown.returncode, unknown.stderr) == (3, "")
    assert unknown.stdout.startswith("UNKNOWN - ")


def test_forms_exclude_each_other(mirrored: Follower):
    refused = ipp_mirror("status", "--check", "--json", "--config", mirrored.config)
    assert (refused.returncode, refused.stdout) == (40, "")
    assert "--json, --check, --details and --html exclude each other" in refused.stderr


def test_a_reader_that_goes_away_is_no_error(mirrored: Follower):
    reading, writing = os.pipe()
    os.close(reading)
    command = [COMMAND, "status", "--config", str(mirrored.config)]
    with os.fdopen(writing, "w") as closed:
        shown = subprocess.run(
            command, cwd=REPOSITORY, stdout=closed, stderr=subprocess.PIPE, text=True, check=False
        )
    assert shown.stderr == ""


def test_before_the_first_update(follower: Follower):
    refused = ipp_mirror("status", "--config", follower.config)
    assert (refused.returncode, refused.stdout) == (40, "")
    assert refused.stderr == (
        f"ipp-mirror: no mirror at {follower.root}: expected {follower.root}/state/update.lock, which the "
        "first update makes. Begin with `ipp-mirror update`, or correct mirror.root in the settings.\n"
    )
