"""Skipped filesets, exponential back-off, withdrawn filesets deleted, files that two filesets hold."""

import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
from support.command import ended
from support.follower import Follower
from support.running import gate, started, until
from support.summary_line import numbers
from support.upstream import File, Upstream, served_filesets

PRODUCT = "md-all-rel-200907"


def command(follower: Follower, *arguments: str):
    name, *rest = arguments
    return ended([sys.executable, "-m", "tasks", name, "--mirror-config", str(follower.config), *rest])


@pytest.fixture
def wrong(upstream: Upstream) -> Upstream:
    """One good fileset, and one that was published with a wrong checksum."""
    upstream.add(PRODUCT, "right", [File("r.fits", b"r")])
    upstream.add(PRODUCT, "wrong", [File("w.fits", b"w" * 50, listed={"md5": "0" * 32})])
    return upstream


def test_a_skipped_fileset_is_not_tried_and_fails_no_run(wrong, server, follower):
    assert follower.update().code == 30
    done = command(follower, "skip", PRODUCT, "wrong", "--reason", "checksum is wrong, asked IfA")
    assert done.code == 0, done.output
    server.clear()
    result = follower.update()
    assert result.code == 0
    assert "1 skipped" in result.output
    assert not [request for request in server.requests if "wrong/" in request.target]
    shown = " ".join(command(follower, "status").output.split())
    assert "checksum is wrong, asked IfA" in shown
    assert command(follower, "unskip", PRODUCT, "wrong").code == 0
    assert follower.update().code == 30


def test_a_skipped_fileset_that_is_registered_again_is_tried(wrong, follower):
    assert follower.update().code == 30
    assert command(follower, "skip", PRODUCT, "wrong", "--reason", "bad").code == 0
    wrong.add(PRODUCT, "wrong", [File("w.fits", b"w" * 50)])
    result = follower.update()
    assert result.code == 0, result.output
    assert follower.content("store") == served_filesets(wrong)


def test_skipping_what_is_not_there(wrong, follower):
    follower.update()
    for name in ("skip", "unskip"):
        more = ["--reason", "x"] if name == "skip" else []
        result = command(follower, name, PRODUCT, "nonsense", *more)
        assert result.code == 40
        assert "nonsense" in result.output
        assert "Traceback" not in result.output


def test_a_fileset_that_fails_often_is_tried_with_back_off_and_says_when(wrong, server, follower):
    follower.mirror["retry_every_run"] = 2
    assert follower.update().code == 30
    assert follower.update().code == 30
    server.clear()
    result = follower.update()
    assert result.code == 30, "it is still missing"
    assert numbers(0, 1, left=1) in result.output
    assert not [request for request in server.requests if "wrong/" in request.target]
    record = follower.root / "state" / PRODUCT / "failed" / "wrong.json"
    content = json.loads(record.read_text())
    assert content["next_try"] in result.output
    pause = datetime.fromisoformat(content["next_try"]) - datetime.fromisoformat(content["last_failed"])
    assert timedelta(minutes=59) < pause < timedelta(minutes=61)
    past = datetime.now(UTC) - timedelta(seconds=1)
    record.write_text(
        json.dumps(content | {"next_try": past.isoformat(timespec="seconds").replace("+00:00", "Z")})
    )
    assert follower.update().code == 30
    assert [request for request in server.requests if "wrong/" in request.target]
    assert json.loads(record.read_text())["attempts"] == 3


@pytest.fixture
def dozen(upstream: Upstream) -> Upstream:
    for number in range(12):
        members = {"XY01": {f"n{number}.fits": bytes([number]) * 100}}
        upstream.add_bundles(PRODUCT, f"o1.chip.{number}.1.1", members)
    return upstream


def test_withdrawn_filesets_are_deleted_where_asked(dozen, follower):
    follower.mirror["on_removed"] = "delete"
    assert follower.update().code == 0
    dozen.withdraw(PRODUCT, "o1.chip.3.1.1")
    result = follower.update()
    assert result.code == 0, result.output
    assert "1 withdrawn fileset deleted" in result.output
    assert follower.content("store") == served_filesets(dozen)
    assert "gpc1/MD01/o1.XY01/n3.fits" not in follower.content("data")
    assert len(follower.content("data")) == 11
    for folder in ("state", "info"):
        assert not [path for path in follower.content(folder) if "o1.chip.3.1.1" in path]
    assert numbers() in follower.update().output


def test_never_more_than_the_set_share_is_deleted(dozen, follower):
    follower.mirror |= {"on_removed": "delete", "delete_at_most": 0.25}
    assert follower.update().code == 0
    before = follower.content("store")
    for number in range(4):
        dozen.withdraw(PRODUCT, f"o1.chip.{number}.1.1")
    dozen.add(PRODUCT, "later", [File("l.fits", b"l")])
    result = follower.update()
    assert result.code == 30
    assert "4 of 13 filesets are withdrawn" in result.output
    assert follower.content("store") == before | served_filesets(dozen)
    follower.mirror["delete_at_most"] = 0.5
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(dozen)


@pytest.mark.parametrize("body", [b"\n", b"# filesetID|time registered|type|\n\n"])
def test_a_listing_that_lost_its_rows_deletes_nothing(body, dozen, server, follower):
    from pipeline.sample import faults

    follower.mirror["on_removed"] = "delete"
    assert follower.update().code == 0
    before = {folder: follower.content(folder) for folder in ("store", "data")}
    server.faults.append(faults.says(body, target=f"{PRODUCT}/index.txt"))
    assert follower.update().code in {20, 30}
    assert {folder: follower.content(folder) for folder in before} == before
    server.faults.clear()
    assert follower.update().code == 0


def test_a_file_that_two_filesets_hold_is_the_later_ones(upstream, follower):
    same = "gpc1/MD01/o1.XY01/same.fits"
    follower.mirror["on_removed"] = "delete"
    for number in (1, 2):
        upstream.add_bundles(PRODUCT, f"o1.chip.{number}.1.1", {"XY01": {"same.fits": b"%d" % number}})
    assert follower.update("--workers", "8").code == 0
    assert follower.content("data") == {same: b"2"}
    marker = follower.root / "state" / PRODUCT / "extracted"
    records = [json.loads((marker / f"o1.chip.{number}.1.1.json").read_text()) for number in (1, 2)]
    assert {f"data/{same}": f"{PRODUCT}/o1.chip.2.1.1"} == records[0]["yields_to"] or {
        f"data/{same}": f"{PRODUCT}/o1.chip.1.1.1"
    } == records[1]["replaces"]
    assert command(follower, "verify").code == 0
    upstream.withdraw(PRODUCT, "o1.chip.2.1.1")
    assert follower.update().code == 0
    assert follower.update().code == 0
    assert follower.content("data") == {same: b"1"}


def test_a_file_that_its_later_owner_no_longer_brings_comes_back(upstream, follower):
    same = "gpc1/MD01/o1.XY01/same.fits"
    for number in (1, 2):
        upstream.add_bundles(PRODUCT, f"o1.chip.{number}.1.1", {"XY01": {"same.fits": b"%d" % number}})
    assert follower.update().code == 0
    assert follower.content("data") == {same: b"2"}
    upstream.add_bundles(PRODUCT, "o1.chip.2.1.1", {"XY01": {"other.fits": b"2"}})
    assert follower.update().code == 0
    assert follower.update().code == 0
    assert follower.content("data") == {same: b"1", "gpc1/MD01/o1.XY01/other.fits": b"2"}
    assert command(follower, "verify").code == 0


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_file_that_moves_from_one_fileset_to_another_is_not_lost(upstream, follower, tmp_path):
    """strace holds the removal from the one up, while the other is unpacked."""
    moving = "gpc1/MD01/o1.XY01/moving.fits"
    upstream.add_bundles(PRODUCT, "o1.chip.1.1.1", {"XY01": {"moving.fits": b"old", "stays.fits": b"s"}})
    assert follower.update().code == 0
    upstream.add_bundles(PRODUCT, "o1.chip.1.1.1", {"XY01": {"stays.fits": b"s"}})
    upstream.add_bundles(PRODUCT, "o1.chip.2.1.1", {"XY01": {"moving.fits": b"new"}})
    path = follower.root / "data" / moving
    slow = ["-P", str(path), "-e", "trace=unlink", "-e", "inject=unlink:delay_enter=3000000"]
    result = ended(["strace", "-f", "-qqq", "-o", "/dev/null", *slow, *follower.command("--workers", "8")])
    assert result.code == 0, result.output
    assert follower.content("data") == {moving: b"new", "gpc1/MD01/o1.XY01/stays.fits": b"s"}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_file_that_another_product_brings_while_its_owner_is_deleted_is_not_lost(
    upstream, server, follower, tmp_path
):
    """strace holds the removal up, while the other product's bundle comes and is unpacked."""
    moving = "gpc1/MD01/o1.XY01/moving.fits"
    follower.mirror["on_removed"] = "delete"
    for name in ("o1.chip.1.1.1", "o2.chip.1.1.1"):
        upstream.add_bundles(PRODUCT, name, {"XY01": {"moving.fits": b"old"}})
    assert follower.update().code == 0
    upstream.withdraw(PRODUCT, "o1.chip.1.1.1")
    upstream.add_bundles("other", "o1.warp.2.1.1", {"XY01": {"moving.fits": b"new"}})
    removing = tmp_path / "trace"
    event = Event()
    server.faults.append(gate(event, "other/*/*.tgz"))
    path = follower.root / "data" / moving
    slow = ["-P", str(path), "-e", "trace=unlink", "-e", "inject=unlink:delay_enter=3000000"]
    command = ["strace", "-f", "-qqq", "-o", str(removing), *slow, *follower.command("--workers", "8")]
    with started(command, tmp_path / "output") as update:
        until(lambda: removing.exists() and "unlink" in removing.read_text(), "nothing is deleted")
        event.set()
        result = update.wait()
    assert result.code == 0, result.output
    assert follower.content("data")[moving] == b"new"


def test_a_fileset_that_is_withdrawn_during_the_update_is_not_due(upstream, server, follower, tmp_path):
    upstream.add(PRODUCT, "stays", [File("s.fits", b"s")])
    upstream.add(PRODUCT, "goes", [File("g.fits", b"g")])
    upstream.add(PRODUCT, "newest", [File("n.fits", b"n")])
    event = Event()
    server.faults.append(gate(event, f"{PRODUCT}/goes/index.txt"))
    with started(follower.command(), tmp_path / "output") as update:
        until(lambda: any("goes/" in request.target for request in server.requests), "nothing is requested")
        upstream.withdraw(PRODUCT, "goes")
        event.set()
        result = update.wait()
    assert result.code == 0, result.output
    assert f"product {PRODUCT}: withdrawn upstream meanwhile: goes" in result.output
    assert numbers(3, 2, 2) in result.output


@pytest.mark.parametrize("first", [{"x": b"file"}, {"x/y": b"deeper"}])
def test_a_name_that_is_a_file_of_one_fileset_and_a_folder_of_another(first, upstream, follower):
    upstream.add_bundles(PRODUCT, "o1.chip.1.1.1", {"XY01": first})
    assert follower.update().code == 0
    second = {"a": b"a", "x/y" if "x" in first else "x": b"other"}
    upstream.add_bundles(PRODUCT, "o1.chip.2.1.1", {"XY01": second})
    result = follower.update()
    assert result.code == 30, result.output
    assert "o1.XY01/x" in result.output
    assert "expected" in result.output
    assert follower.content("data") == {f"gpc1/MD01/o1.XY01/{name}": body for name, body in first.items()}
    failed = json.loads((follower.root / "state" / PRODUCT / "failed" / "o1.chip.2.1.1.json").read_text())
    assert failed["faults"] == 1, "this machine is not to blame"


def test_an_earlier_fileset_that_comes_later_yields(upstream, follower):
    for number in (1, 2):
        upstream.add_bundles(
            PRODUCT, f"o1.chip.{number}.1.1", {"XY01": {"same.fits": b"%d" % number}}, filter="gr"[number - 1]
        )
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"filter": "r"}}]
    assert follower.update().code == 0
    follower.mirror["products"] = [PRODUCT]
    assert follower.update().code == 0
    assert follower.content("data") == {"gpc1/MD01/o1.XY01/same.fits": b"2"}
    assert command(follower, "verify").code == 0
