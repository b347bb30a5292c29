"""Filesets that are kept for some time only."""

import json

from support.command import ipp_mirror
from support.summary_line import numbers
from support.upstream import File

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker

PRODUCT = "stamps"
# The filesets of the tests were registered in 2009.
LONG, SHORT = "5000 weeks", "30 days"


def keep(follower, time: str) -> None:
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"keep": time}}]


def publish(upstream, number: int) -> None:
    upstream.add_bundles(PRODUCT, f"f{number}", {"XY01": {f"{number}.fits": b"%d" % number}})


def test_what_is_too_old_is_deleted_and_does_not_come_back(upstream, server, follower):
    for number in range(4):
        publish(upstream, number)
    keep(follower, LONG)
    assert numbers(4, 4, 4) in follower.update().output
    assert ipp_mirror("get", "--config", follower.config, PRODUCT, "f2").returncode == 0
    keep(follower, SHORT)
    shown = ipp_mirror("plan", "--config", follower.config).stdout
    assert "to delete: 3 filesets of stamps, older than keep in the settings" in shown
    # As a run leaves it that is killed while it deletes.
    mark = follower.root / "state" / PRODUCT / "expired" / "f0.json"
    mark.parent.mkdir()
    mark.write_text(json.dumps({"schema": 1, "registered": "2009-07-29T00:00:01Z"}))
    assert "3 expired filesets deleted" in follower.update().output + log(follower)
    assert follower.marked("downloaded", PRODUCT) == follower.marked("extracted", PRODUCT) == {"f2"}
    assert list(follower.content("data")) == ["gpc1/MD01/f2.XY01/2.fits"]
    assert {path.split("/")[1] for path in follower.content("store")} == {"f2"}
    status = json.loads(ipp_mirror("status", "--json", "--config", follower.config).stdout)
    counts = status["products"][0]["filesets"]
    assert (counts["known"], counts["selected"], counts["left"], counts["expired"]) == (4, 1, 0, 3)

    keep(follower, LONG)
    plan = json.loads(ipp_mirror("plan", "--json", "--config", follower.config).stdout)
    assert plan["products"][0]["due"] == 0
    server.clear()
    assert numbers() in follower.update().output
    assert not [request for request in server.requests if "index.txt" not in request.target]
    publish(upstream, 1)
    assert ipp_mirror("get", "--config", follower.config, PRODUCT, "f0").returncode == 0
    assert follower.update().code == 0
    assert follower.marked("extracted", PRODUCT) == {"f0", "f1", "f2"}
    assert follower.marked("expired", PRODUCT) == {"f3"}


def test_what_is_too_old_is_deleted_by_an_update_that_finds_no_disk_space(upstream, server, follower):
    """Else every update would end as this one does."""
    upstream.add(PRODUCT, "old", [File("a.fits", b"a")], stage="raw")
    new = {"stage": "chip"}
    follower.mirror["products"] = [{"name": PRODUCT, "select": [{"stage": "raw", "keep": LONG}, new]}]
    assert follower.update().code == 0
    for number in range(12):
        upstream.add(PRODUCT, f"new.{number}", [File("a.fits", b"a")])
    follower.mirror["products"] = [{"name": PRODUCT, "select": [{"stage": "raw", "keep": SHORT}, new]}]
    follower.mirror["min_free"] = "1000 TB"
    result = follower.update()
    assert result.code == 30, result.output
    assert "no disk space for 10 filesets in a row" in result.output
    assert "1 expired fileset deleted" in result.output
    assert follower.marked("expired", PRODUCT) == {"old"}
    assert follower.content("store") == {}


def test_an_expired_fileset_of_which_a_killed_run_left_files_goes_though_more_of_it_is_chosen(
    upstream, follower
):
    upstream.add(PRODUCT, "old", [File("a.fits", b"a"), File("b.txt", b"b")])
    product = {"name": PRODUCT, "select": {"keep": LONG}}
    follower.mirror["products"] = [product | {"files": "*.fits"}]
    assert follower.update().code == 0
    expired = Layout(follower.root).marker(MarkerKind.EXPIRED, PRODUCT, "old")
    write_marker(expired, {"product": PRODUCT, "fileset": "old", "registered": "2009-07-29T00:00:01Z"})
    follower.mirror["products"] = [product]
    assert "1 expired fileset deleted" in follower.update().output + log(follower)
    assert follower.content("store") == {}


def log(follower) -> str:
    return (follower.root / "log" / "update_mirror.log").read_text()


def test_an_update_begins_after_the_fileset_that_is_named(upstream, server, follower):
    for number in range(4):
        upstream.add(PRODUCT, f"f{number}", [File("a.fits", b"a")])
    follower.mirror["products"] = [{"name": PRODUCT, "begin_after": "f1"}]
    assert numbers(4, 2, 2) in follower.update().output
    assert follower.marked("downloaded", PRODUCT) == {"f2", "f3"}
    shown = json.loads(ipp_mirror("status", "--json", "--config", follower.config).stdout)
    assert shown["products"][0]["filesets"]["selected"] == 2
    follower.mirror["products"] = [{"name": PRODUCT, "begin_after": "nothing"}]
    refused = follower.update()
    assert refused.code == 40
    assert (
        "product stamps: begin_after: expected a fileset of its listing, got nothing. Correct"
        in refused.output
    )
