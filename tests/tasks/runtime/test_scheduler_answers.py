"""Answers of a scheduler that are not what was asked for: its error, never one of this program."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import luigi.configuration
import pytest
from luigi.rpc import RPCError

from tasks.runtime.schedulers import CentralScheduler, fail_tasks_of

NEITHER = [b"", b"{}", b"[]", b"1", b"null", b"\xff", b"<html>", b"[" * 100_000]
ODD = ["text", 1, True, {"a": 1}, ["text"], [1], [None], [[]], [{}]]


class Scripted(HTTPServer):
    """A scheduler that answers each call as told."""

    def __init__(self) -> None:
        self.answers: dict[str, object] = {"is_pause_enabled": {"enabled": True}}
        self.body: bytes | None = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                body = server.body
                if body is None:
                    body = json.dumps({"response": server.answers.get(self.path.split("/")[-1])}).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with Scripted() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(scripted: Scripted) -> Iterator[CentralScheduler]:
    luigi.configuration.get_config().set("core", "rpc_retry_wait", "0")
    client = CentralScheduler(f"http://127.0.0.1:{scripted.server_port}")
    yield client
    client.close()


CALLS: dict[str, Callable[[CentralScheduler], object]] = {
    "update_resources": lambda client: client.update_resources(connections=1),
    "get_work": lambda client: client.get_works(2, "w", "h", []),
    "worker_list": lambda client: client.worker_list(),
    "add_task": lambda client: client.add_task(task_id="t", worker="w"),
    "ping": lambda client: client.ping(worker="w"),
}


@pytest.mark.parametrize("body", NEITHER)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_answer_of_a_scheduler(call, body, scripted, client):
    scripted.body = body
    with pytest.raises(RPCError, match="that of another program"):
        call(client)


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize(
    "answer",
    ["text", 1, True, {"task_id": 1}, [1], [None], [[]], [{"task_id": 1}], [{"task_id": ["t"]}], None],
)
def test_offers_of_work_that_are_none(answer, several, scripted, client):
    scripted.answers["is_pause_enabled"] = {"enabled": True, "several": several}
    scripted.answers["several"] = [answer]
    scripted.answers["get_work"] = answer[0] if isinstance(answer, list) else answer
    with pytest.raises(RPCError, match=r"expected|null"):
        client.get_works(2, "w", "h", [])


def test_more_offers_of_work_than_were_asked_for(scripted, client):
    scripted.answers["is_pause_enabled"] = {"several": True}
    scripted.answers["several"] = [[{"task_id": "t"}] * 3]
    with pytest.raises(RPCError, match="expected at most 2 offers"):
        client.get_works(2, "w", "h", [])


WORKERS = [*ODD, [{"name": 1}], [{"name": "w"}], [{"name": "w", "running": ["t"]}], None]


@pytest.mark.parametrize("answer", WORKERS)
def test_workers_that_are_none(answer, scripted, client):
    scripted.answers["worker_list"] = answer
    with pytest.raises(RPCError, match="expected"):
        fail_tasks_of(client, "5f0c", lambda _: True)


@pytest.mark.parametrize("task", [None, 1, {}, {"params": None}, {"params": {"mirror": "other"}}])
def test_a_running_task_of_another_program_is_left_alone(task, scripted, client):
    scripted.answers["worker_list"] = [{"name": "w", "running": {"t": task}}]
    scripted.answers["is_pause_enabled"] = {"several": True}
    scripted.answers["several"] = []
    fail_tasks_of(client, "5f0c", lambda _: True)
    # With a deferred call it would expect an answer.
    client.flush()


def message(name: object = "set_worker_processes", **arguments: object) -> dict[str, object]:
    return {"name": name, "kwargs": arguments}


def test_of_all_messages_only_the_number_of_processes_is_followed(scripted, client):
    good = message(n=3)
    wrong = [
        message(n="3"),
        message(n=True),
        message(n=3, m=1),
        message(),
        message("run"),
        message(["n"], n=3),
    ]
    scripted.answers["ping"] = {"rpc_messages": [*wrong, good, None, 1, {"name": "set_worker_processes"}]}
    assert client.ping(worker="w") == {"rpc_messages": [good]}


@pytest.mark.parametrize("answer", [None, *ODD, {"rpc_messages": None}, {"rpc_messages": {"a": 1}}])
def test_a_ping_without_messages(answer, scripted, client):
    scripted.answers["ping"] = answer
    assert client.ping(worker="w") == {"rpc_messages": []}
