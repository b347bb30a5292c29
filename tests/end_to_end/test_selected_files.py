"""Filesets of which the settings choose some files, and some members of bundles."""

import json
import shutil

import pytest
from support.command import ipp_mirror
from support.kills import Instant, killed_at
from support.running import leftovers, served_on
from support.summary_line import numbers
from support.upstream import Upstream, served_filesets

from pipeline.mirror.resources.update_lock import update_lock
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.pause import pause, resume

PRODUCT, FILESET = "md", "o1.camera.1"
BUNDLES = {
    "exposure": {"o1.smf": b"catalogue", "o1.log": b"log"},
    "XY01": {"o1.XY01.ch.fits": b"F" * 9000, "o1.XY01.cmf": b"detections"},
}
CATALOGUE = "gpc1/MD01/o1.exposure/o1.smf"


@pytest.fixture
def publisher(upstream: Upstream) -> Upstream:
    upstream.add_bundles(PRODUCT, FILESET, BUNDLES)
    return upstream


def choose(follower, **patterns) -> None:
    follower.mirror["products"] = [{"name": PRODUCT, **patterns}]


def stored(follower) -> set[str]:
    return {path.split("/")[-1] for path in follower.content("store")}


def fetched(server) -> list[str]:
    targets = [request.target for request in server.requests]
    return [target.split("/")[-1] for target in targets if "index.txt" not in target]


def marker(follower, kind: str) -> dict:
    return json.loads((follower.root / "state" / PRODUCT / kind / f"{FILESET}.json").read_bytes())


def run(follower, *command: str):
    return ipp_mirror(*command, "--config", follower.config)


def test_what_is_chosen_arrives_is_sound_and_says_what_is_left_out(publisher, server, follower):
    choose(follower, components="exposure", members=["*.smf", "*.cmf"])
    assert follower.update().code == 0
    assert stored(follower) == {"index.txt", f"dirinfo.{FILESET}.mdc", f"{FILESET}.exposure.tgz"}
    assert follower.content("data") == {CATALOGUE: b"catalogue"}
    bundle = publisher.path(PRODUCT, FILESET, f"{FILESET}.XY01.tgz")
    partial = marker(follower, "partial")
    assert {key: partial[key] for key in ("components", "members", "left_out", "left_out_bytes")} == {
        "components": ["exposure"],
        "members": ["*.smf", "*.cmf"],
        "left_out": 1,
        "left_out_bytes": bundle.stat().st_size,
    }
    assert marker(follower, "extracted")["members"] == ["*.smf", "*.cmf"]
    verified = run(follower, "verify")
    assert (verified.returncode, "1 sound" in verified.stdout) == (0, True)
    assert run(follower, "verify", "--upstream").returncode == 0
    status = json.loads(run(follower, "status", "--json").stdout)
    assert status["products"][0]["filesets"]["partial"] == 1
    shown = " ".join(run(follower, "status").stdout.split())
    assert "1 whole as selected, without some files or members" in shown
    assert served_on(follower.root, PRODUCT) == set()
    server.clear()
    assert numbers() in follower.update().output
    assert fetched(server) == []


def test_widening_fetches_the_rest_and_narrowing_removes_nothing(publisher, server, follower):
    choose(follower, files="*.exposure.tgz", members="*.smf")
    assert follower.update().code == 0
    server.clear()
    choose(follower, files="*.exposure.tgz", members="*.log")
    assert numbers(0, 1, 1) in follower.update().output
    assert fetched(server) == []
    both = {CATALOGUE: b"catalogue", "gpc1/MD01/o1.exposure/o1.log": b"log"}
    assert follower.content("data") == both
    choose(follower)
    plan = json.loads(run(follower, "plan", "--json").stdout)["products"][0]
    rest = publisher.path(PRODUCT, FILESET, f"{FILESET}.XY01.tgz")
    assert (plan["due"], plan["to_fetch"], plan["files"], plan["bytes"]) == (1, 1, 1, rest.stat().st_size)
    server.clear()
    assert numbers(0, 1, 1) in follower.update().output
    assert fetched(server) == [rest.name]
    whole = both | {f"gpc1/MD01/o1.XY01/{name}": content for name, content in BUNDLES["XY01"].items()}
    assert follower.content("data") == whole
    assert follower.content("store") == served_filesets(publisher)
    assert follower.marked("partial", PRODUCT) == set()
    assert served_on(follower.root, PRODUCT) == {FILESET}
    choose(follower, components="none", members="none")
    server.clear()
    assert numbers() in follower.update().output
    assert (fetched(server), follower.content("data")) == ([], whole)


def test_without_any_bundle_the_documents_are_localized(publisher, server, follower):
    choose(follower, components="none")
    output = follower.update().output
    assert numbers(1, 1, 1) in output
    assert "match no file of what this run completed (1 fileset), only documents came" in output
    assert fetched(server) == [f"dirinfo.{FILESET}.mdc"]
    (document,) = follower.content("info").values()
    assert str(follower.root / "data").encode() in document


def test_a_damaged_file_of_those_that_are_chosen_is_repaired(publisher, server, follower):
    choose(follower, components="exposure")
    assert follower.update().code == 0
    (follower.root / "store" / PRODUCT / FILESET / f"{FILESET}.exposure.tgz").write_bytes(b"damaged")
    server.clear()
    repaired = run(follower, "verify", "--repair")
    assert (repaired.returncode, fetched(server)) == (0, [f"{FILESET}.exposure.tgz"])
    assert follower.marked("partial", PRODUCT) == {FILESET}


@pytest.mark.parametrize("damaged", ["o1.smf", "o1.log"])
def test_a_repair_after_narrowing_repairs_what_was_chosen_before(damaged, publisher, server, follower):
    choose(follower)
    assert follower.update().code == 0
    whole = follower.content("data")
    choose(follower, members="*.smf")
    assert follower.update().code == 0
    (follower.root / "data/gpc1/MD01/o1.exposure" / damaged).write_bytes(b"damaged")
    repaired = run(follower, "verify", "--repair")
    assert (repaired.returncode, "1 repaired, 0 with problems" in repaired.stdout) == (0, True), (
        repaired.stderr
    )
    assert follower.content("data") == whole


INSTANTS = {
    "the download is forgotten": Instant("unlink", f"state/{PRODUCT}/downloaded/{FILESET}.json"),
    "nothing is left out any more": Instant("unlink", f"state/{PRODUCT}/partial/{FILESET}.json"),
}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    "name",
    [pytest.param("the download is forgotten", marks=pytest.mark.long), "nothing is left out any more"],
)
def test_killed_while_a_fileset_is_completed_just_when(name, publisher, server, follower, tmp_path):
    choose(follower, files="*.exposure.tgz", members="*.smf")
    assert follower.update().code == 0
    choose(follower)
    killed_at(INSTANTS[name], follower, tmp_path / "log")
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(publisher)
    assert len(follower.content("data")) == 4
    assert follower.marked("partial", PRODUCT) == set()
    assert leftovers(follower.root) == []


def test_what_is_not_selected_or_withdrawn_stays_whole_until_it_is_selected(publisher, server, follower):
    publisher.add_bundles(PRODUCT, "o2.camera.2", BUNDLES)
    choose(follower, components="exposure")
    assert follower.update().code == 0
    server.clear()
    publisher.withdraw(PRODUCT, "o2.camera.2")
    choose(follower, select=[{"stage": "stack"}, {"filesetID": "o2.*"}])
    follower.mirror["on_removed"] = "keep"
    assert numbers() in follower.update().output
    assert follower.marked("extracted", PRODUCT) == {FILESET, "o2.camera.2"}
    assert run(follower, "verify").returncode == 0
    counts = json.loads(run(follower, "status", "--json").stdout)["products"][0]["filesets"]
    assert (counts["complete"], counts["selected"], counts["left"]) == (2, 0, 0)
    choose(follower)
    planned = json.loads(run(follower, "plan", "--json").stdout)["products"][0]
    assert (planned["due"], planned["files"]) == (1, 1)
    assert numbers(0, 1, 1) in follower.update().output
    assert fetched(server) == [f"{FILESET}.XY01.tgz"]
    assert follower.marked("partial", PRODUCT) == {"o2.camera.2"}


def test_get_completes_what_the_settings_choose_more_than_is_here(publisher, server, follower):
    """Also while a run works, and without a server: what is here is not fetched or unpacked for nothing."""
    choose(follower, components="exposure", members="*.smf")
    assert follower.update().code == 0
    get = ("get", PRODUCT, FILESET)
    assert f"{FILESET}: here already: " in run(follower, *get).stdout
    choose(follower, components="exposure")
    layout = Layout(follower.root)
    with update_lock(layout):
        assert run(follower, *get).stdout.startswith(
            f"1 fileset of {PRODUCT} wanted, to be fetched by the run"
        )
    assert pause(layout, reason="", by="me")
    layout.marker("wanted", PRODUCT, FILESET).unlink()
    paused = run(follower, *get, "other")
    assert paused.returncode == 10
    [*_, wanted] = paused.stdout.splitlines()
    assert (
        wanted
        == f"1 fileset of {PRODUCT} wanted, to be fetched by the next update after `ipp-mirror resume`."
    )
    assert f"product {PRODUCT}: expected a name of its listing of 1 fileset, got 'other'." in paused.stderr
    assert resume(layout)
    server.clear()
    unpacked = run(follower, *get).stdout
    assert f"{FILESET}: completed from what was here: " in unpacked
    assert (fetched(server), "nothing fetched in" in unpacked) == ([], True)
    choose(follower)
    whole = run(follower, *get).stdout
    assert (f"{FILESET}: fetched: " in whole, fetched(server)) == (True, [f"{FILESET}.XY01.tgz"])
    assert follower.marked("partial", PRODUCT) == set()
    assert len(follower.content("data")) == sum(map(len, BUNDLES.values()))
