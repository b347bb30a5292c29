"""Corrections in place upstream: found by comparing listings, and repaired, with the real command."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event

import pytest
from support.bundles import bundle
from support.command import REPOSITORY, ended
from support.follower import Follower
from support.running import gate, requested_filesets, served_on, started, until
from support.upstream import File, Upstream, served_filesets

from pipeline.sample import faults
from pipeline.sample.simulator import Simulator

PRODUCT = "md-all-rel-200907"
BUNDLED = "o1.chip.1.1.1"
TGZ = f"{BUNDLED}.XY01.tgz"
DATA = "data/gpc1/MD01/o1.XY01"


@pytest.fixture
def mirrored(upstream: Upstream, follower: Follower) -> Follower:
    upstream.add_bundles(PRODUCT, BUNDLED, {"XY01": {"a.fits": b"A" * 5000, "old.fits": b"B" * 10}})
    upstream.add(PRODUCT, "plain", [File("t.fits", b"T" * 70), File("u.fits", b"U" * 7)], type="table")
    upstream.add(PRODUCT, "untouched", [File("v.fits", b"V" * 7)], type="table")
    result = follower.update()
    assert result.code == 0, result.output
    return follower


def command(follower: Follower, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "tasks", "verify", "--upstream"),
        *("--mirror-config", str(follower.config), *more),
    ]


def compare(follower: Follower, *more: str):
    return ended(command(follower, *more))


@contextmanager
def served(follower: Follower) -> Iterator[str]:
    """The mirror, served at the address that is yielded."""
    serve = [sys.executable, "-m", "tasks", "serve", "--port", "0", "--mirror-config", str(follower.config)]
    with subprocess.Popen(serve, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as serving:
        try:
            yield serving.stdout.readline().split()[-1]
        finally:
            serving.terminate()


def correct(upstream: Upstream, fileset: str, files: dict[str, bytes | None]) -> None:
    """Change files of a fileset in place, with its listing and without a new registration; None removes."""
    folder = upstream.folder / PRODUCT / fileset
    lines = (folder / "index.txt").read_text().splitlines()
    rows = {line.split("|")[0]: line.split("|") for line in lines[1:] if line}
    for name, content in files.items():
        if content is None:
            (folder / name).unlink()
            del rows[name]
            continue
        (folder / name).write_bytes(content)
        cells = rows.setdefault(name, [name, "", "", "fits", "", ""])
        cells[1:3] = [str(len(content)), hashlib.md5(content).hexdigest()]
    text = "\n".join([lines[0], *("|".join(cells) for cells in rows.values())])
    (folder / "index.txt").write_text(f"{text}\n\n")


def status(follower: Follower) -> str:
    return ended([sys.executable, "-m", "tasks", "status", "--mirror-config", str(follower.config)]).output


def fetched(server: Simulator) -> list[str]:
    """The files that were requested, without listings."""
    targets = [request.target.split("/")[-1] for request in server.requests]
    return [name for name in targets if name != "index.txt"]


def summary(same: int = 0, fetched: int = 0, left_here: int = 0) -> str:
    return (
        f"filesets: {same + fetched + left_here} here, compared with upstream: {same} the same there, "
        f"{fetched} corrected there and fetched, {left_here} corrected there and not fetched, 0 left; "
    )


def test_corrections_are_found_and_repaired(mirrored, upstream, server):
    files = {"t.fits": b"t" * 70, "u.fits": None, "w.fits": b"W" * 5}
    new = bundle({"a.fits": b"a" * 5000, "new.fits": b"N"})
    correct(upstream, "plain", files)
    correct(upstream, BUNDLED, {TGZ: new})
    before = mirrored.content("store"), mirrored.content("data")
    found = compare(mirrored)
    assert found.code == 30, found.output
    assert f"store/{PRODUCT}/plain: upstream lists other files: t.fits has md5 " in found.output
    assert f"store/{PRODUCT}/{BUNDLED}: upstream lists other files: {TGZ} has size " in found.output
    assert "2 problems" in found.output
    assert summary(same=1, left_here=2) in found.output
    assert (mirrored.content("store"), mirrored.content("data")) == before, "only --repair changes anything"
    assert "upstream lists other files: t.fits" in status(mirrored)
    server.clear()
    repaired = compare(mirrored, "--repair")
    assert repaired.code == 0, repaired.output
    assert summary(same=1, fetched=2) in repaired.output
    assert sorted(fetched(server)) == [TGZ, "t.fits", "w.fits"]
    assert mirrored.content("store") == served_filesets(upstream)
    assert mirrored.content(DATA) == {"a.fits": b"a" * 5000, "new.fits": b"N"}
    assert not mirrored.marked("superseded", PRODUCT)
    assert "upstream lists other files" not in status(mirrored)
    plain = [part for part in command(mirrored) if part != "--upstream"]
    assert ended(plain).code == 0


def test_without_corrections_there_is_one_request_for_each_fileset(mirrored, server):
    server.clear()
    trees = mirrored.content("store"), mirrored.content("data")
    result = compare(mirrored, "--repair")
    assert result.code == 0, result.output
    assert "3 filesets compared with upstream, 0 with problems" in result.output
    assert summary(same=3) in result.output
    assert sorted(request.target.split("/")[-2] for request in server.requests) == [
        BUNDLED,
        "plain",
        "untouched",
    ]
    assert fetched(server) == []
    assert (mirrored.content("store"), mirrored.content("data")) == trees


def test_withdrawn_and_skipped_filesets_are_left_out(mirrored, upstream, server):
    upstream.withdraw(PRODUCT, "plain")
    (mirrored.root / "state" / PRODUCT / "discovered.json").unlink()  # the whole list is due
    assert mirrored.update().code == 0
    assert mirrored.marked("withdrawn", PRODUCT) == {"plain"}
    skipped = mirrored.root / "state" / PRODUCT / "skipped" / f"{BUNDLED}.json"
    skipped.parent.mkdir(exist_ok=True)
    skipped.write_text(json.dumps({"schema": 1, "product": PRODUCT, "fileset": BUNDLED, "registered": ""}))
    server.clear()
    assert compare(mirrored).code == 0
    assert requested_filesets(server) == {"untouched"}


LISTING_FAULTS = {
    "404": lambda target: faults.fails(404, target=target),
    "database": lambda target: faults.database_down(target=target),
    "empty": lambda target: faults.edits(lambda body: body.splitlines()[0] + b"\n", target=target),
    "no-md5": lambda target: faults.edits(lambda body: body.replace(b"|fits|", b"x|fits|"), target=target),
}


def test_a_listing_that_does_not_come_is_a_problem_of_its_fileset(upstream, follower, server):
    for name in LISTING_FAULTS:
        upstream.add(PRODUCT, name, [File("d.fits", b"D")])
    upstream.add(PRODUCT, "sound", [File("t.fits", b"T")], type="table")
    assert follower.update().code == 0
    before = follower.content("store")
    correct(upstream, "sound", {"t.fits": b"t"})
    server.faults.extend(fault(f"{PRODUCT}/{name}/index.txt") for name, fault in LISTING_FAULTS.items())
    result = compare(follower, "--repair")
    assert result.code == 30, result.output
    for name in LISTING_FAULTS:
        assert f"fileset {PRODUCT}/{name}: " in result.output
    assert "4 problems in all" in result.output
    changed = {path for path, content in follower.content("store").items() if before[path] != content}
    assert changed == {f"{PRODUCT}/sound/t.fits", f"{PRODUCT}/sound/index.txt"}, "the others are repaired"
    assert follower.marked("extracted", PRODUCT) == {*LISTING_FAULTS, "sound"}


@pytest.mark.parametrize("filesets", [2, 16])
def test_a_dead_server_ends_the_run_and_nothing_changes(filesets, upstream, follower, server):
    for number in range(filesets):
        upstream.add(PRODUCT, f"f{number:02}", [File("t.fits", b"T")], type="table")
    follower.source = {"connections": 2, "attempts": 1}
    assert follower.update().code == 0
    before = follower.content("store")
    server.faults.append(faults.resets(target="everything"))
    server.clear()
    result = compare(follower, "--repair")
    assert result.code == 20, result.output
    assert "Traceback" not in result.output
    assert follower.content("store") == before
    # Ten filesets, one in progress beside the tenth, and the listing that decides.
    assert len(server.requests) <= min(filesets, 11) + 1
    server.faults.clear()
    assert compare(follower).code == 0


def test_many_filesets_without_a_listing_are_no_dead_server(upstream, follower, server):
    for number in range(12):
        upstream.add(PRODUCT, f"f{number:02}", [File("t.fits", b"T")], type="table")
    upstream.add(PRODUCT, "last", [File("t.fits", b"T")], type="table")
    assert follower.update().code == 0
    correct(upstream, "last", {"t.fits": b"t"})
    server.faults.append(faults.fails(404, target=f"{PRODUCT}/f*/index.txt"))
    result = compare(follower, "--repair")
    assert result.code == 30, result.output
    assert "12 problems in all" in result.output
    assert follower.content(f"store/{PRODUCT}/last")["t.fits"] == b"t"


def test_a_comparison_that_was_stopped_goes_on(upstream, follower, server, tmp_path):
    names = {f"f{number:02}" for number in range(12)}
    for name in sorted(names):
        upstream.add(PRODUCT, name, [File("t.fits", b"T")], type="table")
    follower.source = {"connections": 2}
    assert follower.update().code == 0
    correct(upstream, "f00", {"t.fits": b"t"})
    opened = Event()
    server.faults.append(gate(opened, "listings", after=4))
    with started(command(follower, "--repair"), tmp_path / "log") as run:
        until(lambda: server.in_progress, "no request is held")
        run.request_stop()
        opened.set()
        stopped = run.wait()
    assert stopped.code == 25, stopped.output
    compared = follower.marked("compared", PRODUCT)
    assert compared and compared != names
    server.clear()
    result = compare(follower, "--repair")
    assert result.code == 0, result.output
    assert requested_filesets(server) == names - compared | {"f00"}
    assert follower.content("store") == served_filesets(upstream)


def test_a_repair_that_was_killed_goes_on_and_a_verification_too(mirrored, upstream, server):
    """As after a kill between the removal of the markers and the download."""
    correct(upstream, "plain", {"t.fits": b"t" * 70})
    state = mirrored.root / "state"
    begun = datetime.now(UTC).isoformat()
    for name in ("comparison", "verification"):
        (state / f"{name}.json").write_text(json.dumps({"schema": 1, "run": begun}))
    for kind, steps in {"compared": ["downloaded"], "verified": []}.items():
        content = {"schema": 1, "run": begun, "problems": steps, "steps": steps}
        (state / PRODUCT / kind).mkdir()
        (state / PRODUCT / kind / "plain.json").write_text(json.dumps(content))
    for kind in ("downloaded", "extracted"):
        (state / PRODUCT / kind / "plain.json").unlink()
    result = compare(mirrored, "--repair")
    assert result.code == 0, result.output
    assert mirrored.content("store") == served_filesets(upstream)
    assert not (state / "comparison.json").exists()
    assert (state / "verification.json").exists()
    assert json.loads((state / PRODUCT / "verified" / "plain.json").read_text())["run"] == begun


def test_a_correction_that_cannot_be_fetched_is_a_problem_until_it_can(mirrored, upstream, server):
    correct(upstream, "plain", {"t.fits": b"t" * 70})
    upstream.path(PRODUCT, "plain", "t.fits").write_bytes(b"?" * 70)
    before = mirrored.content("store")
    result = compare(mirrored, "--repair")
    assert result.code == 30, result.output
    assert mirrored.content("store") == before
    upstream.path(PRODUCT, "plain", "t.fits").write_bytes(b"t" * 70)
    assert mirrored.update().code == 0
    assert mirrored.content("store") == served_filesets(upstream)
    assert compare(mirrored).code == 0


def test_a_correction_that_cannot_be_unpacked_is_not_fetched(mirrored, upstream):
    correct(upstream, BUNDLED, {TGZ: b"no archive"})
    result = compare(mirrored, "--repair")
    assert result.code == 30, result.output
    assert summary(same=2, left_here=1) in result.output


def test_readers_of_the_mirror_get_what_comes_after_a_repair(mirrored, upstream, tmp_path):
    with served(mirrored) as url:
        (tmp_path / "next").mkdir()
        following = Follower(tmp_path / "next", url)
        assert following.update().code == 0
        correct(upstream, "plain", {"t.fits": b"t" * 70})
        assert compare(mirrored, "--repair").code == 0
        assert served_on(mirrored.root, PRODUCT) == {BUNDLED, "plain", "untouched"}
        upstream.add(PRODUCT, "new", [File("n.fits", b"N")], type="table")
        assert mirrored.update().code == 0
        result = following.update()
        assert result.code == 0, result.output
        assert following.marked("downloaded", PRODUCT) == {BUNDLED, "plain", "untouched", "new"}
        assert following.content(f"store/{PRODUCT}/plain")["t.fits"] == b"T" * 70
        assert compare(following, "--repair").code == 0
        assert following.content("store") == mirrored.content("store") == served_filesets(upstream)


def test_a_rate_is_refused(mirrored, server):
    server.clear()
    result = compare(mirrored, "--rate", "50 MB/s")
    assert result.code == 40, result.output
    assert "--rate: expected without --upstream" in result.output
    assert not server.requests
