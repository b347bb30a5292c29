"""Client of a central scheduler: deferred calls, several in one request, forgotten tasks."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import requests
from luigi.scheduler import DONE, RUNNING
from support.follower import Follower
from support.running import Scheduler, free_port, gate, luigi_command, started, until
from support.upstream import Upstream

from tasks.runtime.schedulers import CentralScheduler, LocalScheduler

SHOWN = 5


@pytest.fixture
def url(request, tmp_path: Path) -> Iterator[str]:
    """The address of a scheduler: the project's; with the parameter "luigid" Luigi's."""
    scheduler = Scheduler(tmp_path, free_port(), plain=getattr(request, "param", None) == "luigid")
    running = scheduler.start()
    yield f"http://127.0.0.1:{scheduler.port}"
    running.kill()


@pytest.fixture
def client(url: str) -> Iterator[CentralScheduler]:
    client = CentralScheduler(url, SHOWN)
    yield client
    client.close()


plain = pytest.mark.parametrize("url", ["luigid"], indirect=True)


def known(url: str) -> set[str]:
    """The tasks that the scheduler knows, as any other client finds."""
    other = CentralScheduler(url)
    tasks: dict[str, object] = other.task_list(status="", upstream_status="")
    other.close()
    return set(tasks)


def add(client: CentralScheduler | LocalScheduler, *names: str, worker: str = "w") -> None:
    for name in names:
        client.add_task(task_id=name, worker=worker, family="F")


def work(client: CentralScheduler, *current: str, worker: str = "w") -> str | None:
    return client.get_work(worker=worker, host="h", assistant=False, current_tasks=list(current))["task_id"]


def test_tasks_are_added_with_the_next_call_that_has_an_answer(client, url):
    add(client, "a", "b")
    assert known(url) == set()
    assert client.count_pending(worker="w")["n_pending_tasks"] == 2
    assert known(url) == {"a", "b"}


def test_tasks_are_added_by_flush(client, url):
    add(client, "a")
    client.flush()
    assert known(url) == {"a"}
    add(client, "b")
    assert known(url) == {"a"}


def test_another_thread_adds_its_tasks_at_once_and_no_others(client, url):
    add(client, "a")
    thread = threading.Thread(target=add, args=(client, "b"))
    thread.start()
    thread.join()
    assert known(url) == {"b"}
    client.flush()
    assert known(url) == {"a", "b"}


def test_each_request_for_work_gives_one_task(client):
    add(client, "a", "b")
    first = work(client)
    second = work(client, first)
    assert {first, second} == {"a", "b"}
    assert work(client, first, second) is None


@pytest.mark.parametrize("url", ["central", "luigid"], indirect=True)
def test_works_are_tasks_until_there_is_none(client, url):
    add(client, "a", "b", "c")
    running: list[str] = []
    for most in (0, 2, 9, 9):
        works = client.get_works(most, "w", "h", running)
        assert len(works) <= most
        running += [work["task_id"] for work in works if work["task_id"] is not None]
    assert sorted(running) == ["a", "b", "c"]
    assert works[-1]["task_id"] is None


def test_works_come_in_one_request(client, url):
    add(client, "a", "b", "c")
    assert [work["task_id"] is not None for work in client.get_works(9, "w", "h", [])] == [True] * 3 + [False]


def test_a_result_frees_the_next_step_in_the_same_request(client):
    add(client, "first")
    client.add_task(task_id="second", worker="w", family="F", deps=["first"])
    assert work(client) == "first"
    assert work(client, "first") is None
    client.add_task(task_id="first", worker="w", family="F", status=DONE)
    assert work(client) == "second"


def test_all_but_the_last_completed_tasks_are_forgotten(client, url):
    names = [f"t{number}" for number in range(12)]
    for name in names:
        client.add_task(task_id=name, worker="w", family="F", status=DONE)
        client.forget_completed([name])
    add(client, "open")
    client.flush()
    assert known(url) == {*names[-SHOWN:], "open"}
    assert client.count_pending(worker="w")["n_pending_tasks"] == 1


def test_a_local_scheduler_forgets_at_once():
    scheduler = LocalScheduler()
    add(scheduler, "a", "b")
    scheduler.add_task(task_id="a", worker="w", family="F", status=DONE)
    scheduler.forget_completed(["a", "unknown"])
    assert set(scheduler.task_list(status="", upstream_status="")) == {"b"}
    assert scheduler.count_pending(worker="w")["n_pending_tasks"] == 1


@pytest.mark.parametrize("calls", [[("dump", {})], [("__init__", {})], "nonsense"])
def test_only_calls_of_a_scheduler_are_made(calls, client, url):
    answer = requests.post(f"{url}/api/several", data={"data": json.dumps({"calls": calls})}, timeout=30)
    assert answer.status_code == 500
    assert client.count_pending(worker="w")["n_pending_tasks"] == 0


@plain
def test_luigis_own_scheduler_gets_every_call_by_itself_and_keeps_all(client, url):
    add(client, "a", "b", "c")
    assert known(url) == {"a", "b", "c"}
    first = work(client)
    client.add_task(task_id=first, worker="w", family="F", status=DONE)
    client.forget_completed([first] * (SHOWN + 1))
    client.flush()
    assert known(url) == {"a", "b", "c"}
    assert work(client) in {"a", "b", "c"} - {first}


def test_results_are_sent_while_the_update_waits(
    client, url, upstream: Upstream, follower: Follower, server, tmp_path
):
    opened = Event()
    server.faults.append(gate(opened, "p/last/*.tgz"))
    for number, name in enumerate(["first", "second", "last"]):
        upstream.add_bundles("p", name, {"XY01": {f"{number}.fits": b"a" * 1000}})
    command = luigi_command(follower, int(url.rpartition(":")[2]))
    with started(command, tmp_path / "output") as update:
        until(lambda: len(extracted(client)) == 2 or update.ended, "the scheduler is not told")
        opened.set()
        assert update.wait().code == 0, update.output
    assert len(extracted(client)) == 3


def extracted(client: CentralScheduler) -> list[str]:
    done: dict[str, object] = client.task_list(status=DONE, upstream_status="")
    return [task for task in done if task.startswith("ExtractFileset")]


@pytest.mark.parametrize("url", ["project", "luigid"], indirect=True)
def test_work_whose_answer_was_lost_is_handed_out_again(client):
    client.update_resources(connections=2)
    for name in ("a", "b", "c"):
        client.add_task(task_id=name, worker="w", family="F", resources={"connections": 1})
    assert [each["task_id"] for each in client.get_works(1, "w", "h", [])] == ["a"]
    # A client that got no answer makes the request once more, with the same tasks in progress.
    handed = [[each["task_id"] for each in client.get_works(3, "w", "h", ["a"])] for _ in range(3)]
    assert handed == [["b", None]] * 3


def test_the_page_shows_of_a_task_of_a_mirror_its_progress_and_not_its_resources():
    """Tasks of other programs are shown as Luigi shows them."""
    scheduler = LocalScheduler()
    scheduler.update_resources(slots=2)
    added = {"worker": "w", "family": "F", "priority": 7, "resources": {"slots": 1}}
    for name, params in {"ours": {"mirror": "1a2b"}, "others": {"day": "1"}}.items():
        scheduler.add_task(task_id=name, params=params, **added)
        assert scheduler.get_work(worker="w", host="h")["task_id"] == name
        scheduler.set_task_status_message(name, "2 of 6 files")
    keys = ("params", "priority", "resources", "resources_running")
    tasks = scheduler.task_list(status=RUNNING, upstream_status="")
    assert {name: tuple(task[key] for key in keys) for name, task in tasks.items()} == {
        "ours": ({"mirror": "1a2b", "progress": "2 of 6 files"}, None, {}, {}),
        "others": ({"day": "1"}, 7, {"slots": 1}, {"slots": 1}),
    }
    scheduler.add_task(task_id="ours", worker="w", status=DONE)
    done = scheduler.task_list(status=DONE, upstream_status="")
    assert done["ours"]["params"] == {"mirror": "1a2b"}
