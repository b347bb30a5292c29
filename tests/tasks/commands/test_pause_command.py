"""``ipp-mirror pause`` and ``resume``: no update begins in between."""

from threading import Event

import pytest
from support.command import Ended, ended, ipp_mirror
from support.follower import Follower
from support.running import gate, started, until
from support.upstream import File, Upstream

PRODUCT = "md-all-rel-200907"
PAUSED = "An update that is running goes on; no other begins."


@pytest.fixture
def mirrored(upstream: Upstream, follower: Follower) -> Follower:
    """A mirror with one fileset here, and one that is new upstream."""
    upstream.add(PRODUCT, "first", [File("f.fits", b"f")])
    assert follower.update().code == 0
    upstream.add(PRODUCT, "second", [File("s.fits", b"s")])
    return follower


def command(follower: Follower, name: str, *arguments: str) -> Ended:
    shown = ipp_mirror(name, "--config", follower.config, *arguments)
    return Ended(shown.returncode, shown.stdout + shown.stderr)


def test_no_update_begins_until_it_is_resumed(mirrored: Follower, server, tmp_path):
    (tmp_path / "earlier" / PRODUCT).mkdir(parents=True)
    paused = command(mirrored, "pause", "--reason", "the disk\nis moved")
    assert paused.code == 0
    assert paused.output.startswith(f"{mirrored.root}: paused since 2")
    assert f": the disk\\nis moved. {PAUSED}\n" in paused.output
    server.clear()
    adopting = [each.replace("UpdateMirror", "AdoptMirror") for each in mirrored.command()]
    for line in (mirrored.command(), [*adopting, "--folder", str(tmp_path / "earlier")]):
        refused = ended(line)
        assert refused.code == 10
        (sentence,) = refused.output.splitlines()
        assert sentence.startswith(f"ipp-mirror: {mirrored.root}: paused since ")
        assert sentence.endswith("This run did nothing; updates begin again after `ipp-mirror resume`.")
    assert server.requests == []
    again = command(mirrored, "pause", "--reason", "another one")
    kept = "Nothing was changed; the new reason is not recorded."
    assert again == Ended(0, paused.output.replace(PAUSED, kept))
    shown = command(mirrored, "status").output
    assert "warning: paused since 2" in shown
    assert "\nwarning: paused since 2" in shown
    assert command(mirrored, "verify").code == 0
    assert command(mirrored, "resume") == Ended(
        0, f"{mirrored.root}: resumed; the next update begins as usual.\n"
    )
    assert "paused" not in command(mirrored, "status").output
    assert mirrored.update().code == 0
    assert mirrored.marked("extracted", PRODUCT) == {"first", "second"}


def test_a_pause_without_a_reason_changes_nothing(follower: Follower):
    paused = command(follower, "pause", "--reason", "the first one")
    assert command(follower, "pause") == Ended(0, paused.output.replace(PAUSED, "Nothing was changed."))


def test_a_running_update_goes_on(mirrored: Follower, server, tmp_path):
    opened = Event()
    server.faults.append(gate(opened, f"{PRODUCT}/second/s.fits"))
    with started(mirrored.command(), tmp_path / "output") as update:
        until(lambda: any("s.fits" in request.target for request in server.requests), "nothing is requested")
        assert command(mirrored, "pause").code == 0
        opened.set()
        result = update.wait()
    assert result.code == 0, result.output
    assert mirrored.marked("extracted", PRODUCT) == {"first", "second"}


def test_what_is_not_paused_is_not_resumed(mirrored: Follower):
    assert command(mirrored, "resume") == Ended(0, f"{mirrored.root} is not paused. Nothing was changed.\n")


def test_a_damaged_marker_pauses(mirrored: Follower):
    (mirrored.root / "state" / "paused.json").write_text("{")
    assert mirrored.update().code == 10
    assert command(mirrored, "resume").code == 0
    assert mirrored.update().code == 0
