"""``ipp-mirror plan``: its numbers are those of the update that follows, and it changes nothing."""

import json
import pty
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from time import sleep

import pytest
from click.testing import CliRunner, Result
from support.command import Ended, ipp_mirror
from support.follower import Follower
from support.summary_line import numbers
from support.upstream import File, Upstream

from pipeline.errors import SettingsError
from pipeline.mirror.context import open_context
from pipeline.mirror.state.layout import Layout
from pipeline.reporting.history import RunRecord, append_record
from pipeline.sample import faults
from pipeline.units import as_size
from tasks.commands import ipp_mirror as ipp_mirror_group
from tasks.steps import STEPS

PRODUCT = "md-all-rel-200907"


def plan(follower: Follower, *options: str, code: int = 0) -> dict:
    """Return the plan as JSON. Nothing in the folder of the mirror may change."""
    before = state_of(follower.folder)
    shown = ipp_mirror("plan", "--config", follower.config, "--json", *options)
    assert shown.returncode == code, shown.stderr
    assert state_of(follower.folder) == before
    return json.loads(shown.stdout)


def state_of(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return number and modification time of each file and folder but the settings and what is served."""
    paths = [path for path in folder.rglob("*") if path.relative_to(folder).parts[0] == "mirror"]
    return {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in paths}


def of_product(made: dict) -> dict:
    (product,) = made["products"]
    return product


def assert_as_planned(product: dict, result: Ended, failed: int = 0, left: int = 0) -> None:
    """Compare the plan of the only product with the line of the update."""
    assert numbers(
        product["new"],
        product["due"] + product["postponed"] + product["skipped"],
        product["due"] - failed,
        failed=failed,
        skipped=product["skipped"],
        left=left,
    ) in (result.output)
    assert product["estimated"] == product["unknown"] == 0


def fill(upstream: Upstream) -> None:
    """Register filesets with bundles, without, and with one file that is as another one's."""
    for number in range(3):
        upstream.add_bundles(
            PRODUCT, f"o{number}", {"a": {f"o{number}.fits": b"\0" * (1000 + number)}, "b": {"b": b"b"}}
        )
    upstream.add(PRODUCT, "plain", [File("t.fits", b"t" * 700), File("u.fits", b"u" * 70)], stage="warp")


def test_the_numbers_are_those_of_the_update_that_follows(upstream: Upstream, follower: Follower):
    fill(upstream)
    first = of_product(plan(follower))
    assert (first["known"], first["new"], first["selected"], first["due"]) == (4, 4, 4, 4)
    assert first["files"] == 3 * 3 + 2
    result = follower.update()
    assert_as_planned(first, result)
    assert f"; {as_size(first['bytes'])} fetched" in result.output

    upstream.add(PRODUCT, "plain", [File("t.fits", b"t" * 700), File("v.fits", b"v" * 90)], stage="warp")
    upstream.add(PRODUCT, "later", [File("l.fits", b"l" * 33)])
    upstream.withdraw(PRODUCT, "o1")
    second = of_product(plan(follower))
    assert (second["known"], second["new"], second["due"], second["complete"]) == (5, 2, 2, 2)
    assert (second["files"], second["bytes"]) == (2, 90 + 33), "t.fits is here"
    result = follower.update()
    assert_as_planned(second, result)
    assert f"; {as_size(second['bytes'])} fetched" in result.output

    nothing = of_product(plan(follower))
    assert (nothing["new"], nothing["due"], nothing["bytes"]) == (0, 0, 0)
    assert_as_planned(nothing, follower.update())


def test_filesets_that_failed_are_skipped_or_wait(upstream: Upstream, follower: Follower):
    follower.mirror["retry_every_run"] = 1
    fill(upstream)
    files = [File("good.fits", b"g" * 400), File("wrong.fits", b"w" * 40, listed={"md5": "0" * 32})]
    upstream.add(PRODUCT, "wrong", files)
    upstream.add(PRODUCT, "bad", [File("b.fits", b"b" * 50, listed={"md5": "1" * 32})])
    assert_as_planned(of_product(plan(follower)), follower.update(), failed=2)
    skip = ("skip", "--config", follower.config, PRODUCT, "bad", "--reason", "asked")
    assert ipp_mirror(*skip).returncode == 0

    waiting = of_product(plan(follower))
    assert {name: waiting[name] for name in ("selected", "complete", "skipped", "postponed", "due")} == {
        "selected": 6,
        "complete": 4,
        "skipped": 1,
        "postponed": 1,
        "due": 0,
    }
    assert_as_planned(waiting, follower.update(), left=1)

    upstream.add(PRODUCT, "wrong", [files[0], File("wrong.fits", b"w" * 40)])
    again = of_product(plan(follower))
    assert (again["due"], again["postponed"], again["files"], again["bytes"]) == (1, 0, 1, 40)
    result = follower.update()
    assert_as_planned(again, result)
    assert "; 40 bytes fetched" in result.output


def test_what_is_withdrawn_is_seen_in_the_whole_list(upstream: Upstream, follower: Follower):
    fill(upstream)
    follower.mirror["on_removed"] = "delete"
    assert follower.update().code == 0
    upstream.withdraw(PRODUCT, "o1")
    made = of_product(plan(follower))
    assert (made["known"], made["selected"], made["complete"]) == (4, 3, 3)


def test_filesets_whose_listings_are_not_read_are_estimated(upstream: Upstream, follower: Follower):
    for number in range(6):
        upstream.add(
            PRODUCT,
            f"o{number}",
            [File("a", b"a" * 100), File("b", b"b" * 20)],
            filter="r" if number < 4 else "g",
        )
    upstream.add(PRODUCT, "other", [File("a", b"a" * 5)], stage="warp", filter="g")
    made = of_product(plan(follower, "--listings", "2"))
    assert (made["files"], made["bytes"], made["estimated"]) == (13, 6 * 120 + 5, 4)
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"filter": "r"}}]
    assert of_product(plan(follower))["due"] == 4
    assert follower.update().code == 0
    del follower.mirror["products"]
    made = of_product(plan(follower, "--offline"))
    assert (made["due"], made["files"], made["bytes"]) == (3, 4, 240), "two like those here"
    assert (made["estimated"], made["unknown"]) == (2, 1)
    shown = ipp_mirror("plan", "--config", follower.config, "--offline").stdout
    assert "to fetch: ~240 bytes in 3 filesets" in shown
    assert "\n~ 2 of them are estimated" in shown
    assert "\n? 1 of them is left out of the size" in shown


def test_bundles_that_are_here_are_unpacked_without_a_request_for_their_listings(
    upstream: Upstream, follower: Follower, server
):
    fill(upstream)
    follower.mirror["unpack"] = False
    assert follower.update().code == 0
    follower.mirror["unpack"] = True
    server.clear()
    made = plan(follower)
    product = of_product(made)
    assert (product["due"], product["to_fetch"], product["bytes"]) == (4, 0, 0)
    assert sum(disk["needed"] for disk in made["disks"]) > 0
    assert not [request for request in server.requests if "/o0/" in request.target]


def test_the_time_says_from_which_runs_its_rate_is(upstream: Upstream, follower: Follower):
    upstream.add(PRODUCT, "big", [File("b", b"b" * 4000)])

    def time_line() -> str:
        shown = ipp_mirror("plan", "--config", follower.config).stdout
        (line,) = [line for line in shown.splitlines() if line.startswith("time: ")]
        return line

    def has_run(day: int) -> None:
        times = f"2026-07-0{day}T00:00:00Z", f"2026-07-0{day}T00:01:00Z"
        append_record(Layout(follower.root), RunRecord(*times, 0, 1, 2000, 20.0, 0, "UpdateMirror", ""))

    assert time_line() == ("time: not known, as no run has fetched for 10 s yet")
    follower.source["rate_limit"] = 50
    assert time_line() == (
        "time: about 1 min 20 s at 50 bytes/s, the rate_limit of the settings; "
        "no run has fetched for 10 s yet"
    )
    has_run(1)
    assert time_line() == (
        "time: about 1 min 20 s at 50 bytes/s, within the rate_limit of the settings; "
        "the last run that fetched much (2026-07-01) had 100 bytes/s"
    )
    follower.source["rate_limit"] = "1 MB/s"
    has_run(3)
    assert time_line() == (
        "time: about 40 s at 100 bytes/s, as in the last 2 runs that fetched much (2026-07-01 to 2026-07-03)"
    )


def test_disks_that_do_not_suffice(upstream: Upstream, follower: Follower):
    fill(upstream)
    follower.mirror["min_free"] = 10**17
    (disk,) = plan(follower, code=30)["disks"]
    assert disk["missing"] == disk["needed"] + disk["min_free"] - disk["free"]
    shown = ipp_mirror("plan", "--config", follower.config)
    assert shown.returncode == 30
    assert "are missing. Free disk space\n" in shown.stdout
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"registered_before": "2000-01-01"}}]
    (disk,) = plan(follower)["disks"]
    assert (disk["needed"], disk["missing"]) == (0, 0)


def test_a_server_that_does_not_answer(upstream: Upstream, follower: Follower):
    fill(upstream)
    follower.mirror["products"] = [PRODUCT]
    assert follower.update().code == 0
    shutil.rmtree(follower.root / "store" / PRODUCT / "plain")
    (follower.root / "state" / PRODUCT / "downloaded" / "plain.json").unlink()
    (follower.root / "state" / PRODUCT / "extracted" / "plain.json").unlink()
    follower.url = "http://127.0.0.1:1/ds"
    follower.source["attempts"] = 1
    made = of_product(plan(follower, code=20))
    assert (made["known"], made["complete"], made["due"], made["unknown"]) == (4, 3, 1, 1)
    (problem,) = made["problems"]
    assert "connection refused" in problem
    assert plan(follower, "--offline")["products"][0]["problems"] == []
    for placed in (PRODUCT, "of-no-product"):
        follower.mirror["volumes"] = {placed: str(follower.folder / "unmounted")}
        made = plan(follower, "--offline", code=40)
        numbers = ("known", "selected", "complete", "due")
        assert [of_product(made)[name] for name in numbers] == [4, 4, 3, 1], "as without a volume"
        assert any("unmounted is not mounted: expected" in problem for problem in made["volumes"])
    shown = ipp_mirror("plan", "--config", follower.config, "--offline")
    assert (shown.returncode, shown.stderr.count("No update can begin; ")) == (40, 1)


def of_three(follower: Follower, upstream: Upstream) -> None:
    """Three products, of which nothing is known here."""
    for product in (PRODUCT, "second", "third"):
        upstream.add(product, f"{product}.1", [File("a.fits", b"a")])
    follower.mirror["products"] = [PRODUCT, "second", "third"]
    follower.source["attempts"] = 1


def in_process(*command: str) -> Result:
    return CliRunner().invoke(ipp_mirror_group, [*command], standalone_mode=False)


UNANSWERED = {
    "refused": (None, "connection refused by"),
    "503": (faults.fails(503, target="everything"), "got 503"),
    "filesets": (faults.fails(500, target=f"{PRODUCT}/*/index.txt"), "got 500"),
}


@pytest.mark.parametrize("name", UNANSWERED)
def test_a_server_that_gives_no_answer_is_asked_about_no_other_product(name, upstream, follower, server):
    of_three(follower, upstream)
    fault, said = UNANSWERED[name]
    if fault:
        server.faults.append(fault)
    else:
        follower.url = "http://127.0.0.1:1/ds"
    shown = in_process("plan", "--config", str(follower.config))
    assert shown.return_value == 20
    assert {request.target.split("/")[2] for request in server.requests} <= {PRODUCT}
    first, second = shown.stderr.splitlines()
    assert said in first
    is_known = name == "filesets"
    assert ("\nto fetch: not known, as there is no listing yet\n" in shown.stdout) is not is_known
    assert second == (
        "2 more products (second, third): planned by what is known here, as the server gave no answer."
    )


def test_a_plan_of_all_products_without_the_listing_of_the_root_speaks_of_no_next_run(follower):
    follower.url = "http://127.0.0.1:1/ds"
    follower.source["attempts"] = 1
    result = ipp_mirror("plan", "--config", follower.config)
    assert (result.returncode, result.stdout) == (20, "")
    assert result.stderr == (
        "ipp-mirror: http://127.0.0.1:1/ds/index.txt: connection refused by 127.0.0.1:1.\n"
    )


ANSWERED = {
    "404": faults.fails(404, target=f"{PRODUCT}/index.txt"),
    "invalid": faults.database_down(target=f"{PRODUCT}/index.txt"),
    "cut": faults.hangs_up(after=10, target=f"{PRODUCT}/index.txt"),
}


@pytest.mark.parametrize("name", ANSWERED)
def test_a_server_that_fails_for_one_product_is_asked_about_the_others(name, upstream, follower, server):
    of_three(follower, upstream)
    server.faults.append(ANSWERED[name])
    shown = in_process("plan", "--json", "--config", str(follower.config))
    made = json.loads(shown.stdout)
    assert (shown.return_value, made["not_asked"]) == (20, [])
    assert "next run" not in shown.stdout
    assert [product["known"] for product in made["products"]] == [0, 1, 1]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_shows_what_the_server_is_asked(upstream, follower, server, monkeypatch, no_color):
    of_three(follower, upstream)
    master, terminal = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    with open(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        ipp_mirror_group.main(["plan", "--config", str(follower.config)], standalone_mode=False)
    output = ""
    # EIO: nothing is left of what was written.
    with open(master, "rb", buffering=0) as reader, suppress(OSError):
        while part := reader.read(65_536):
            output += part.decode()
    assert f"asking {server.url}" in output
    assert output.endswith("\x1b[2K"), "the line is erased"
    assert ("\x1b[32m" in output) == (not no_color)


def test_a_selection_that_matches_nothing_is_named(upstream: Upstream, follower: Follower):
    upstream.add(PRODUCT, "o1.chip.1.1.1", [File("a.fits", b"a")])
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"stage": "wrap"}}]
    result = ipp_mirror("plan", "--config", follower.config)
    assert result.returncode == 0
    assert result.stderr == f"product {PRODUCT}: select matches 0 of 1 fileset; stage has chip\n"


def test_without_a_listing_nothing_is_known_offline(follower: Follower):
    shown = ipp_mirror("plan", "--config", follower.config, "--offline")
    assert shown.returncode == 0
    assert "\nto fetch: not known, as there is no listing yet; " in shown.stdout


def blocked(folder: Path, kind: str) -> Path:
    """A root at which no mirror can be made."""
    (folder / "file").write_text("x")
    (folder / "link").symlink_to("absent")
    return {"/proc": Path("/proc/x"), "in a file": folder / "file" / "x"}.get(kind, folder / kind)


@pytest.mark.parametrize("kind", ["/proc", "file", "in a file", "link"])
def test_a_root_that_cannot_be_made_is_the_sentence_of_the_update(kind, tmp_path, follower: Follower):
    follower.mirror |= {"root": str(blocked(tmp_path, kind)), "products": [PRODUCT]}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SettingsError) as planned:
        ipp_mirror_group.main(["plan", "--config", str(follower.config)], standalone_mode=False)
    with pytest.raises(SettingsError) as started, open_context(follower.config, STEPS, sleep):
        pass
    assert str(planned.value) == str(started.value)
    assert sorted(tmp_path.rglob("*")) == sorted({*before, follower.config})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--products", "another"),
            "expected a product of this mirror (md-all-rel-200907), got 'another'. To mirror it,",
        ),
        ((), "product md-all-rel-200907: select: expected columns of its listing"),
    ],
    ids=["product", "column"],
)
def test_what_is_wrong_in_the_settings_is_code_40(options, sentence, upstream: Upstream, follower: Follower):
    fill(upstream)
    follower.mirror["products"] = [{"name": PRODUCT, "select": {"colour": "r"}}]
    refused = ipp_mirror("plan", "--config", follower.config, *options)
    assert refused.returncode == 40
    assert sentence in refused.stderr
