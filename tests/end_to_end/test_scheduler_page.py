"""A scheduler in the middle of an update: a restart, the buttons of Luigi's page, and what the page shows."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from support.follower import Follower
from support.running import Running, Scheduler, Turnstile, free_port, leftovers, luigi_command, started, until
from support.upstream import Upstream, served_filesets

from pipeline.sample.faults import fails

PRODUCTS = ("md", "sas")
FILESETS = 12


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    for number in range(FILESETS):
        for product in PRODUCTS:
            content = {"XY01": {f"{product}{number}.fits": bytes([number]) * 3000}}
            upstream.add_bundles(product, f"{product}{number}", content, destdir=f"gpc1/{product}")
    return upstream


@pytest.fixture
def bundles(server) -> Turnstile:
    """A turnstile before all bundles."""
    turnstile = Turnstile()
    server.faults.append(turnstile.fault("*/*/*.tgz"))
    return turnstile


class Site:
    """A scheduler, and an update beside it."""

    def __init__(self, follower: Follower, folder: Path, plain: bool) -> None:
        self.follower = follower
        self.scheduler = Scheduler(folder, free_port(), plain)
        self.luigid = self.scheduler.start()
        self._log = folder / "update.log"

    def update(self, stack: ExitStack) -> Running:
        return stack.enter_context(started(luigi_command(self.follower, self.scheduler.port), self._log))

    def press(self, button: str, **more: object) -> None:
        """Do what a button of the page does, for every worker."""
        for worker in self.ask("worker_list"):
            self.ask(button, worker=worker["name"], **more)

    def shown(self, status: str) -> list[dict]:
        """The tasks that the page shows for the status."""
        tasks = self.ask("task_list", status=status, upstream_status="")
        return [task | {"task_id": task_id} for task_id, task in tasks.items()]

    def ask(self, method: str, **data: object) -> Any:
        url = f"http://127.0.0.1:{self.scheduler.port}/api/{method}"
        return requests.get(url, params={"data": json.dumps(data)}, timeout=10).json()["response"]

    def is_whole(self, release: Upstream) -> bool:
        assert leftovers(self.follower.root) == []
        return self.follower.content("store") == served_filesets(release)


@pytest.fixture(params=[False, True], ids=["central", "luigid"])
def site(request, follower: Follower, tmp_path: Path) -> Iterator[Site]:
    follower.source = {"connections": 8, "timeout": 60}
    site = Site(follower, tmp_path, request.param)
    yield site
    site.luigid.kill()


@pytest.mark.parametrize(
    ("site", "connections"), [(False, 8), (True, 16)], indirect=["site"], ids=["central", "luigid"]
)
def test_a_scheduler_that_was_restarted_knows_again_what_there_is_to_share_out(
    connections, site, follower, release, bundles
):
    """A scheduler that was not told has one of each resource."""
    follower.source = {"connections": connections, "timeout": 60}
    with ExitStack() as stack:
        update = site.update(stack)
        until(lambda: bundles.waiting == connections or update.ended, "the update does not begin")
        site.luigid.kill()
        site.luigid = site.scheduler.start()
        bundles.free = connections
        # As many as before at once, or all that are left.
        rest = min(connections, FILESETS * len(PRODUCTS) - connections)
        until(lambda: bundles.waiting == rest or update.ended, "the update does not go on")
        bundles.open()
        assert update.wait().code == 0, update.output
    assert site.is_whole(release)


def test_a_worker_that_is_disabled_finishes_what_is_in_progress(site, follower, release, bundles):
    with ExitStack() as stack:
        update = site.update(stack)
        until(lambda: bundles.waiting == 8 or update.ended, "the update does not begin")
        site.press("disable_worker")
        bundles.open()
        ended = update.wait()
    assert ended.code == 25, ended.output
    done = [follower.marked("extracted", product) for product in PRODUCTS]
    assert 0 < sum(map(len, done)) < FILESETS * len(PRODUCTS)
    with ExitStack() as stack:
        assert site.update(stack).wait().code == 0
    assert site.is_whole(release)


def test_fewer_tasks_at_once(site, follower, release, bundles):
    """The two products' own tasks only wait, and take nobody's place."""
    with ExitStack() as stack:
        update = site.update(stack)
        until(lambda: bundles.waiting == 8 or update.ended, "the update does not begin")
        site.press("set_worker_processes", n=2)
        until(lambda: workers(site) == {2}, "the worker gets no notice")
        bundles.free = 8
        until(lambda: bundles.passed == 8 and bundles.waiting == 2, "it is not two at once")
        bundles.open()
        assert update.wait().code == 0, update.output
    assert site.is_whole(release)


def workers(site: Site) -> set[int]:
    return {worker["workers"] for worker in site.ask("worker_list")}


@pytest.mark.parametrize("site", [False], indirect=True, ids=["central"])
def test_the_page_shows_of_each_task_what_it_does_and_how_far_it_is(site, follower, upstream, server):
    """Details are the mirror, the product, the fileset, and of running tasks the progress; nothing else."""
    chips = {f"XY{number:02}": {f"{number}.fits": b"a" * 3000} for number in range(9)}
    upstream.add_bundles("md", "slow", chips)
    upstream.add_bundles("md", "broken", {"XY02": {"b.fits": b"b" * 3000}})
    server.faults.append(fails(404, target="*/broken/*.tgz"))
    bundles = Turnstile()
    server.faults.append(bundles.fault("*/slow/*.XY08.tgz"))
    with ExitStack() as stack:
        update = site.update(stack)
        until(lambda: is_last_bundle_awaited(site) or update.ended, "no progress is shown")
        running, failed, others = site.shown("RUNNING"), site.shown("FAILED"), site.shown("DONE")
        pending = site.shown("PENDING")
        bundles.open()
        assert update.wait().code == 30, update.output
    assert {(each["name"], *sorted(each["params"])) for each in [*pending, *others, *failed]} == {
        ("UpdateMirror", "mirror"),
        ("DiscoverProduct", "mirror", "product"),
        ("DownloadFileset", "fileset", "mirror", "product"),
        ("ExtractFileset", "fileset", "mirror", "product"),
    }
    shown = {each["name"]: each for each in running}
    assert {name: sorted(task["params"]) for name, task in shown.items()} == {
        "UpdateProduct": ["mirror", "product", "progress"],
        "DownloadFileset": ["fileset", "mirror", "product", "progress"],
    }
    assert re.match(r"9 of 10 files, .*B of .*B, .*/s", progress_of(shown["DownloadFileset"]))
    assert re.match(r"1 of 2 filesets, 1 failed, .* done, about .* left", progress_of(shown["UpdateProduct"]))
    assert shown["DownloadFileset"]["progress_percentage"] in range(1, 100)
    traces = [site.ask("fetch_error", task_id=each["task_id"])["error"] for each in failed]
    assert all(json.loads(trace).startswith("fileset md/broken: ") for trace in traces)


def is_last_bundle_awaited(site: Site) -> bool:
    """Return True once the page shows all that the test lets happen: it is renewed at times only."""
    begins = {progress_of(task).partition(", ")[0] for task in site.shown("RUNNING")}
    return begins == {"9 of 10 files", "1 of 2 filesets"} and bool(site.shown("FAILED"))


def progress_of(task: dict) -> str:
    return task["params"].get("progress", "")
