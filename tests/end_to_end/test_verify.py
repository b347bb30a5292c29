"""Verification and repair through the luigi command, on damage done by hand."""

import json
import shutil
import sys
from datetime import UTC, datetime, timedelta

import pytest
from support.command import ended, ipp_mirror
from support.follower import Follower
from support.upstream import File, Upstream, served_filesets

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.steps.extract import EXTRACT, supersede

PRODUCT = "md-all-rel-200907"


@pytest.fixture
def mirrored(upstream: Upstream, follower: Follower) -> Follower:
    upstream.add_bundles(PRODUCT, "o1.chip.1.1.1", {"XY01": {"a.fits": b"A" * 5000, "b.fits": b"B" * 10}})
    upstream.add(PRODUCT, "plain", [File("t.fits", b"T" * 70), File("u.fits", b"U" * 7)], type="table")
    result = follower.update()
    assert result.code == 0, result.output
    return follower


def verify(follower: Follower, *more: str):
    return ended([sys.executable, "-m", "tasks", "verify", "--mirror-config", str(follower.config), *more])


def damage(follower: Follower, path: str) -> str:
    file = follower.root / path
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(bytes(content))
    return path


def delete(follower: Follower, path: str) -> str:
    (follower.root / path).unlink()
    return path


def truncate(follower: Follower, path: str) -> str:
    (follower.root / path).write_bytes(b"{")
    return path


def owner_record(follower: Follower) -> str:
    layout = Layout(follower.root)
    return layout.relative(layout.owner_record("data/gpc1/MD01/o1.XY01"))


DAMAGES = {
    "a flipped byte in a bundle": lambda f: damage(
        f, f"store/{PRODUCT}/o1.chip.1.1.1/o1.chip.1.1.1.XY01.tgz"
    ),
    "a flipped byte in a plain file": lambda f: damage(f, f"store/{PRODUCT}/plain/t.fits"),
    "a missing file": lambda f: delete(f, f"store/{PRODUCT}/plain/u.fits"),
    "a missing index": lambda f: delete(f, f"store/{PRODUCT}/plain/index.txt"),
    "a flipped byte in unpacked data": lambda f: damage(f, "data/gpc1/MD01/o1.XY01/a.fits"),
    "a missing unpacked file": lambda f: delete(f, "data/gpc1/MD01/o1.XY01/b.fits"),
    "a missing owner record": lambda f: delete(f, owner_record(f)),
    "a missing marker": lambda f: delete(f, f"state/{PRODUCT}/downloaded/plain.json"),
    "a truncated marker": lambda f: truncate(f, f"state/{PRODUCT}/extracted/o1.chip.1.1.1.json"),
}


def test_a_sound_mirror(mirrored):
    result = verify(mirrored)
    assert result.code == 0, result.output
    assert "2 filesets verified, 0 with problems" in result.output
    assert "filesets: 2 here: 2 sound, 0 repaired, 0 with problems, 0 left; " in result.output


def test_damage_is_found_reported_and_repaired(mirrored, upstream, server):
    data = mirrored.content("data")
    for name, damages in DAMAGES.items():
        path = damages(mirrored)
        found = verify(mirrored)
        assert found.code == 30, (name, found.output)
        assert path in found.output, name
        if "flipped" in name:
            assert f"damaged: expected {'CRC-32' if path.startswith('data/') else 'md5'} " in found.output
        # Without the extraction's marker, the files that it names belong to no fileset.
        count = "3 problems" if name == "a truncated marker" else "1 problem"
        assert f"{count} in all; " in found.output, name
        assert "filesets: 2 here: 1 sound, 0 repaired, 1 with problems, 0 left; " in found.output, name
        assert "Traceback" not in found.output, name
        server.clear()
        repaired = verify(mirrored, "--repair")
        assert repaired.code == 0, (name, repaired.output)
        assert "filesets: 2 here: 1 sound, 1 repaired, 0 with problems, 0 left; " in repaired.output, name
        assert mirrored.content("store") == served_filesets(upstream), name
        assert mirrored.content("data") == data, name
        fetched = [request.target for request in server.requests if "index.txt" not in request.target]
        assert len(fetched) <= 1, name
        # The next damage is then the only one that is found.
    assert verify(mirrored).code == 0


def test_a_repair_that_failed_is_a_problem_until_an_update_mends_it(mirrored, upstream):
    """Filesets of which an unpacked file, the marker of the unpacking, or all of ``store/`` is damaged."""
    for name in ("o2", "o3"):
        upstream.add_bundles(PRODUCT, name, {"XY01": {"a.fits": name.encode()}})
    assert mirrored.update().code == 0
    data = mirrored.content("data")
    damage(mirrored, "data/gpc1/MD01/o1.XY01/a.fits")
    truncate(mirrored, f"state/{PRODUCT}/extracted/o2.json")
    shutil.rmtree(mirrored.root / "store" / PRODUCT / "o3")
    mirrored.mirror["min_free"] = "1000 TB"
    repaired = verify(mirrored, "--repair")
    assert repaired.code == 30, repaired.output
    assert "filesets: 4 here: 1 sound, 0 repaired, 3 with problems, 0 left; " in repaired.output
    undone = f"state/{PRODUCT}/extracted/o1.chip.1.1.1.json: missing, as the fileset is to be unpacked again"
    shown = " ".join(status(mirrored).split())
    for problem in (undone, f"state/{PRODUCT}/extracted/o2.json: missing, as the repair failed"):
        assert problem in repaired.output
        assert problem in shown
    found = verify(mirrored)
    assert found.code == 30, found.output
    # The unpacked file that no marker names is unexpected.
    assert "filesets: 4 here: 2 sound, 0 repaired, 2 with problems, 0 left; " in found.output
    unexpected = "data/gpc1/MD01/o2.XY01/a.fits: unexpected"
    for problem in (undone, f"state/{PRODUCT}/downloaded/o3.json: ", unexpected):
        assert problem in found.output
    del mirrored.mirror["min_free"]
    assert mirrored.update().code == 0
    assert verify(mirrored).code == 0
    assert mirrored.content("data") == data


def test_what_no_update_unpacks_again_is_said_so(mirrored, upstream):
    """A fileset that is withdrawn, and whose bundles were deleted, until they are put back; a skipped one."""
    layout, skipped, withdrawn = Layout(mirrored.root), "o1.chip.1.1.1", "o2"
    upstream.add_bundles(PRODUCT, withdrawn, {"XY01": {"c.fits": b"C" * 50}})
    mirrored.mirror["keep_bundles"] = False
    assert mirrored.update().code == 0
    data = mirrored.content("data")
    for name, kind in ((skipped, MarkerKind.SKIPPED), (withdrawn, MarkerKind.WITHDRAWN)):
        write_marker(layout.marker(kind, PRODUCT, name), {})
        supersede(layout, EXTRACT, Fileset(PRODUCT, name, ""))
    damage(mirrored, "data/gpc1/MD01/o2.XY01/c.fits")
    found = verify(mirrored)
    assert found.code == 30, found.output
    undone = f"state/{PRODUCT}/extracted/%s.json: missing, as the fileset is to be unpacked again"
    assert (
        f"{undone % skipped}; an update does that after `ipp-mirror unskip {PRODUCT} {skipped}`"
        in found.output
    )
    assert (
        f"{undone % withdrawn}, and no update can do that: it is withdrawn upstream, and its bundles are not "
        f"here. An update unpacks it once they are in store/{PRODUCT}/o2 again, from a copy; until then what "
        "it had unpacked stays, as it is" in found.output
    )
    layout.marker(MarkerKind.SKIPPED, PRODUCT, skipped).unlink()
    shutil.copy(upstream.path(PRODUCT, "o2", "o2.XY01.tgz"), mirrored.root / f"store/{PRODUCT}/o2")
    upstream.withdraw(PRODUCT, withdrawn)
    assert mirrored.update().code == 0
    assert verify(mirrored).code == 0
    assert mirrored.content("data") == data


def test_unpacked_files_are_not_repaired_without_unpacking(mirrored):
    path = damage(mirrored, "data/gpc1/MD01/o1.XY01/a.fits")
    mirrored.mirror["unpack"] = False
    repaired = verify(mirrored, "--repair")
    assert repaired.code == 30, repaired.output
    assert path in repaired.output
    assert "1 sound, 0 repaired, 1 with problems" in repaired.output


def test_unexpected_files_are_reported_and_left_alone(mirrored):
    strangers = [
        f"store/{PRODUCT}/plain/stranger.fits",
        f"store/{PRODUCT}/unknown.chip.1/x.fits",
        "data/gpc1/MD01/o1.XY01/mine.txt",
        "store/mine.txt",
        f"store/{PRODUCT}/mine.txt",
        "store/of-no-product/x/x.fits",
    ]
    for path in strangers:
        (mirrored.root / path).parent.mkdir(parents=True, exist_ok=True)
        (mirrored.root / path).write_bytes(b"x")
    for folder in ("store/lost+found", "store/.snapshot/x", f"store/{PRODUCT}/lost+found"):
        (mirrored.root / folder).mkdir(parents=True)
    for more in ((), ("--repair",)):
        result = verify(mirrored, *more)
        assert result.code == 30
        assert strangers[0] in result.output
        assert f"store/{PRODUCT}/unknown.chip.1" in result.output
        for stranger in (*strangers[2:5], "store/of-no-product"):
            assert f"{stranger}: unexpected: " in (mirrored.root / "log/update_mirror.log").read_text()
        assert "6 problems in all" in result.output
    assert all((mirrored.root / path).exists() for path in strangers)


@pytest.mark.parametrize(
    ("days_ago", "goes_on"), [(1, True), (8, False), (-5000, False)], ids=["resumed", "old", "a wrong clock"]
)
def test_a_stopped_verification_goes_on(days_ago, goes_on, mirrored):
    begun = (datetime.now(UTC) - timedelta(days=days_ago)).isoformat()
    (mirrored.root / "state" / "verification.json").write_text(json.dumps({"schema": 1, "run": begun}))
    marker = mirrored.root / "state" / PRODUCT / "verified" / "plain.json"
    marker.parent.mkdir()
    marker.write_text(json.dumps({"schema": 1, "run": begun, "problems": []}))
    damage(mirrored, f"store/{PRODUCT}/plain/t.fits")
    assert verify(mirrored).code == (0 if goes_on else 30)
    assert verify(mirrored).code == 30


def test_the_result_as_json_is_all_that_is_on_standard_output(mirrored):
    path = damage(mirrored, f"store/{PRODUCT}/plain/t.fits")
    shown = ipp_mirror("verify", "--json", "--config", mirrored.config)
    assert shown.returncode == 30
    assert f"{path}: " in shown.stderr
    report = json.loads(shown.stdout)
    (problem,) = report.pop("problems")
    assert (problem["product"], problem["fileset"]) == (PRODUCT, "plain")
    assert problem["problem"].startswith(f"{path}: ")
    assert report == {
        "schema": 1,
        "root": str(mirrored.root),
        "code": 30,
        "reason": report["reason"],
        "upstream": False,
        "here": 2,
        "sound": 1,
        "repaired": 0,
        "damaged": 1,
        "left": 0,
    }


def test_a_wrong_rate(mirrored):
    result = verify(mirrored, "--rate", "fast")
    assert result.code == 40
    assert "rate such as 50 MB/s" in result.output


def test_a_fileset_that_cannot_be_verified_does_not_count_as_sound(mirrored):
    assert verify(mirrored).code == 0
    marker = mirrored.root / "state" / PRODUCT / "downloaded" / "plain.json"
    content = json.loads(marker.read_text())
    del content["files"][0]["md5"]
    marker.write_text(json.dumps(content))
    result = verify(mirrored)
    assert result.code == 40, result.output
    assert "2 filesets verified, 1 with problems" in result.output
    assert json.loads((mirrored.root / "state" / "verified.json").read_text())["failed"] == 1


def status(follower: Follower) -> str:
    return ended([sys.executable, "-m", "tasks", "status", "--config", str(follower.config)]).output


def test_an_empty_mirror(upstream, follower):
    assert follower.update().code == 0
    for more in ((), ("--repair",)):
        result = verify(follower, *more)
        assert result.code == 30, result.output
        assert f"nothing to verify: no fileset is in the mirror at {follower.root}. " in result.output


@pytest.mark.parametrize("name", ["a flipped byte in a plain file", "a missing marker", "a truncated marker"])
def test_status_shows_what_was_found_until_it_is_repaired(name, mirrored):
    assert verify(mirrored).code == 0
    assert "problems that verify found" not in status(mirrored)
    path = DAMAGES[name](mirrored)
    assert verify(mirrored).code == 30
    shown = status(mirrored).partition("problems that verify found (")[2]
    assert path in shown
    assert mirrored.update().code == 0
    # An update does again what has no marker, and nothing else; unpacked files of no marker stay unexpected
    # until they are verified again.
    is_repaired = name == "a missing marker"
    assert ("problems that verify found" in status(mirrored)) != is_repaired
    assert verify(mirrored, "--repair").code == 0
    assert "problems that verify found" not in status(mirrored)


def test_status_shows_unexpected_files_until_they_are_gone(mirrored):
    stranger = mirrored.root / "data" / "mine.txt"
    stranger.write_bytes(b"x")
    assert verify(mirrored).code == 30
    assert "data/mine.txt: unexpected" in status(mirrored)
    stranger.unlink()
    assert "problems that verify found" not in status(mirrored)
