"""Several processes do one update: all take part, and whatever happens to one, the mirror is whole."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from time import sleep

import pytest
import requests
from starlette.types import ASGIApp, Receive, Scope, Send
from support.catalog import add_chips, content_of, image_bytes, url_database
from support.command import ended
from support.databases import mariadb, postgresql
from support.follower import Follower
from support.running import (
    SEEN_SECONDS,
    Running,
    Scheduler,
    Turnstile,
    free_port,
    gate,
    leftovers,
    luigi_command,
    started,
    tree_is_true,
    until,
)
from support.summary_line import numbers
from support.upstream import File, Upstream, served_filesets

from pipeline.sample import faults
from pipeline.sample.faults import Fault

PRODUCT = "md-all-rel-200907"
FILESETS = 24
CONNECTIONS = 8
SECONDS_PER_FILE = 0.05


class Crowd:
    """Takes a moment for each request, and counts how many there are at once."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    def fault(self) -> Fault:
        async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(SECONDS_PER_FILE)
            try:
                await app(scope, receive, send)
            finally:
                self.now -= 1

        return Fault(act, faults.EVERYTHING)


def name_of(number: int) -> str:
    return f"o{number:02}.chip.{number}.1.1"


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    """Filesets of a dirinfo and two bundles each."""
    for number in range(FILESETS):
        content = bytes([number]) * 30_000
        upstream.add_bundles(
            PRODUCT, name_of(number), {"XY01": {f"{number}.fits": content}, "XY02": {"b.fits": content[:9]}}
        )
    return upstream


@pytest.fixture
def crowd(server) -> Crowd:
    crowd = Crowd()
    server.faults.append(crowd.fault())
    return crowd


class Site:
    """Starts the processes of one mirror, and ends those that are left."""

    def __init__(self, follower: Follower, port: int, folder: Path, stack: ExitStack) -> None:
        self.follower = follower
        self.port = port
        self._folder = folder
        self._stack = stack
        self._count = 0
        self.workers = 4

    def update(self) -> Running:
        """An update that is running, and takes workers."""
        running = self._start()
        until(lambda: running.ended or self.notice, "the update takes no workers")
        return running

    def worker(self) -> Running:
        """A worker that has been admitted."""
        before = len(self.notice["admitted"])
        running = self.applicant()
        until(lambda: running.ended or len(self.notice["admitted"]) > before, "the worker is not admitted")
        assert not running.ended, running.output
        return running

    def applicant(self) -> Running:
        """A worker that has just been started."""
        return self._start("--assistant")

    def all_have_filesets_in_progress(self, bundles: Turnstile, processes: list[Running]) -> None:
        """Let bundles through until each of the processes waits for some."""

        def all_wait() -> bool:
            if not all(self.fetching(process) for process in processes):
                bundles.free += bundles.passed == bundles.free
                return False
            return bundles.passed == bundles.free

        def all_wait_still() -> bool:
            return all_wait() and not sleep(SEEN_SECONDS) and all_wait()

        until(all_wait_still, "some process gets no filesets")

    def fetching(self, process: Running) -> int:
        """Number of filesets that the process fetches, according to the scheduler."""
        answer = requests.get(f"http://127.0.0.1:{self.port}/api/worker_list", timeout=10)
        workers = answer.json()["response"]
        running = [worker["running"] for worker in workers if worker.get("pid") == process.pid]
        return sum(task.startswith("DownloadFileset") for tasks in running for task in tasks)

    @property
    def notice(self) -> dict:
        """The notice of the update to its workers; empty when there is none."""
        try:
            return json.loads((self.follower.root / "workers" / "update.json").read_text())
        except FileNotFoundError:
            return {}

    def _start(self, *more: str) -> Running:
        self._count += 1
        log = self._folder / f"process.{self._count}.log"
        command = luigi_command(self.follower, self.port, "--workers", str(self.workers), *more)
        return self._stack.enter_context(started(command, log))


@pytest.fixture
def site(follower: Follower, port: int, tmp_path: Path) -> Iterator[Site]:
    follower.source = {"connections": CONNECTIONS}
    with ExitStack() as stack:
        yield Site(follower, port, tmp_path, stack)


def done_in(output: str) -> int:
    """Number of filesets that a worker says it completed."""
    return int(re.search(r"worker: (\d+) filesets? completed here", output)[1])


def summary(output: str) -> str:
    return re.search(r"filesets: (.*); ", output)[1]


def complete(follower: Follower, release: Upstream) -> None:
    """Exactly what is served is here, every marker is true, and nothing is left over."""
    assert follower.content("store") == served_filesets(release)
    data = {}
    for number in range(FILESETS):
        content = bytes([number]) * 30_000
        data[f"gpc1/MD01/o{number:02}.XY01/{number}.fits"] = content
        data[f"gpc1/MD01/o{number:02}.XY02/b.fits"] = content[:9]
    assert {path: content for path, content in follower.content("data").items() if path in data} == data
    tree_is_true(follower.root, PRODUCT, set(release.products[PRODUCT]))
    assert leftovers(follower.root) == []
    assert not (follower.root / "workers").exists()


def test_all_take_part_and_together_keep_to_the_connections(site, release, crowd, bundles):
    # No more filesets in progress than the connections allow, so that each process gets some.
    site.workers = 1
    update = site.update()
    others = [site.worker() for _ in range(2)]
    site.all_have_filesets_in_progress(bundles, [update, *others])
    bundles.open()
    endings = [other.wait() for other in others]
    end = update.wait()
    assert [end.code, *(ending.code for ending in endings)] == [0, 0, 0], end.output
    assert sum(done_in(ending.output) for ending in endings) < FILESETS
    assert not any("; nothing fetched" in ending.output for ending in endings)
    assert summary(end.output) == numbers(FILESETS, FILESETS, FILESETS)
    assert crowd.most <= CONNECTIONS
    complete(site.follower, release)
    again = ended(luigi_command(site.follower, site.port))
    assert (again.code, summary(again.output)) == (0, numbers())


@pytest.mark.parametrize("server_of", [postgresql, pytest.param(mariadb, marks=pytest.mark.long)])
def test_workers_catalog_filesets_that_are_selected_by_what_the_catalog_knows(
    server_of, site, upstream, bundles
):
    follower, site.workers = site.follower, 1
    place = {"ra": 35.9, "dec": -4.3, "radius": 1}
    select = [{"stage": "chip"}, {"near": place, "unknown": False, "stage": "warp"}]
    follower.mirror = {"products": [{"name": PRODUCT, "select": select}]}

    def add(stage: str, number: int, exposure: int, ra: float) -> str:
        name = f"o{exposure}.{stage}.{number}"
        known = {"stage": stage, "stage_id": str(number), "exp_name": f"o{exposure}"}
        add_chips(upstream, name, number, {f"{name}.fits": image_bytes(ra=ra)}, component=name, **known)
        return name

    with server_of() as url:
        follower.catalog |= {"enabled": True, "url": url}
        bundles.open()
        near = {add("chip", number, number, 35.9) for number in (1, 2)}
        far = {add("chip", 3, 3, 80.0)}
        assert ended(luigi_command(follower, site.port)).code == 0
        bundles.free = bundles.passed
        near |= {add("warp", number, 1 + number % 2, 35.9) for number in range(4)}
        # An exposure that is known to lie elsewhere, and one of which nothing is known.
        for exposure in (3, 4):
            add("warp", 10 + exposure, exposure, 35.9)
        update = site.update()
        worker = site.worker()
        until(lambda: site.fetching(update) and site.fetching(worker), "some process gets no filesets")
        bundles.open()
        ending, end = worker.wait(), update.wait()
        assert (end.code, ending.code) == (0, 0), end.output + ending.output
        assert 0 < done_in(ending.output) < 4
        for kind in ("extracted", "cataloged"):
            assert follower.marked(kind, PRODUCT) == near | far, end.output
        before = content_of(url_database(url))
        command = [sys.executable, "-m", "tasks", "catalog", "rebuild", "--config", str(follower.config)]
        assert ended(command).code == 0
        assert content_of(url_database(url)) == before


def test_nobody_keeps_more_than_its_share(site, release, crowd, bundles):
    # More than there are connections: the first to ask could have them all.
    site.workers = 2 * CONNECTIONS
    update = site.update()
    until(lambda: site.fetching(update) == CONNECTIONS, "the update does not use its connections")
    processes = [update, site.worker(), site.worker()]

    def shared() -> bool:
        fetching = [site.fetching(process) for process in processes]
        if sum(fetching) < CONNECTIONS:
            # The place of a fileset that is complete is not taken yet.
            return False
        bundles.free += bundles.passed == bundles.free and max(fetching) > 3
        return max(fetching) == 3

    until(shared, "somebody has more than its share")
    bundles.open()
    endings = [process.wait() for process in processes]
    assert [ending.code for ending in endings] == [0, 0, 0], [ending.output for ending in endings]
    complete(site.follower, release)


def test_a_worker_waits_until_a_fileset_uses_no_more_than_its_share(site, upstream, server):
    upstream.add(PRODUCT, "many", [File(f"{number}.fits", b"x" * number) for number in range(30)])
    event = Event()
    server.faults.append(gate(event, f"{PRODUCT}/many/*.fits"))
    crowd = Crowd()
    server.faults.append(crowd.fault())
    update = site.update()
    until(lambda: crowd.now == CONNECTIONS, "the update does not use its connections")
    worker = site.applicant()
    assert not worker.ends_within(4 * SEEN_SECONDS)
    assert site.notice["admitted"] == []
    event.set()
    until(lambda: site.notice == {} or site.notice["admitted"], "the worker is not admitted")
    assert (update.wait().code, worker.wait().code) == (0, 0)
    assert site.follower.content("store") == served_filesets(upstream)
    assert crowd.most == CONNECTIONS


def test_a_fileset_that_fails_in_a_worker_fails_once(site, release, crowd, bundles):
    wrong = name_of(FILESETS - 5)
    path = release.path(PRODUCT, wrong, f"{wrong}.XY01.tgz")
    path.write_bytes(b"?" * path.stat().st_size)
    update = site.update()
    others = [site.worker(), site.worker()]
    bundles.open()
    endings = [other.wait() for other in others]
    end = update.wait()
    assert end.code == 30, end.output
    failed = [ending.code for ending in endings]
    assert set(failed) <= {0, 30}
    assert summary(end.output) == numbers(FILESETS, FILESETS, FILESETS - 1, 1)
    told = "".join([end.output, *(ending.output for ending in endings)])
    assert len(re.findall(rf"^fileset {PRODUCT}/{wrong}: ", told, re.MULTILINE)) == 1
    record = site.follower.root / "state" / PRODUCT / "failed" / f"{wrong}.json"
    assert json.loads(record.read_text())["attempts"] == 1
    assert site.follower.marked("extracted", PRODUCT) == set(release.products[PRODUCT]) - {wrong}


def test_a_worker_that_is_killed_is_taken_over(site, release, crowd, bundles):
    update = site.update()
    worker = site.worker()
    site.all_have_filesets_in_progress(bundles, [update, worker])
    worker.send(signal.SIGKILL)
    bundles.open()
    end = update.wait()
    assert end.code == 0, end.output
    assert summary(end.output) == numbers(FILESETS, FILESETS, FILESETS)
    complete(site.follower, release)


def test_when_the_update_is_killed_its_workers_end_and_publish_nothing_more(site, release, crowd, bundles):
    update = site.update()
    worker = site.worker()
    site.all_have_filesets_in_progress(bundles, [update, worker])
    update.send(signal.SIGKILL)
    update.wait()
    ending = worker.wait()
    assert ending.code == 35, ending.output
    assert "the update that it takes part in is gone" in ending.output
    before = site.follower.marked("downloaded", PRODUCT)
    bundles.open()
    assert site.follower.marked("downloaded", PRODUCT) == before
    end = ended(luigi_command(site.follower, site.port))
    assert end.code == 0, end.output
    complete(site.follower, release)


def test_the_next_update_names_a_worker_that_does_not_end(site, release, crowd, bundles):
    """One that hangs may go on any moment: nobody else may begin before it is gone."""
    update = site.update()
    worker = site.worker()
    site.all_have_filesets_in_progress(bundles, [update, worker])
    worker.send(signal.SIGSTOP)
    update.send(signal.SIGKILL)
    update.wait()
    refused = ended(luigi_command(site.follower, site.port))
    assert refused.code == 10, refused.output
    assert f"process {worker.pid} on " in refused.output
    worker.send(signal.SIGCONT)
    assert worker.wait().code == 35
    bundles.open()
    assert ended(luigi_command(site.follower, site.port)).code == 0
    complete(site.follower, release)


def test_an_update_that_is_stopped_lets_its_workers_finish(site, release, crowd, bundles):
    update = site.update()
    worker = site.worker()
    site.all_have_filesets_in_progress(bundles, [update, worker])
    update.send(signal.SIGTERM)
    until(lambda: site.notice["ending"], "the workers get no notice")
    assert not update.ends_within(SEEN_SECONDS)
    bundles.open()
    assert (update.wait().code, worker.wait().code) == (25, 25)
    done = site.follower.marked("extracted", PRODUCT)
    assert done == site.follower.marked("downloaded", PRODUCT)
    assert 4 <= len(done) < FILESETS
    assert leftovers(site.follower.root) == []
    assert ended(luigi_command(site.follower, site.port)).code == 0
    complete(site.follower, release)


def test_a_worker_that_is_stopped_finishes_and_the_update_goes_on(site, release, crowd, bundles):
    update = site.update()
    worker = site.worker()
    site.all_have_filesets_in_progress(bundles, [update, worker])
    worker.request_stop()
    bundles.open()
    ending = worker.wait()
    assert ending.code == 25, ending.output
    end = update.wait()
    assert (end.code, summary(end.output)) == (
        0,
        numbers(FILESETS, FILESETS, FILESETS),
    )
    complete(site.follower, release)


def test_without_an_update_there_is_nothing_to_take_part_in(site, release):
    alone = site.applicant().wait()
    assert alone.code == 10
    assert "expected an update of this mirror that runs with a central scheduler" in alone.output
    assert "Traceback" not in alone.output


def test_an_update_with_a_local_scheduler_takes_no_workers(site, release, bundles, server, tmp_path):
    with started(site.follower.command(), tmp_path / "local.log") as update:
        until(lambda: len(server.requests) > 3, "the update does not begin")
        assert site.applicant().wait().code == 10
        bundles.open()
        assert update.wait().code == 0


def test_a_worker_without_the_scheduler_of_the_update(site, release, bundles, tmp_path):
    update = site.update()
    local = ended([*site.follower.command(), "--assistant"])
    assert (local.code, "expected the central scheduler of the update, got a local one" in local.output) == (
        35,
        True,
    )
    nobody = ended(luigi_command(site.follower, free_port(), "--assistant"))
    assert (nobody.code, "no valid response from Luigi's scheduler" in nobody.output) == (35, True)
    (tmp_path / "other").mkdir()
    other = Scheduler(tmp_path / "other", free_port())
    running = other.start()
    try:
        wrong = ended(luigi_command(site.follower, other.port, "--assistant"))
    finally:
        running.kill()
    assert (wrong.code, "expected the scheduler of the update" in wrong.output) == (35, True)
    bundles.open()
    assert update.wait().code == 0


def test_a_worker_with_other_settings_is_refused(site, release, bundles, tmp_path):
    update = site.update()
    other = Follower(
        tmp_path / "elsewhere", site.follower.url, {"connections": 3}, {"root": str(site.follower.root)}
    )
    other.folder.mkdir()
    refused = ended(luigi_command(other, site.port, "--assistant"))
    assert refused.code == 40
    assert "expected the settings and the program of the update" in refused.output
    bundles.open()
    assert update.wait().code == 0


def test_the_assist_command(site, release, bundles):
    update = site.update()
    command = [sys.executable, "-m", "tasks", "assist", "--mirror-config", str(site.follower.config)]
    log = site.follower.folder / "assist.log"
    with started(
        [*command, "--scheduler-host", "127.0.0.1", "--scheduler-port", str(site.port)], log
    ) as other:
        until(lambda: other.ended or site.notice["admitted"], "the worker is not admitted")
        bundles.open()
        ending = other.wait()
    assert (ending.code, done_in(ending.output) >= 0) == (0, True)
    assert update.wait().code == 0
    complete(site.follower, release)
