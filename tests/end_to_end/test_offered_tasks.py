"""Tasks that another program adds to the scheduler for the workers of an update: none of them is run."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from luigi.task import task_id_str
from support.running import Running, Scheduler, leftovers, luigi_command, started, until
from support.upstream import Upstream, served_filesets

from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.root_format import short_id

PRODUCT = "md-all-rel-200907"
FILESETS = 8
LINE = "which is no step of this mirror: refused"
FOREIGN = """
import pathlib
import luigi

pathlib.Path({journal!r}).open("a").write("imported\\n")


class Foreign(luigi.Task):
    def run(self):
        pathlib.Path({journal!r}).open("a").write("run\\n")
"""


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    for number in range(FILESETS):
        upstream.add_bundles(PRODUCT, f"o{number}", {"XY01": {f"{number}.fits": b"x" * 3000}}, stage="chip")
    upstream.add_bundles(PRODUCT, "left.out", {"XY01": {"left.fits": b"x"}}, stage="warp")
    return upstream


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Lines that the module ``foreign`` writes when it is imported, or its task run."""
    path = tmp_path / "journal"
    (tmp_path / "foreign.py").write_text(FOREIGN.format(journal=str(path)))
    return path


class Central:
    """The calls of another program to a scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def ask(self, method: str, **arguments: object) -> object:
        url = f"http://127.0.0.1:{self.scheduler.port}/api/{method}"
        answer = requests.get(url, params={"data": json.dumps(arguments)}, timeout=10)
        return answer.json()["response"]

    def worker(self, process: Running) -> str:
        """The name of the process at the scheduler."""
        return next(each["name"] for each in self.ask("worker_list") if each.get("pid") == process.pid)

    def failed(self) -> set[str]:
        """The tasks that have failed."""
        tasks: dict[str, object] = self.ask("task_list", status="FAILED", upstream_status="")
        return set(tasks)


@pytest.fixture
def central(scheduler: Scheduler) -> Central:
    return Central(scheduler)


COLUMNS = ("filesetID", "time registered", "type", "target_id", "stage", "stage_id", "exp_name", "filter")


def listed(fileset: str, second: int, stage: str) -> str:
    """A row of the listing as a task has it."""
    row = [fileset, f"2009-07-29T00:00:{second:02}Z", "IPP-DIST", "null", stage, "null", "null", "null"]
    return json.dumps([COLUMNS, row])


def step(fileset: str, mirror: str, row: str, **more: object) -> dict[str, object]:
    """A step as this program adds it."""
    significant = {"product": PRODUCT, "fileset": fileset, "mirror": mirror}
    params = significant | {"position": "0", "row": row} | more
    task_id = task_id_str("DownloadFileset", significant)
    return {"task_id": task_id, "module": "tasks.fileset", "family": "DownloadFileset", "params": params}


def foreign_tasks(mirror: str) -> list[dict[str, object]]:
    good = listed("o0", 1, "chip")
    return [
        {"task_id": "imported", "module": "foreign", "family": "Foreign", "params": {}},
        {"task_id": "without module", "family": "Foreign", "params": {}},
        {"task_id": "no step", "module": "tasks.update", "family": "UpdateMirror", "params": {}},
        {"task_id": "Luigi's own", "module": "luigi.task", "family": "Config", "params": {}},
        {"task_id": "\x1b[2J", "module": "\x1b[2J", "family": "\x1b[2J", "params": {}},
        step("o0", mirror, good) | {"task_id": "a step under another id"},
        step("o0", mirror, good) | {"task_id": "a step in another module", "module": "foreign"},
        step("o0", "0123abcd", good),
        # From here on each is wrong in its row only.
        step("o99", mirror, listed("o99", 1, "chip")),
        step("o98", mirror, good),
        step("o97", mirror, ""),
        step("o96", mirror, "[" * 5000),
        step("o95", mirror, json.dumps([[["o95"]], [["o95"], 1, 2]])),
        step("../../escape", mirror, listed("../../escape", 1, "chip")),
        step("left.out", mirror, listed("left.out", FILESETS + 1, "warp")),
    ]


def test_the_rows_of_these_tasks_are_those_of_the_listing(release):
    """Otherwise the fileset that is left out would be refused for another reason."""
    row = json.loads(listed("left.out", FILESETS + 1, "warp"))[1]
    assert tuple(row) == release.products[PRODUCT]["left.out"]


@pytest.mark.parametrize(
    ("scheduler", "peer"), [(False, True), (True, False)], indirect=["scheduler"], ids=["worker", "update"]
)
def test_only_steps_of_this_mirror_are_run(
    peer, central, release, server, follower, bundles, journal, tmp_path
):
    follower.source = {"connections": 4, "timeout": 60}
    follower.mirror = {"products": [{"name": PRODUCT, "select": {"stage": "chip"}}]}
    command = luigi_command(follower, central.scheduler.port)
    path = {"PYTHONPATH": str(tmp_path)}
    with ExitStack() as stack:
        update = target = stack.enter_context(started(command, tmp_path / "update.log", path))
        until(lambda: bundles.waiting == 4 or update.ended, "the update does not fetch")
        if peer:
            target = stack.enter_context(started([*command, "--assistant"], tmp_path / "peer.log", path))
            notice = follower.root / "workers" / "update.json"
            until(lambda: json.loads(notice.read_text())["admitted"] or target.ended, "it is not admitted")
            until(
                lambda: any(each.get("pid") == target.pid for each in central.ask("worker_list")), "no worker"
            )
        worker = central.worker(target)
        foreign = foreign_tasks(short_id(Layout(follower.root)))
        for task in foreign:
            central.ask("add_task", worker=worker, priority=1_000_000, **task)
        names = {str(task["task_id"]) for task in foreign}
        until(lambda: names <= central.failed() or target.ended, "not all are refused")
        assert names <= central.failed()
        bundles.open()
        endings = [process.wait() for process in {target, update}]
        assert [ending.code for ending in endings] == [0] * len(endings), [each.output for each in endings]
        assert target.output.count(LINE) == 1, target.output
        assert "Traceback" not in target.output
    assert not journal.exists()
    chosen = set(release.products[PRODUCT]) - {"left.out"}
    assert follower.marked("extracted", PRODUCT) == chosen
    whole = {path: content for path, content in served_filesets(release).items() if "left.out" not in path}
    assert follower.content("store") == whole
    assert leftovers(follower.root) == []
