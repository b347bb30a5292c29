"""The scheduler that an update uses without being asked to: this user's own, and no other."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.command import REPOSITORY
from support.follower import Follower
from support.running import Scheduler, free_port

from tasks.runtime.own_scheduler import is_own_scheduler

OURS = b'{"response": {"enabled": true, "several": true}}'
OTHERS = [b'{"response": {"enabled": true}}', b'{"response": ["several"]}', b"{}", b"[]", b"<html>", b""]


class Answering(HTTPServer):
    """A server that sends the same answer to each request."""

    def __init__(self, answer: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


@pytest.mark.parametrize("plain", [False, True], ids=["central", "luigid"])
def test_of_two_schedulers_of_this_user_only_the_projects_own(plain, tmp_path: Path):
    scheduler = Scheduler(tmp_path, free_port(), plain)
    running = scheduler.start()
    try:
        assert is_own_scheduler(scheduler.port) is not plain
    finally:
        running.kill()
    assert not is_own_scheduler(scheduler.port)


@pytest.mark.parametrize("answer", OTHERS)
def test_another_program_of_this_user(answer):
    with Answering(answer) as server:
        assert not is_own_scheduler(server.server_port)


def test_a_program_of_this_user_that_does_not_answer_may_be_one_that_is_busy():
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        is_own_scheduler(silent.getsockname()[1], seconds=0.1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can listen as another user")
def test_a_program_of_another_user_whatever_it_answers():
    with Answering(OURS) as server:
        assert is_own_scheduler(server.server_port)
    os.seteuid(65_534)
    try:
        server = Answering(OURS)
    finally:
        os.seteuid(0)
    with server:
        assert not is_own_scheduler(server.server_port)


@pytest.fixture
def alone() -> Iterator[list[str]]:
    """The beginning of a command that has a network of its own, in which port 8082 is free."""
    command = ["unshare", "--map-root-user", "--net", "sh", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "ip link set lo up"], check=False).returncode
    ):
        pytest.skip("needs the unshare command, and the right to make a network")
    return command


UPDATE = """
ip link set lo up
{scheduler} >/dev/null 2>&1 &
until {python} -c 'import socket; socket.create_connection(("127.0.0.1", 8082))' 2>/dev/null
do sleep 0.1
done
{python} -m tasks update --config {config}
kill $!
wait
"""


SILENT = 'import socket, time; held = socket.create_server(("127.0.0.1", 8082)); time.sleep(600)'


@pytest.mark.parametrize(
    ("scheduler", "line"),
    [
        ("{python} -m tasks scheduler --state-path {state}", "scheduler: http://127.0.0.1:8082/"),
        ("luigid --state-path {state}", "scheduler: local, as the program at http://127.0.0.1:8082/ is no "),
        (
            f"{{python}} -c '{SILENT}'",
            "scheduler: local, as the program at http://127.0.0.1:8082/ gives no answer within 10 s",
        ),
    ],
)
def test_an_update_beside_a_scheduler(scheduler, line, alone, tmp_path: Path):
    follower = Follower(tmp_path, "http://127.0.0.1:1/ds", {"attempts": 1})
    words = {"python": sys.executable, "state": tmp_path / "state.pickle"}
    script = UPDATE.format(scheduler=scheduler.format(**words), config=follower.config, **words)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        [*alone, script],
        cwd=REPOSITORY,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    first, *rest = ended.stdout.splitlines()
    assert first.startswith(line), ended.stdout + ended.stderr
    assert any("connection refused by 127.0.0.1:1" in each for each in rest + ended.stderr.splitlines())
