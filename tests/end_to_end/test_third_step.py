"""A step of the workflow more, added by its rows alone: the recipe of docs/changing.md, carried out.

It draws a chart of the numbers in a fileset's counts.txt, and fails for what is no number.
"""

import csv
import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from pathlib import Path

import pytest
from support.bundles import bundle, dirinfo
from support.command import Ended
from support.follower import Follower
from support.running import Running, Turnstile, luigi_command, started, until
from support.summary_line import numbers
from support.third_step import make_program, recipe
from support.upstream import COLUMNS, File, Upstream, served_filesets
from support.warm_start import WarmStart

PRODUCT = "md-all-rel-200907"
COMMAND = Path(sys.executable).with_name("ipp-mirror")


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(folder), "PYTHONWARNINGS": "error::ResourceWarning"}


@cache
def _warm_start(folder: Path) -> WarmStart:
    """The process that forks the commands of the program in the folder."""
    return WarmStart(folder, _environment(folder))


class Program:
    """A program with a third step, and a mirror that it updates."""

    def __init__(self, folder: Path, follower: Follower, port: int | None = None) -> None:
        self.folder = folder
        self.follower = follower
        self.port = port
        self.environment = _environment(folder)
        self._warm_start = _warm_start(folder)

    def run(self, *command: object) -> Ended:
        result = self._warm_start.run([str(word) for word in command], self.environment, timeout=240)
        assert "Traceback" not in result.stdout + result.stderr, result.stdout + result.stderr
        return Ended(result.returncode, result.stdout + result.stderr)

    def started(self, command: list[str], log: Path) -> AbstractContextManager[Running]:
        return started(command, log, self.environment, self._warm_start)

    def update(self) -> Ended:
        return self.run(*luigi_command(self.follower, self.port))

    def command(self, name: str, *more: str) -> Ended:
        return self.run(COMMAND, name, "--config", self.follower.config, *more)

    def done(self) -> dict[str, set[str]]:
        """The filesets by the steps that are done."""
        kinds = ("downloaded", "extracted", "charted")
        return {kind: marked for kind in kinds if (marked := self.follower.marked(kind, PRODUCT))}

    def charts(self) -> dict[str, str]:
        charts = self.follower.content(f"charts/{PRODUCT}")
        return {path.removesuffix(".txt"): chart.decode() for path, chart in charts.items()}

    def failure(self, fileset: str) -> dict:
        return json.loads((self.follower.root / "state" / PRODUCT / "failed" / f"{fileset}.json").read_text())

    def product_status(self) -> dict[str, str]:
        [row] = self._status("product_status")
        return row

    def failures(self) -> list[tuple[str, str]]:
        """The filesets in download_failures.csv, and the step that failed."""
        return [(row["fileset"], row["step"]) for row in self._status("download_failures")]

    def _status(self, name: str) -> list[dict[str, str]]:
        with open(self.follower.root / "status" / f"{name}.csv", newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def with_optional_step(tmp_path_factory) -> Path:
    return make_program(tmp_path_factory.mktemp("optional"), optional=True)


@pytest.fixture(scope="module")
def with_required_step(tmp_path_factory) -> Path:
    return make_program(tmp_path_factory.mktemp("required"), optional=False)


@pytest.fixture
def program(with_optional_step: Path, follower: Follower) -> Program:
    return Program(with_optional_step, follower)


@pytest.fixture(params=["local", "central"])
def scheduled(request, program: Program) -> Program:
    """The program with a local scheduler, and with the central one."""
    if request.param == "central":
        program.port = request.getfixturevalue("port")
    return program


def register(upstream: Upstream, fileset: str, counts: str, **listed: str) -> None:
    """Register a fileset of a bundle and its counts; ``listed`` is what its listing says wrongly of these."""
    files = [
        File(f"dirinfo.{fileset}.mdc", dirinfo("gpc1/MD01", {"XY01": f"{fileset}.XY01"}), "text", "dirinfo"),
        File(f"{fileset}.XY01.tgz", bundle({f"{fileset}.fits": fileset.encode()}), "tgz", "XY01"),
        File("counts.txt", counts.encode(), "text", listed=listed),
    ]
    upstream.add(PRODUCT, fileset, files)


@pytest.fixture
def good_and_bad(upstream: Upstream) -> Upstream:
    """One fileset of which a chart can be drawn, and one of which none can be."""
    register(upstream, "good", "1 2 3")
    register(upstream, "bad", "1 x")
    return upstream


def correct(program: Program) -> None:
    """Let the chart of the bad fileset succeed."""
    (program.follower.root / "store" / PRODUCT / "bad" / "counts.txt").write_text("2")


def summary(result: Ended) -> str:
    [line] = [line for line in result.output.splitlines() if line.startswith("filesets:")]
    return line.removeprefix("filesets: ").rpartition("; ")[0]


def test_the_recipe_names_its_files(with_optional_step, follower):
    assert list(recipe()) == ["pipeline/mirror/steps/chart.py", "tasks/steps.py", "tasks/fileset.py"]
    code = "import pipeline, tasks.steps; print(pipeline.__file__, tasks.__file__, *tasks.steps.STEPS)"
    environment = Program(with_optional_step, follower).environment
    shown = subprocess.check_output(
        [sys.executable, "-c", code], cwd=with_optional_step, env=environment, text=True
    ).split()
    assert shown[:2] == [f"{with_optional_step}/{package}/__init__.py" for package in ("pipeline", "tasks")]


def test_a_failed_optional_step_is_shown_and_tried_again(scheduled, good_and_bad, server):
    both = {"good", "bad"}
    result = scheduled.update()
    assert result.code == 0, result.output
    assert summary(result) == numbers(2, 2, 2) + "; 1 failed in optional steps"
    assert "expected numbers in" in result.output
    assert scheduled.done() == {"downloaded": both, "extracted": both, "charted": {"good"}}
    assert scheduled.charts() == {"good": "#\n##\n###\n"}
    assert scheduled.follower.content("store") == served_filesets(good_and_bad)
    server.clear()

    result = scheduled.update()
    assert result.code == 0, result.output
    assert summary(result) == numbers() + "; 1 failed in optional steps"
    record = scheduled.failure("bad")
    assert (record["step"], record["attempts"], record["faults"]) == ("chart", 2, 2)
    assert [request.target for request in server.requests] == [
        "/ds/index.txt",
        f"/ds/{PRODUCT}/index.txt?good",
    ]

    correct(scheduled)
    result = scheduled.update()
    assert result.code == 0, result.output
    assert summary(result) == numbers()
    assert scheduled.charts()["bad"] == "##\n"
    assert scheduled.follower.marked("failed", PRODUCT) == set()
    assert scheduled.product_status()["failed_optional"] == "0"
    assert scheduled.failures() == []


def test_status_shows_a_failed_optional_step(program, good_and_bad):
    assert program.update().code == 0
    status = program.product_status()
    assert (status["known"], status["complete"], status["failed"], status["failed_optional"]) == (
        "2",
        "2",
        "0",
        "1",
    )
    assert program.failures() == [("bad", "chart")]
    shown = " ".join(program.command("status").output.split())
    assert "; 1 failed in optional steps" in shown
    assert f"{PRODUCT}, step chart: bad; next try in the next update" in shown
    details = program.command("status", "--details").output.splitlines()
    rows = [line.split() for line in details]
    [row] = [row for row in rows if row[:2] == [PRODUCT, "bad"]]
    assert row[-1] == "chart"


def test_a_failed_optional_step_backs_off_and_postpones_no_required_one(program, good_and_bad):
    program.follower.mirror["retry_every_run"] = 2
    for attempts in (1, 2, 2):
        result = program.update()
        assert result.code == 0, result.output
        assert summary(result).endswith("1 failed in optional steps")
        assert program.failure("bad")["attempts"] == attempts
    assert program.failure("bad")["next_try"] > program.failure("bad")["last_failed"]
    for kind in ("downloaded", "extracted"):
        (program.follower.root / "state" / PRODUCT / kind / "bad.json").unlink()
    result = program.update()
    assert result.code == 0, result.output
    assert summary(result) == numbers(0, 1, 1) + "; 1 failed in optional steps"
    assert program.done()["extracted"] == {"good", "bad"}


def test_a_fileset_skipped_for_its_optional_step(program, good_and_bad):
    assert program.update().code == 0
    assert program.command("skip", PRODUCT, "bad", "--reason", "no numbers").code == 0
    result = program.update()
    assert (result.code, summary(result)) == (
        0,
        numbers(selected=1, skipped=1),
    )
    assert program.follower.marked("failed", PRODUCT) == set()
    correct(program)
    assert program.update().code == 0
    assert program.done()["charted"] == {"good"}
    assert program.command("unskip", PRODUCT, "bad").code == 0
    assert program.update().code == 0
    assert program.done()["charted"] == {"good", "bad"}


def test_the_step_is_done_again_after_a_new_registration(program, good_and_bad):
    assert program.update().code == 0
    register(good_and_bad, "good", "y")
    register(good_and_bad, "bad", "3")
    result = program.update()
    assert (result.code, summary(result)) == (
        0,
        numbers(2, 2, 2) + "; 1 failed in optional steps",
    )
    assert program.failures() == [("good", "chart")]
    assert program.done()["charted"] == {"bad"}
    register(good_and_bad, "good", "4")
    result = program.update()
    assert (result.code, summary(result)) == (
        0,
        numbers(1, 1, 1),
    )
    assert program.charts() == {"good": "####\n", "bad": "###\n"}


def test_what_the_step_made_is_retracted(program, good_and_bad):
    register(good_and_bad, "other", "1")
    program.follower.mirror |= {"on_removed": "delete", "delete_at_most": 1}
    assert program.update().code == 0
    for fileset in ("good", "bad"):
        good_and_bad.withdraw(PRODUCT, fileset)
    result = program.update()
    assert (result.code, summary(result)) == (
        0,
        numbers(),
    )
    assert program.charts() == {"other": "#\n"}
    assert program.done() == {kind: {"other"} for kind in ("downloaded", "extracted", "charted")}
    assert program.follower.marked("failed", PRODUCT) == set()


def test_the_step_is_verified_and_repaired(program, upstream, server):
    register(upstream, "good", "1 2 3")
    register(upstream, "other", "1")
    assert program.update().code == 0
    assert program.command("verify").code == 0
    chart = program.follower.root / "charts" / PRODUCT / "good.txt"
    chart.unlink()
    found = program.command("verify")
    assert found.code == 30
    assert f"charts/{PRODUCT}/good.txt: missing or cut" in found.output
    server.clear()
    repaired = program.command("verify", "--repair")
    assert repaired.code == 0, repaired.output
    assert chart.read_text() == "#\n##\n###\n"
    assert server.requests == []
    assert program.command("verify").code == 0


def test_a_repair_that_fails_in_an_optional_step_is_shown(program, upstream):
    register(upstream, "bad", "1", md5="")
    assert program.update().code == 0
    (program.follower.root / "charts" / PRODUCT / "bad.txt").unlink()
    (program.follower.root / "store" / PRODUCT / "bad" / "counts.txt").write_text("x")
    repaired = program.command("verify", "--repair")
    assert repaired.code == 0, repaired.output
    assert "1 failed in optional steps" in summary(repaired)
    assert program.failures() == [("bad", "chart")]


def test_a_failed_download_with_three_steps(scheduled, good_and_bad):
    register(good_and_bad, "wrong", "1", md5="0" * 32)
    result = scheduled.update()
    assert result.code == 30, result.output
    assert summary(result) == numbers(3, 3, 2, 1) + "; 1 failed in optional steps"
    assert scheduled.failures() == [("bad", "chart"), ("wrong", "download")]
    assert scheduled.done()["charted"] == {"good"}
    register(good_and_bad, "wrong", "1")
    assert scheduled.update().code == 0
    assert scheduled.done()["charted"] == {"good", "wrong"}


def test_a_failed_required_step(with_required_step, follower, good_and_bad):
    program = Program(with_required_step, follower)
    result = program.update()
    assert result.code == 30, result.output
    assert summary(result) == numbers(2, 2, 1, 1, word="charted")
    status = program.product_status()
    assert (status["complete"], status["failed"], status["failed_optional"]) == ("1", "1", "0")
    assert program.failures() == [("bad", "chart")]
    correct(program)
    assert program.update().code == 0
    assert program.product_status()["complete"] == "2"


def test_a_step_that_comes_later_is_done_for_what_is_here(program, good_and_bad, follower, server):
    assert follower.update().code == 0
    server.clear()
    result = program.update()
    assert (result.code, summary(result)) == (
        0,
        numbers() + "; 1 failed in optional steps",
    )
    assert program.charts() == {"good": "#\n##\n###\n"}
    assert all(request.target.endswith(("index.txt", "?good")) for request in server.requests)
    # The program without the step does nothing, and forgets the failure.
    result = follower.update()
    assert (result.code, summary(result)) == (
        0,
        numbers(),
    )


def test_the_step_does_not_bring_back_one_that_the_settings_do_without(program, good_and_bad):
    program.follower.mirror["unpack"] = False
    assert program.update().code == 0
    assert program.done() == {"downloaded": {"good", "bad"}, "charted": {"good"}}


def test_the_step_finds_the_columns_of_the_listing_in_a_marker(follower, upstream):
    upstream.add(PRODUCT, "good", [File("counts.txt", b"1")], stage="warp", filter="r.00000")
    assert follower.update().code == 0
    marker = json.loads((follower.root / "state" / PRODUCT / "downloaded" / "good.json").read_text())
    [listed] = upstream.products[PRODUCT].values()
    assert marker["columns"] == dict(zip(COLUMNS, listed, strict=True))


def test_a_worker_on_another_host_does_the_step(program, upstream, server, port, tmp_path):
    for number in range(1, 13):
        register(upstream, f"f{number}", str(number) if number % 4 else "x")
    program.port = port
    bundles = Turnstile()
    server.faults.append(bundles.fault("*/*/*.tgz"))
    notice = program.follower.root / "workers" / "update.json"
    command = luigi_command(program.follower, port, "--workers", "1")
    with ExitStack() as stack:
        update = stack.enter_context(program.started(command, tmp_path / "update"))
        until(lambda: update.ended or notice.exists(), "the update takes no workers")
        command.append("--assistant")
        worker = stack.enter_context(program.started(command, tmp_path / "worker"))
        until(lambda: worker.ended or bundles.waiting == 2, "the worker gets no fileset")
        bundles.open()
        helped = worker.wait()
        result = update.wait()
    assert result.code == 0, result.output
    assert summary(result) == numbers(12, 12, 12) + "; 3 failed in optional steps"
    assert (helped.code, helped.output.count("0 failed;")) == (0, 1), helped.output
    assert len(program.charts()) == 9
