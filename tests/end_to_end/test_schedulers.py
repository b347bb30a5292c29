"""What the client of a central scheduler puts off, asks for at once, and has forgotten."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from conftest import Follower, Upstream
from luigi.rpc import RPCError
from luigi.scheduler import DONE
from running import Scheduler, free_port, gate, luigi_command, started, until

import tasks.runtime.schedulers
from tasks.runtime.schedulers import CentralScheduler

SHOWN = 5

# An update that calls the scheduler for nothing but filesets.
SILENT = """
import tasks.runtime.worker as worker
from luigi.cmdline import luigi_run

worker.PRUNE_SECONDS = worker.REMIND_SECONDS = 1e9
luigi_run()
"""


@pytest.fixture
def client(request, tmp_path: Path, monkeypatch) -> Iterator[CentralScheduler]:
    """A client of a scheduler of its own: the project's; with the parameter "luigid" Luigi's."""
    monkeypatch.setattr(tasks.runtime.schedulers, "SHOWN", SHOWN)
    scheduler = Scheduler(tmp_path, free_port(), plain=getattr(request, "param", None) == "luigid")
    running = scheduler.start()
    client = CentralScheduler(f"http://127.0.0.1:{scheduler.port}")
    client._rpc_retry_attempts = 1
    yield client
    client.close()
    running.kill()


plain = pytest.mark.parametrize("client", ["luigid"], indirect=True)


def elsewhere(client: CentralScheduler) -> set[str]:
    """The tasks that the scheduler knows, as anybody else is told, who sees nothing of what was put off."""
    other = CentralScheduler(client._url)
    known: dict[str, object] = other.task_list(status="", upstream_status="")
    other.close()
    return set(known)


def add(client: CentralScheduler, *names: str, worker: str = "w") -> None:
    for name in names:
        client.add_task(task_id=name, worker=worker, family="F")


def work(client: CentralScheduler, *current: str, worker: str = "w") -> str | None:
    return client.get_work(worker=worker, host="h", assistant=False, current_tasks=list(current))["task_id"]


def test_tasks_are_added_with_the_next_call_that_wants_an_answer(client):
    add(client, "a", "b")
    assert elsewhere(client) == set()
    assert client.count_pending(worker="w")["n_pending_tasks"] == 2
    assert elsewhere(client) == {"a", "b"}


def test_tasks_are_added_when_somebody_is_about_to_wait(client):
    add(client, "a")
    client.catch_up()
    assert elsewhere(client) == {"a"}
    add(client, "b")
    assert elsewhere(client) == {"a"}


def test_another_thread_says_what_it_says_at_once_and_nothing_else(client):
    add(client, "a")
    thread = threading.Thread(target=add, args=(client, "b"))
    thread.start()
    thread.join()
    assert elsewhere(client) == {"b"}
    client.catch_up()
    assert elsewhere(client) == {"a", "b"}


def test_free_hands_get_work_at_once(client):
    add(client, "a", "b", "c", "d")
    client.hands = 3
    first = work(client)
    assert client.has_handed_out
    # Whoever else asks now gets what is left.
    add(client, "a", "b", "c", "d", worker="other")
    client.catch_up()
    second = work(client, first)
    third = work(client, first, second)
    assert not client.has_handed_out
    client.hands = 1
    fourth = work(client, worker="other")
    assert {first, second, third, fourth} == {"a", "b", "c", "d"}
    assert work(client, first, second, third) is None


def test_nobody_gives_back_what_somebody_else_has(client):
    """As when the answer to a first try was lost, and the task is with another by the time of the second."""
    add(client, "a", worker="other")
    assert work(client, worker="other") == "a"
    client._send([("give_back", {"worker": "w", "task_ids": ["a", "unknown"]})])
    add(client, "a", worker="third")
    assert work(client, worker="third") is None


def test_where_there_is_no_more_work_the_answer_says_so(client):
    add(client, "a")
    client.hands = 8
    assert work(client) == "a"
    assert client.has_handed_out
    assert work(client, "a") is None
    assert not client.has_handed_out


def test_what_was_handed_out_and_not_begun_is_given_back(client):
    add(client, "a", "b", "c")
    client.hands = 2
    begun = work(client)
    client.hand_back("w")
    assert not client.has_handed_out
    add(client, "a", "b", "c", worker="other")
    client.hands = 8
    others = {work(client, worker="other"), work(client, worker="other")}
    assert others == {"a", "b", "c"} - {begun}
    assert work(client, *others, worker="other") is None


def test_all_but_the_last_settled_tasks_are_forgotten(client):
    names = [f"t{number}" for number in range(12)]
    for name in names:
        client.add_task(task_id=name, worker="w", family="F", status=DONE)
        client.settle([name])
    add(client, "open")
    client.catch_up()
    assert elsewhere(client) == {*names[-SHOWN:], "open"}
    assert client.count_pending(worker="w")["n_pending_tasks"] == 1


def test_only_calls_of_a_scheduler_are_made(client):
    with pytest.raises(RPCError):
        client._send([("dump", {})])
    assert client.count_pending(worker="w")["n_pending_tasks"] == 0


@plain
def test_luigis_own_scheduler_gets_every_call_by_itself(client):
    add(client, "a", "b", "c")
    assert elsewhere(client) == {"a", "b", "c"}
    client.hands = 3
    first = work(client)
    assert not client.has_handed_out
    client.hand_back("w")
    client.add_task(task_id=first, worker="w", family="F", status=DONE)
    client.settle([first] * (SHOWN + 1))
    client.catch_up()
    assert elsewhere(client) == {"a", "b", "c"}
    assert work(client) in {"a", "b", "c"} - {first}


def test_what_is_done_is_told_while_the_update_waits(
    client, upstream: Upstream, follower: Follower, server, tmp_path
):
    opened = Event()
    server.faults.append(gate(opened, "p/last/*.tgz"))
    for number, name in enumerate(["first", "second", "last"]):
        upstream.add_bundles("p", name, {"XY01": {f"{number}.fits": b"a" * 1000}})
    command = luigi_command(follower, int(client._url.rpartition(":")[2]))
    with started([sys.executable, "-c", SILENT, *command[1:]], tmp_path / "output") as update:
        until(lambda: len(extracted(client)) == 2 or update.ended, "the scheduler is not told")
        opened.set()
        assert update.wait().code == 0, update.output
    assert len(extracted(client)) == 3


def extracted(client: CentralScheduler) -> list[str]:
    done: dict[str, object] = client.task_list(status=DONE, upstream_status="")
    return [task for task in done if task.startswith("ExtractFileset")]


def test_a_password_of_netrc_is_for_the_scheduler_too(monkeypatch, tmp_path):
    """Luigi's own way of asking sends it."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ipp password secret\n")
    netrc.chmod(0o600)
    assert isinstance(CentralScheduler("http://127.0.0.1:1")._fetcher, tasks.runtime.schedulers._PlainFetcher)
    monkeypatch.setenv("NETRC", str(netrc))
    assert not isinstance(
        CentralScheduler("http://127.0.0.1:1")._fetcher, tasks.runtime.schedulers._PlainFetcher
    )
