"""The whole job, as a person sees it: the luigi command, the trees that result, the exit codes."""

import csv
import json
import sys

import pytest
from support.command import ended
from support.follower import Follower
from support.summary_line import NOTHING, numbers
from support.upstream import File, Upstream, served_filesets

from pipeline.sample import faults
from pipeline.sample.simulator import Simulator, simulate

PRODUCT = "md-all-rel-200907"


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    """Three filesets: two with bundles, which share a folder, and one of plain files."""
    upstream.add_bundles(
        PRODUCT,
        "o1.chip.1.1.1",
        {
            "XY01": {"a.fits": b"A" * 5000, "deep/b.fits": b"B" * 10},
            "XY02": {"c.fits": b"C" * 3_000_000},
        },
    )
    upstream.add_bundles(PRODUCT, "o1.chip.2.2.1", {"XY01": {"second.fits": b"2" * 100}}, stage="warp")
    upstream.add(
        PRODUCT, "plain", [File("t.fits", b"T" * 70), File("note.txt", b"N" * 7, "text")], type="table"
    )
    return upstream


DATA = {
    "gpc1/MD01/o1.XY01/a.fits": b"A" * 5000,
    "gpc1/MD01/o1.XY01/deep/b.fits": b"B" * 10,
    "gpc1/MD01/o1.XY02/c.fits": b"C" * 3_000_000,
    "gpc1/MD01/o1.XY01/second.fits": b"2" * 100,
}


def file_requests(server: Simulator) -> list[str]:
    return [request.target for request in server.requests if "index.txt" not in request.target]


def test_a_first_update_brings_everything_and_a_second_asks_for_listings_only(release, server, follower):
    first = follower.update()
    assert first.code == 0, first.output
    assert numbers(3, 3, 3) in first.output
    assert follower.content("store") == served_filesets(release)
    assert follower.content("data") == DATA
    assert follower.content("incoming") == {}
    every = {"o1.chip.1.1.1", "o1.chip.2.2.1", "plain"}
    assert follower.marked("downloaded", PRODUCT) == follower.marked("extracted", PRODUCT) == every
    assert follower.marked("failed", PRODUCT) == set()

    server.clear()
    second = follower.update()
    assert second.code == 0, second.output
    assert numbers() + "; nothing fetched" in second.output
    assert [request.target for request in server.requests] == [
        "/ds/index.txt",
        f"/ds/{PRODUCT}/index.txt?o1.chip.2.2.1",
    ]


def test_appended_filesets_arrive_and_nothing_is_fetched_again(release, server, follower):
    assert follower.update().code == 0
    server.clear()
    release.add(PRODUCT, "later", [File("new.fits", b"new")])
    assert follower.update().code == 0
    assert file_requests(server) == [f"/ds/{PRODUCT}/later/new.fits"]
    assert follower.content("store") == served_filesets(release)


def test_a_fileset_registered_again_replaces_the_old_copy(release, server, follower):
    assert follower.update().code == 0
    release.add_bundles(PRODUCT, "o1.chip.1.1.1", {"XY01": {"a.fits": b"new", "deep/b.fits": b"B" * 10}})
    server.clear()
    result = follower.update()
    assert result.code == 0, result.output
    assert follower.content("store") == served_filesets(release)
    assert follower.content("data") == {
        "gpc1/MD01/o1.XY01/a.fits": b"new",
        "gpc1/MD01/o1.XY01/deep/b.fits": b"B" * 10,
        "gpc1/MD01/o1.XY01/second.fits": b"2" * 100,
    }
    assert not any("o1.chip.2.2.1/" in target for target in file_requests(server))
    assert follower.update().output.count(numbers()) == 1


def test_registering_the_newest_again_is_noticed(release, follower):
    assert follower.update().code == 0
    release.add(PRODUCT, "plain", [File("t.fits", b"changed")], type="table")
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(release)


def test_unchanged_files_of_a_fileset_registered_again_are_not_fetched(release, server, follower):
    assert follower.update().code == 0
    server.clear()
    release.add(PRODUCT, "plain", [File("t.fits", b"T" * 70), File("more.fits", b"M")], type="table")
    assert follower.update().code == 0
    assert file_requests(server) == [f"/ds/{PRODUCT}/plain/more.fits"]
    assert follower.content("store") == served_filesets(release)


BROKEN_LISTINGS = {
    "database down": lambda: faults.database_down(),
    "broken include": lambda: faults.broken_include(),
    "login page": lambda: faults.login_page(),
    "empty body": lambda: faults.empty_body(),
    "404": lambda: faults.fails(404),
    "500": lambda: faults.fails(500),
    "503": lambda: faults.fails(503, retry_after="0"),
    "cut off in the middle": lambda: faults.hangs_up(after=40, target="listings"),
    "row cut": lambda: faults.cuts_row(),
    "redirect loop": lambda: faults.redirects(),
    "another host": lambda: faults.redirects("http://127.0.0.2:9/ds/index.txt"),
}


def test_a_server_that_cannot_be_asked_changes_nothing(release, server, follower):
    follower.mirror["products"] = [PRODUCT]
    assert follower.update().code == 0
    release.add(PRODUCT, "later", [File("new.fits", b"new")])
    before = {folder: follower.content(folder) for folder in ("store", "data", "info", "state", "incoming")}
    for name, fault in BROKEN_LISTINGS.items():
        server.faults[:] = [fault()]
        result = follower.update()
        assert result.code == 20, (name, result.output)
        assert "Traceback" not in result.output, name
        assert server.url in result.output, name
        after = {folder: follower.content(folder) for folder in before}
        assert b'"kind": "network"' in after["state"].pop(f"{PRODUCT}/listing_failure.json"), name
        assert after == before, name
    server.faults.clear()
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(release)


def test_a_server_that_is_not_there(release, server, follower):
    server.stop()
    result = follower.update()
    assert result.code == 20
    summary, cause = result.output.splitlines()
    assert "connection refused by 127.0.0.1" in cause
    assert summary.startswith("filesets: none tried; nothing fetched in ")
    assert cause in (follower.root / "log" / "update_mirror.log").read_text()
    server.start()


@pytest.mark.parametrize("newest", ["plain", "o1.chip.2.2.1"])
def test_what_was_withdrawn_stays_and_what_is_new_arrives(newest, release, follower):
    assert follower.update().code == 0
    kept = follower.content("store")
    release.withdraw(PRODUCT, newest)
    release.add(PRODUCT, "later", [File("new.fits", b"new")])
    result = follower.update()
    assert result.code == 0, result.output
    assert follower.content("store") == kept | served_filesets(release)
    release.add(PRODUCT, "latest", [File("newer.fits", b"newer")])
    assert follower.update().code == 0
    assert follower.content("store") == kept | served_filesets(release)
    assert follower.marked("withdrawn", PRODUCT) == {newest}


@pytest.mark.parametrize(
    ("name", "fetched", "others"),
    [
        ("o1.chip.1.1.1", True, 0),
        ("o1.chip.1.1.1", False, 1),
        # The newest one.
        ("plain", True, 0),
        ("plain", True, 1),
        ("plain", False, 0),
    ],
)
def test_what_was_withdrawn_and_is_registered_again_arrives(name, fetched, others, release, server, follower):
    if not fetched:
        server.faults.append(faults.fails(404, target=f"{PRODUCT}/{name}/*"))
    assert follower.update().code == (0 if fetched else 30)
    server.faults.clear()
    release.withdraw(PRODUCT, name)
    for number in range(others):
        release.add(PRODUCT, f"other{number}", [File("new.fits", b"new")])
    assert follower.update().code == 0
    if name == "plain" or not fetched:
        assert follower.marked("withdrawn", PRODUCT) == {name}
    release.add(PRODUCT, name, [File("again.fits", b"again")])
    result = follower.update()
    assert result.code == 0, result.output
    assert numbers(1, 1, 1) in result.output
    assert follower.content("store") == served_filesets(release)
    assert follower.marked("withdrawn", PRODUCT) == set()


def test_what_a_whole_list_lacked_once_is_found_again_after_a_week(release, server, follower):
    release.add(PRODUCT, "last", [File("l.fits", b"L")])
    lost = faults.edits(
        lambda body: b"".join(line for line in body.splitlines(True) if b"chip.2.2.1|" not in line),
        target=f"{PRODUCT}/index.txt",
    )
    server.faults.append(lost)
    assert follower.update().code == 0
    assert follower.marked("downloaded", PRODUCT) == {"o1.chip.1.1.1", "plain", "last"}
    server.faults.clear()
    discovered = follower.root / "state" / PRODUCT / "discovered.json"
    marker = json.loads(discovered.read_text())
    discovered.write_text(json.dumps(marker | {"whole": "2026-01-01T00:00:00Z"}))
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(release)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda target: faults.flips_byte(target=target), "expected md5"),
        (lambda target: faults.fails(404, target=target), "404 Not Found"),
    ],
)
def test_a_bad_file_fails_its_fileset_and_no_other(fault, said, release, server, follower):
    server.faults.append(fault(f"{PRODUCT}/plain/t.fits"))
    result = follower.update()
    assert result.code == 30, result.output
    assert said in result.output
    assert numbers(3, 3, 2, 1) in result.output
    assert follower.content("data") == DATA
    assert {path.split("/")[1] for path in follower.content("store")} == {"o1.chip.1.1.1", "o1.chip.2.2.1"}
    with open(follower.root / "status" / "download_failures.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["product"], row["fileset"], row["file"]) == (PRODUCT, "plain", "t.fits")
    assert row["attempts"] == "1"
    assert said in row["reason"]
    assert follower.update().code == 30
    server.faults.clear()
    server.clear()
    assert follower.update().code == 0
    assert file_requests(server) == [f"/ds/{PRODUCT}/plain/t.fits"]
    assert follower.content("store") == served_filesets(release)
    assert follower.marked("failed", PRODUCT) == set()


def test_a_wrong_checksum_published_upstream(release, follower):
    wrong = File("w.fits", b"w" * 50, listed={"md5": "0" * 32})
    release.add(PRODUCT, "wrong", [wrong, File("right.fits", b"r")])
    result = follower.update()
    assert result.code == 30
    assert "expected md5 " + "0" * 32 in result.output
    assert "wrong" not in follower.marked("downloaded", PRODUCT)
    release.add(PRODUCT, "wrong", [File("w.fits", b"w" * 50), File("right.fits", b"r")])
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(release)


def test_a_product_that_cannot_be_asked_does_not_hold_up_another(release, server, follower):
    release.add("other", "fine", [File("f.fits", b"fine")])
    server.faults.append(faults.database_down(target=f"{PRODUCT}/*"))
    result = follower.update()
    assert result.code == 20
    assert follower.content("store") == served_filesets(release, "other")
    record = json.loads((follower.root / "state" / PRODUCT / "listing_failure.json").read_bytes())
    assert record["reason"].startswith(f"{server.url}/{PRODUCT}/index.txt: ")
    assert not (follower.root / "state" / "other" / "listing_failure.json").exists()
    server.faults.clear()
    assert follower.update().code == 0
    assert not (follower.root / "state" / PRODUCT / "listing_failure.json").exists()


def test_selected_filesets_only_and_the_rest_after_a_change_of_mind(release, follower):
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"stage": "w*"}}]
    result = follower.update()
    assert result.code == 0
    assert numbers(3, 1, 1) in result.output
    assert follower.marked("extracted", PRODUCT) == {"o1.chip.2.2.1"}
    follower.mirror["products"] = [PRODUCT]
    result = follower.update()
    assert result.code == 0
    assert numbers(0, 2, 2) in result.output
    assert follower.content("store") == served_filesets(release)


def test_select_by_a_column_that_is_not_there(release, follower):
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"stag": "chip"}}]
    result = follower.update()
    assert result.code == 40
    assert "stag" in result.output
    assert "Traceback" not in result.output


def test_unpack_false_keeps_the_bundles_only(release, follower):
    follower.mirror["unpack"] = False
    assert follower.update().code == 0
    assert follower.content("store") == served_filesets(release)
    assert not (follower.root / "data").exists()
    follower.mirror["unpack"] = True
    assert follower.update().code == 0
    assert follower.content("data") == DATA


def test_keep_bundles_false_deletes_them_once_unpacked(release, follower):
    follower.mirror["keep_bundles"] = False
    assert follower.update().code == 0
    assert follower.content("data") == DATA
    assert not list((follower.root / "store").rglob("*.tgz"))
    assert numbers() in follower.update().output


def test_a_hidden_product_is_mirrored_when_named(release, follower):
    with simulate(release.folder, hidden=[PRODUCT]) as server:
        follower.url = server.url
        assert NOTHING in follower.update().output
        follower.source["hidden_products"] = [PRODUCT]
        assert follower.update().code == 0
    assert follower.content("store") == served_filesets(release)


def test_a_disk_that_is_too_full_is_not_filled(release, follower):
    follower.mirror["min_free"] = "900000 TB"
    result = follower.update()
    assert result.code == 30
    assert "are missing" in result.output
    assert follower.content("store") == {}


def test_never_more_connections_than_set(release, server, follower):
    for number in range(6):
        files = [File(f"f{i}.fits", bytes([number, i]) * 400) for i in range(12)]
        release.add(PRODUCT, f"many.{number}", files)
    follower.source["connections"] = 3
    server.faults.append(faults.delays(0.01))
    assert follower.update().code == 0
    assert 1 < server.peak_connections <= 3


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"mirror": {"rooot": "x"}}, 40, "unknown setting"),
        ({"source": {"connections": 0}}, 40, "connections"),
        ({"mirror": {"products": ["no-such-product"]}}, 20, "404"),
        ({"mirror": {"root": "/proc/no/root"}}, 40, "/proc/no"),
        ({"source": {"url": "http://127.0.0.1:9/ds"}}, 20, "127.0.0.1:9"),
        ({"source": {"url": "nonsense"}}, 40, "http"),
    ],
)
def test_wrong_settings_are_told_in_one_sentence(change, code, said, release, follower):
    follower.source |= change.get("source", {})
    follower.mirror |= change.get("mirror", {})
    result = follower.update()
    assert result.code == code, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    sentences = [line for line in result.output.splitlines() if not line.startswith("filesets: ")]
    assert len(sentences) == 1


def test_an_unknown_product_on_the_command_line(release, follower):
    result = follower.update("--products", f"{PRODUCT},nope")
    assert result.code == 40
    assert "nope" in result.output


def test_only_the_products_asked_for(release, follower):
    release.add("other", "fine", [File("f.fits", b"fine")])
    assert follower.update("--products", "other").code == 0
    assert follower.content("store") == served_filesets(release, "other")


def test_names_that_may_not_become_paths_fail_their_fileset(release, upstream: Upstream, follower: Follower):
    listing = upstream.folder / PRODUCT / "index.txt"
    listing.write_text(listing.read_text().rstrip("\n") + "\n../../escape|2009-07-30T00:00:00Z|table|\n")
    result = follower.update()
    assert result.code == 30, result.output
    assert "../../escape" in result.output
    assert "3 extracted, 1 failed" in result.output
    assert not (follower.folder / "escape").exists()


def test_one_fileset_by_hand(release, follower):
    assert follower.update("--products", PRODUCT).code == 0
    command = [argument.replace("UpdateMirror", "DownloadFileset") for argument in follower.command()]
    known = ended([*command, "--product", PRODUCT, "--fileset", "plain"])
    assert known.code == 0, known.output
    unknown = ended([*command, "--product", PRODUCT, "--fileset", "nonsense"])
    assert unknown.code == 40, unknown.output
    assert "nonsense" in unknown.output
    assert "Traceback" not in unknown.output


def test_a_selection_that_matches_nothing_says_so(release, follower):
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"stage": ["warps"]}}]
    said = f"product {PRODUCT}: select matches 0 of 3 filesets; stage has chip, warp"
    for _ in range(2):
        result = follower.update()
        assert result.code == 0
        assert said in result.output
    shown = ended([sys.executable, "-m", "tasks", "status", "--config", str(follower.config)])
    assert shown.code == 0
    assert f"warning: {said}" in " ".join(shown.output.split())
