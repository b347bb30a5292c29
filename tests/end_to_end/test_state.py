"""State that was lost or damaged: what is on disk is checked and taken over, not fetched again."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from support.command import Ended, ended
from support.follower import Follower
from support.running import leftovers, tree_is_true
from support.summary_line import numbers
from support.upstream import File, Upstream, served_filesets

PRODUCT = "md-all-rel-200907"
CHIP = "o1.chip.1.1.1"
DATA = {
    "gpc1/MD01/o1.XY01/a.fits": b"A" * 5000,
    "gpc1/MD01/o1.XY01/deep/b.fits": b"B" * 10,
    "gpc1/MD01/o1.XY02/c.fits": b"C" * 300_000,
    "gpc1/MD01/o2.XY01/d.fits": b"D" * 900,
}


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    upstream.add_bundles(
        PRODUCT,
        CHIP,
        {"XY01": {"a.fits": b"A" * 5000, "deep/b.fits": b"B" * 10}, "XY02": {"c.fits": b"C" * 300_000}},
    )
    upstream.add_bundles(PRODUCT, "o2.chip.1.1.1", {"XY01": {"d.fits": b"D" * 900}})
    upstream.add(PRODUCT, "plain", [File("t.fits", b"T" * 70), File("note.txt", b"N" * 7, "text")])
    return upstream


@pytest.fixture
def mirrored(release, server, follower) -> Follower:
    """A mirror that is complete; the server has forgotten what it was asked."""
    assert follower.update().code == 0
    server.clear()
    return follower


def file_requests(server) -> list[str]:
    return [entry.target for entry in server.requests if "index.txt" not in entry.target]


def complete(follower: Follower, release: Upstream) -> None:
    assert follower.content("store") == served_filesets(release)
    assert follower.content("data") == DATA
    assert follower.marked("failed", PRODUCT) == set()
    assert leftovers(follower.root) == []
    tree_is_true(follower.root, PRODUCT, set(release.products[PRODUCT]))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_older_schema(path: Path) -> None:
    marker = json.loads(path.read_bytes())
    del marker["files"]
    path.write_text(json.dumps(marker | {"schema": 0}))


def of_another_kind(path: Path) -> None:
    path.write_text("[]\n")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # In a listing any byte may stand in a column of free text: the name of the last row is damaged.
    middle = content.rindex(b"\n", 0, -1) + 2 if path.name == "listing.txt" else len(content) // 2
    content[middle] ^= 0xFF
    path.write_bytes(content)


DAMAGES = [cut, empty, of_older_schema, of_another_kind, flipped]
STEPS = pytest.mark.parametrize("step", ["downloaded", "extracted"])


def verify(follower: Follower, *more: str) -> Ended:
    return ended([sys.executable, "-m", "tasks", "verify", "--mirror-config", str(follower.config), *more])


@STEPS
def test_a_marker_that_is_lost(step, release, server, mirrored):
    (mirrored.root / "state" / PRODUCT / step / f"{CHIP}.json").unlink()
    result = mirrored.update()
    assert result.code == 0, result.output
    assert file_requests(server) == []
    complete(mirrored, release)
    assert numbers() in mirrored.update().output


@STEPS
def test_a_marker_that_is_damaged_in_its_place(step, release, server, mirrored):
    marker = mirrored.root / "state" / PRODUCT / step / f"{CHIP}.json"
    for damage in DAMAGES:
        damage(marker)
        result = verify(mirrored, "--repair")
        assert result.code == 0, (damage, result.output)
        assert f"state/{PRODUCT}/{step}/{CHIP}.json: the marker is " in result.output, damage
        assert file_requests(server) == [], damage
        complete(mirrored, release)
        assert verify(mirrored).code == 0, damage


def test_damaged_markers_are_found_by_an_update_when_the_snapshots_are_lost(release, server, mirrored):
    state = mirrored.root / "state" / PRODUCT
    assert mirrored.update().code == 0, "with both snapshots"
    for step in ("downloaded", "extracted"):
        cut(state / step / f"{CHIP}.json")
    assert numbers() in mirrored.update().output, "an update does not read what its snapshots name"
    for step in ("downloaded", "extracted"):
        (state / f"{step}.snapshot").unlink()
    result = mirrored.update()
    assert result.code == 0, result.output
    assert numbers(0, 1, 1) in result.output
    assert file_requests(server) == []
    complete(mirrored, release)


STRANGE = {
    f"incoming/{PRODUCT}/odd|name?/x": "x",
    f"incoming/{PRODUCT}/gone/unpacking.json": "[1, 2]",
    f"incoming/{PRODUCT}/{CHIP}/unpacking.json": '{"folders": [5], "files": null}',
    f"state/{PRODUCT}/failed/plain.json": '{"schema": 1}',
    f"state/{PRODUCT}/failed/gone.json": '{"schema": 1, "fileset": "gone"}',
    "state/backup (old)?/x": "x",
}


def test_what_this_program_never_wrote_stops_no_run(release, server, mirrored):
    for path, content in STRANGE.items():
        strange = mirrored.root / path
        strange.parent.mkdir(parents=True, exist_ok=True)
        strange.write_text(content)
    result = mirrored.update()
    assert result.code == 0, result.output
    assert numbers() in result.output
    assert file_requests(server) == []
    complete(mirrored, release)


PARTS = ["state", "state/@owners", *(f"state/{PRODUCT}{step}" for step in ("", "/downloaded", "/extracted"))]


def test_a_part_of_the_state_that_is_lost(release, server, mirrored):
    for part in PARTS:
        shutil.rmtree(mirrored.root / part)
        result = mirrored.update()
        assert result.code == 0, (part, result.output)
        assert file_requests(server) == [], part
        complete(mirrored, release)
        assert numbers() in mirrored.update().output, part


REMEMBERED = ["listing.txt", "listing.json", "discovered.json", "updated.json", "downloaded.snapshot"]


@pytest.mark.parametrize("name", REMEMBERED)
def test_what_is_remembered_of_a_product_is_lost_or_damaged(name, release, server, mirrored):
    for damage in (Path.unlink, cut, empty, flipped):
        damage(mirrored.root / "state" / PRODUCT / name)
        result = mirrored.update()
        assert result.code == 0, (damage, result.output)
        assert file_requests(server) == [], damage
        complete(mirrored, release)
        listing = (mirrored.root / "state" / PRODUCT / "listing.txt").read_text()
        names = [line.split("|")[0] for line in listing.splitlines() if line.strip("# ")][1:]
        assert names == list(release.products[PRODUCT]), damage


def added(release: Upstream, *names: str) -> bytes:
    """The rows of these filesets as they are added to the listing here."""
    return "".join("|".join(release.products[PRODUCT][name]) + "|\n" for name in names).encode()


@pytest.mark.parametrize("missing", [1, 30, "a row and 30"])
def test_a_kill_while_new_rows_are_added_to_the_listing(missing, release, server, mirrored):
    """Two rows are on their way into ``listing.txt``; the last bytes of them did not arrive."""
    listing = mirrored.root / "state" / PRODUCT / "listing.txt"
    before = listing.read_bytes()
    for name in ("late1", "late2"):
        release.add(PRODUCT, name, [File(f"{name}.fits", b"L" * 9)])
    both, row = added(release, "late1", "late2"), len(added(release, "late2"))
    listing.write_bytes(before + both[: -{"a row and 30": row + 30}.get(missing, missing)])
    result = mirrored.update()
    assert result.code == 0, result.output
    assert len(file_requests(server)) == 2
    complete(mirrored, release)
    assert listing.read_bytes() == before + both
    assert numbers() in mirrored.update().output


def test_a_listing_damaged_far_from_its_end_fails_one_run_at_most(release, server, mirrored):
    release.add(PRODUCT, "more", [File("m.fits", b"M")], stage="x" * 5000)
    assert mirrored.update().code == 0
    server.clear()
    listing = mirrored.root / "state" / PRODUCT / "listing.txt"
    before = listing.read_bytes()
    listing.write_bytes(before.replace(b"o2.chip", b"o2.\xffhip", 1))
    result = mirrored.update()
    assert result.code == 20
    assert "listing.txt" in result.output
    assert mirrored.update().code == 0
    assert listing.read_bytes() == before
    assert file_requests(server) == []
    complete(mirrored, release)


def test_a_damaged_byte_that_is_found_while_the_store_is_taken_over(release, server, mirrored):
    flipped(mirrored.root / "store" / PRODUCT / CHIP / f"{CHIP}.XY02.tgz")
    shutil.rmtree(mirrored.root / "state")
    result = mirrored.update()
    assert result.code == 0, result.output
    assert file_requests(server) == [f"/ds/{PRODUCT}/{CHIP}/{CHIP}.XY02.tgz"]
    complete(mirrored, release)


@pytest.mark.parametrize("damage", [Path.unlink, cut, empty])
def test_a_damaged_file_that_is_found_while_the_store_is_taken_over(damage, release, server, mirrored):
    damage(mirrored.root / "store" / PRODUCT / "plain" / "t.fits")
    shutil.rmtree(mirrored.root / "state")
    result = mirrored.update()
    assert result.code == 0, result.output
    assert file_requests(server) == [f"/ds/{PRODUCT}/plain/t.fits"]
    complete(mirrored, release)


def test_unpacked_files_that_are_damaged_are_unpacked_again_when_the_state_is_lost(release, server, mirrored):
    flipped(mirrored.root / "data" / "gpc1/MD01/o1.XY02/c.fits")
    (mirrored.root / "data" / "gpc1/MD01/o1.XY01/a.fits").unlink()
    shutil.rmtree(mirrored.root / "state")
    result = mirrored.update()
    assert result.code == 0, result.output
    assert file_requests(server) == []
    complete(mirrored, release)


def test_a_fileset_registered_again_while_the_state_was_lost(release, server, mirrored):
    shutil.rmtree(mirrored.root / "state")
    release.add_bundles(PRODUCT, "o2.chip.1.1.1", {"XY01": {"d.fits": b"new"}})
    result = mirrored.update()
    assert result.code == 0, result.output
    assert {target.split("/")[3] for target in file_requests(server)} == {"o2.chip.1.1.1"}
    assert mirrored.content("store") == served_filesets(release)
    assert mirrored.content("data") == DATA | {"gpc1/MD01/o2.XY01/d.fits": b"new"}


def test_a_fileset_that_lost_its_index(release, server, mirrored):
    (mirrored.root / "store" / PRODUCT / CHIP / "index.txt").unlink()
    shutil.rmtree(mirrored.root / "state")
    assert mirrored.update().code == 0
    assert file_requests(server) == []
    complete(mirrored, release)


@pytest.mark.parametrize("lost", ["state", f"state/{PRODUCT}/extracted/{CHIP}.json"])
def test_bundles_deleted_once_unpacked_come_again_when_the_state_is_lost(lost, release, server, follower):
    """With ``keep_bundles: false`` nothing else on this disk can show that ``data/`` is right."""
    follower.mirror["keep_bundles"] = False
    assert follower.update().code == 0
    server.clear()
    path = follower.root / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    result = follower.update()
    assert result.code == 0, result.output
    bundles = [f"/ds/{PRODUCT}/{CHIP}/{CHIP}.XY0{number}.tgz" for number in (1, 2)]
    if lost == "state":
        bundles.append(f"/ds/{PRODUCT}/o2.chip.1.1.1/o2.chip.1.1.1.XY01.tgz")
    assert sorted(file_requests(server)) == bundles
    assert follower.content("data") == DATA
    assert not list((follower.root / "store").rglob("*.tgz"))
    assert numbers() in follower.update().output
