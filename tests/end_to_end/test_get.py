"""Filesets fetched by name, with and without a running update."""

import csv
import json
import os
import socket
from threading import Event

import pytest
from support.command import ipp_mirror
from support.running import Turnstile, gate, progress_of, started, until
from support.summary_line import numbers
from support.upstream import File, Upstream

from pipeline.mirror.resources.update_lock import record_products, update_lock
from pipeline.mirror.state.layout import Layout

PRODUCT = "md"
NOTHING = {"name": PRODUCT, "select": {"stage": "none"}}


@pytest.fixture
def publisher(upstream: Upstream) -> Upstream:
    for number in range(20):
        upstream.add(PRODUCT, f"o1.chip.{number}", [File("a.fits", b"%d" % number)])
    return upstream


def get(follower, *names: str):
    return ipp_mirror("get", "--config", follower.config, PRODUCT, *names)


def fetched(server) -> list[str]:
    """The filesets in the order in which their files were requested."""
    targets = [request.target for request in server.requests]
    return [target.split("/")[3] for target in targets if target.endswith(".fits")]


def test_named_filesets_are_fetched_whatever_is_selected_and_kept(publisher, server, follower):
    follower.mirror["products"] = [NOTHING]
    got = get(follower, "o1.chip.1[67]", "o1.chip.3")
    assert got.returncode == 0, got.stderr
    names = {"o1.chip.3", "o1.chip.16", "o1.chip.17"}
    assert numbers(20, 3, 3).replace("selected", "wanted") in got.stdout + got.stderr
    assert follower.marked("extracted", PRODUCT) == follower.marked("wanted", PRODUCT) == names
    stored = follower.root / "store" / PRODUCT
    assert got.stdout.splitlines()[1:-1] == [
        f"{PRODUCT}/{name}: fetched: 1 file, {len(name) - 8} byte{'s' * (len(name) > 9)}, in {stored / name}"
        for name in sorted(names)
    ]
    quiet = get(follower, "--quiet", "o1.chip.3")
    assert (quiet.returncode, quiet.stdout + quiet.stderr) == (0, "")
    # Lost, they are pending again; registered again, too.
    follower.root.joinpath("state", PRODUCT, "downloaded", "o1.chip.3.json").unlink()
    publisher.add(PRODUCT, "o1.chip.16", [File("a.fits", b"again")])
    server.clear()
    assert follower.update().code == 0
    assert fetched(server) == ["o1.chip.16"]
    assert follower.marked("extracted", PRODUCT) == follower.marked("downloaded", PRODUCT) == names


def test_an_unknown_name_is_answered_with_the_nearest_ones(publisher, server, follower):
    follower.mirror["products"] = [NOTHING]
    got = get(follower, "o1.chip.3", "o1.ship.12")
    assert got.returncode == 40
    said = "product md: expected a name of its listing of 20 filesets, got 'o1.ship.12'. Did you mean "
    assert f"{said}'o1.chip.12'," in got.stdout + got.stderr
    assert fetched(server) == []
    other = ipp_mirror("get", "--config", follower.config, "other", "o1")
    assert (other.returncode, fetched(server)) == (40, [])
    assert "expected a product of this mirror (md), got 'other'." in other.stderr


def test_a_fileset_that_fails_or_is_skipped_is_counted(publisher, server, follower):
    follower.mirror |= {"products": [NOTHING], "retry_every_run": 1}
    publisher.add(PRODUCT, "bad", [File("a.fits", b"a", listed={"md5": "0" * 32})])
    got = get(follower, "bad")
    assert got.returncode == 30
    assert "1 wanted: 0 extracted, 1 failed, 0 skipped, 0 left" in got.stdout
    assert f"\n{PRODUCT}/bad: failed, for the reason above\n" in got.stdout
    record = json.loads((follower.root / "state" / PRODUCT / "failed" / "bad.json").read_bytes())
    said = f" It is tried again from {record['next_try']} on."
    assert record["files"][0]["reason"].endswith(said)
    assert said in got.stdout + got.stderr
    assert "The next run tries again" not in got.stdout + got.stderr
    ipp_mirror("skip", "--config", follower.config, PRODUCT, "bad", "--reason", "wrong md5")
    got = get(follower, "bad")
    assert "1 wanted: 0 extracted, 0 failed, 1 skipped, 0 left" in got.stdout
    said = f"{PRODUCT}/bad: not fetched, as it is skipped since 2"
    assert (got.returncode, got.stderr.startswith(said)) == (30, True), got.stderr
    # Also where another run is to fetch what is asked for.
    with update_lock(Layout(follower.root)):
        got = get(follower, "--quiet", "bad")
    assert (got.returncode, got.stdout, got.stderr.startswith(said)) == (30, "", True)


def test_a_running_update_takes_them_first_and_counts_each_once(publisher, server, follower):
    for number in range(20):
        publisher.add(PRODUCT, f"left.out.{number}", [File("a.fits", b"%d" % number)], stage="raw")
    follower.source["connections"] = 2
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"stage": "chip"}}]
    files = Turnstile()
    server.faults.append(files.fault(f"{PRODUCT}/*/*.fits"))
    with started(follower.command(), follower.folder / "log") as update:
        until(lambda: files.waiting, "a fileset begins")
        got = get(follower, "left.out.7", "o1.chip.19")
        assert (got.returncode, got.stderr) == (0, "")
        run = f"run at work (process {update.pid} on {socket.gethostname()})"
        by = f"the {run} before all others; if it ends before that, by the next update.\n"
        assert got.stdout == f"2 filesets of md wanted, to be fetched by {by}"
        log = follower.root / "log" / "update_mirror.log"
        until(lambda: "wanted, and fetched first: " in log.read_text(), "the update has seen them")
        # With the next place that is free, their task begins.
        files.free = 1
        until(lambda: progress_of(follower).get("filesets") == 21, "the update has submitted them")
        files.open()
        assert update.wait().code == 0
        assert numbers(40, 21, 21) in update.output
    order = fetched(server)
    assert len(order) == 21
    assert {"left.out.7", "o1.chip.19"} <= set(order[:8])
    assert follower.marked("extracted", PRODUCT) == {f"o1.chip.{n}" for n in range(20)} | {"left.out.7"}
    history = (follower.root / "status" / "history.csv").read_text().splitlines()
    assert len(history) == 2
    marker = json.loads((follower.root / "state" / PRODUCT / "wanted" / "left.out.7.json").read_bytes())
    assert marker.keys() == {"schema", "product", "fileset", "since", "by"}


def test_numbers_of_an_update_of_which_filesets_are_asked_for(publisher, server, follower):
    """One that it does not select, one that it would fetch, one skipped, one delayed, and one that fails.

    The first of them is in progress when the product is done, of which another fileset has failed.
    """
    follower.source["connections"] = 2
    follower.mirror |= {"products": [{"name": PRODUCT, "select": {"stage": "chip"}}], "retry_every_run": 1}
    right, wrong = File("a.fits", b"a"), File("a.fits", b"a", listed={"md5": "0" * 32})
    for name in ("delayed", "skipped"):
        publisher.add(PRODUCT, name, [wrong])
    assert follower.update().code == 30
    assert (
        ipp_mirror("skip", "--config", follower.config, PRODUCT, "skipped", "--reason", "x").returncode == 0
    )
    for name, files in {"o2.chip.1": [right], "o2.chip.2": [right], "wrong": [wrong]}.items():
        publisher.add(PRODUCT, name, files)
    publisher.add(PRODUCT, "left.out", [right, File("b.fits", b"b")], stage="raw")
    publisher.add(PRODUCT, "bad", [wrong], stage="raw")
    correct = publisher.path(PRODUCT, "o2.chip.1", "index.txt").read_bytes()
    publisher.path(PRODUCT, "delayed", "index.txt").write_bytes(correct)
    begun, gone_through = Event(), Event()
    server.faults.append(gate(begun, f"{PRODUCT}/*/a.fits"))
    server.faults.append(gate(gone_through, f"{PRODUCT}/left.out/b.fits"))
    server.clear()
    marker = Layout(follower.root).updated(PRODUCT)
    before = marker.read_bytes()
    with started(follower.command(), follower.folder / "log") as update:
        until(lambda: fetched(server), "a fileset begins")
        assert get(follower, "left.out", "o2.chip.2", "skipped", "delayed", "bad").returncode == 30
        until(lambda: progress_of(follower).get("filesets") == 6, "the progress has not six filesets")
        begun.set()
        until(lambda: marker.read_bytes() != before, "the product is not gone through")
        gone_through.set()
        ended = update.wait()
    assert ended.code == 30
    assert numbers(5, 7, 4, 2, 1) in ended.output
    assert {"left.out", "o2.chip.2", "delayed"} < follower.marked("extracted", PRODUCT)
    assert follower.marked("failed", PRODUCT) == {"wrong", "bad"}
    history = follower.root.joinpath("status", "history.csv").read_text().splitlines()
    row = list(csv.DictReader(history))[-1]
    assert (row["filesets"], row["failures"], row["left"]) == ("4", "2", "2")


def test_one_that_fails_after_its_product_is_done_is_counted_once(publisher, server, follower):
    """Pending filesets are looked for once more while it is in progress."""
    follower.source["connections"] = 2
    follower.mirror |= {"products": [{"name": PRODUCT, "select": {"stage": "chip"}}]}
    assert follower.update().code == 0
    right, wrong = File("a.fits", b"a"), File("a.fits", b"a", listed={"md5": "0" * 32})
    for name, file, stage in (("o2.chip.1", right, "chip"), ("bad", wrong, "raw"), ("late", right, "raw")):
        publisher.add(PRODUCT, name, [file], stage=stage)
    begun, gone_through = Event(), Event()
    server.faults.append(gate(begun, f"{PRODUCT}/o2*/a.fits"))
    server.faults.append(gate(gone_through, f"{PRODUCT}/bad/a.fits"))
    server.clear()
    marker = Layout(follower.root).updated(PRODUCT)
    before = marker.read_bytes()
    with started(follower.command(), follower.folder / "log") as update:
        until(lambda: fetched(server), "a fileset begins")
        assert get(follower, "bad").returncode == 0
        until(lambda: "bad" in fetched(server), "the bad one begins")
        begun.set()
        until(lambda: marker.read_bytes() != before, "the product is gone through")
        # The update sees that after it has looked once more.
        assert get(follower, "late").returncode == 0
        until(lambda: "late" in follower.marked("extracted", PRODUCT), "the late one is here")
        gone_through.set()
        ended = update.wait()
    assert ended.code == 30
    assert numbers(3, 3, 2, 1) in ended.output


def test_who_fetches_what_is_asked_for_while_a_run_works(publisher, follower):
    layout = Layout(follower.root)
    follower.mirror["products"] = [NOTHING]
    assert get(follower, "o1.chip.1").returncode == 0
    run, stored = f"process {os.getpid()} on {socket.gethostname()}", follower.root / "store"
    with update_lock(layout):
        for products, said in (
            (
                None,
                f"run at work ({run}, which has just started) if it is an update, else by the next one.",
            ),
            (["other"], f"next update, as the run at work ({run}) fetches nothing of this product."),
            (
                [PRODUCT, "other"],
                f"run at work ({run}) before all others; if it ends before that, by the",
            ),
        ):
            if products is not None:
                record_products(layout, products)
            here, wanted = get(follower, "o1.chip.1", "o1.chip.2").stdout.splitlines()
            assert wanted.startswith(f"1 fileset of {PRODUCT} wanted, to be fetched by the {said}")
        assert here == f"{PRODUCT}/o1.chip.1: here already: 1 file, 1 byte, in {stored}/md/o1.chip.1"


def test_what_is_asked_for_while_the_server_is_down_is_left_to_the_next_update(publisher, server, follower):
    follower.mirror["products"] = [NOTHING]
    assert follower.update().code == 0
    server.stop()
    got = get(follower, "o1.chip.1")
    assert got.returncode == 20
    assert got.stdout.endswith("1 fileset of md wanted, to be fetched by the next update with a server.\n")
    server.start()
    assert follower.update().code == 0
    assert follower.marked("extracted", PRODUCT) == {"o1.chip.1"}


def test_a_running_adoption_takes_them_too(publisher, server, follower, tmp_path):
    earlier = tmp_path / "earlier" / PRODUCT / "o1.chip.3"
    earlier.mkdir(parents=True)
    publisher.add(PRODUCT, "left.out.7", [File("a.fits", b"7")], stage="raw")
    # Not selected, so that the adoption leaves it there.
    left = tmp_path / "earlier" / PRODUCT / "left.out.7"
    left.mkdir()
    (left / "a.fits").write_bytes(publisher.path(PRODUCT, "left.out.7", "a.fits").read_bytes())
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"stage": "chip"}}]
    begun = Event()
    server.faults.extend([gate(begun, f"{PRODUCT}/o1.chip.3/*.fits")])
    command = [each.replace("UpdateMirror", "AdoptMirror") for each in follower.command()]
    with started([*command, "--folder", str(earlier.parents[1])], follower.folder / "log") as adoption:
        until(lambda: fetched(server), "the fileset of the folder begins")
        got = get(follower, "o1.chip.7", "left.out.7")
        assert (got.returncode, got.stderr) == (0, "")
        asked_for = {"o1.chip.7", "left.out.7"}
        until(lambda: follower.marked("extracted", PRODUCT) == asked_for, "they are here")
        begun.set()
        assert adoption.wait().code == 0, adoption.output
    assert follower.marked("extracted", PRODUCT) == {"o1.chip.3", *asked_for}
    assert "left.out.7" not in fetched(server), "it lies in the folder"


def test_what_is_forgotten_is_as_the_settings_say(publisher, server, follower):
    """Files that are here stay; those lost, or registered again, are not fetched."""
    follower.mirror["products"] = [NOTHING]
    assert get(follower, "o1.chip.3", "o1.chip.16", "o1.chip.17").returncode == 0
    forgotten = get(follower, "--forget", "o1.chip.1*", "o1.chip.9")
    assert (forgotten.returncode, forgotten.stdout) == (
        0,
        "2 filesets of md forgotten: the settings decide.\n",
    )
    assert follower.marked("wanted", PRODUCT) == {"o1.chip.3"}
    publisher.add(PRODUCT, "o1.chip.16", [File("a.fits", b"again")])
    server.clear()
    assert follower.update().code == 0
    assert fetched(server) == []
    assert follower.content("store")[f"{PRODUCT}/o1.chip.17/a.fits"] == b"17"
    again = get(follower, "--forget", "o1.chip.1*")
    assert (again.returncode, again.stdout) == (0, "no wanted fileset of md matches. Nothing was changed.\n")
