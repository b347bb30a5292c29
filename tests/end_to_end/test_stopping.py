"""Stopping on request: what is in progress is finished, nothing new is begun, and the next run goes on."""

import csv
import shutil
import signal
import socket
import sys
from pathlib import Path
from threading import Event
from time import sleep
from urllib.parse import urlsplit

import pytest
from support.follower import Follower
from support.running import (
    SEEN_SECONDS,
    Scheduler,
    free_port,
    gate,
    leftovers,
    luigi_command,
    requested_filesets,
    scheduler_settings,
    started,
    tasks_command,
    until,
)
from support.summary_line import stopped
from support.upstream import Upstream, served_filesets

from pipeline.sample import faults
from pipeline.sample.simulator import simulate

PRODUCT = "md-all-rel-200907"
FILESETS = 14
# So many are fetched at once.
CONNECTIONS = 8
# So many files get through before the gate closes.
FREE = 3


@pytest.fixture(autouse=True)
def limited(follower: Follower) -> None:
    follower.source = {"connections": CONNECTIONS, "timeout": 60}


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    """Filesets of a dirinfo and one bundle each."""
    for number in range(FILESETS):
        name = f"o{number}.chip.{number}.1.1"
        upstream.add_bundles(PRODUCT, name, {"XY01": {f"{number}.fits": bytes([number]) * 30_000}})
    return upstream


@pytest.fixture
def data() -> dict[str, bytes]:
    return {f"gpc1/MD01/o{number}.XY01/{number}.fits": bytes([number]) * 30_000 for number in range(FILESETS)}


@pytest.fixture(params=["local", "central", "luigid"])
def port(request, tmp_path: Path):
    """The port of a central scheduler, or None for a local one."""
    if request.param == "local":
        yield None
        return
    scheduler = Scheduler(tmp_path, free_port(), plain=request.param == "luigid")
    running = scheduler.start()
    yield scheduler.port
    running.kill()


@pytest.fixture
def opened(server):
    """A gate in the middle of the release: bundles after the first few wait for it to open."""
    event = Event()
    server.faults.append(gate(event, f"{PRODUCT}/*/*.tgz", after=FREE))
    yield event
    event.set()


def at_the_gate(server, count: int):
    """Return True if so many filesets are in progress, each waiting for its bundle, behind the free ones."""
    bundles = [entry for entry in server.requests if entry.target.endswith(".tgz")]
    return len(bundles) == FREE + count and sum(entry.status is None for entry in bundles) == count


def complete(follower: Follower, release: Upstream, data: dict[str, bytes]) -> None:
    assert follower.content("store") == served_filesets(release)
    assert follower.content("data") == data
    every = set(release.products[PRODUCT])
    assert follower.marked("downloaded", PRODUCT) == follower.marked("extracted", PRODUCT) == every
    assert follower.marked("failed", PRODUCT) == set()
    assert leftovers(follower.root) == []


@pytest.mark.parametrize(
    ("port", "workers", "number"),
    [
        ("local", 1, signal.SIGTERM),
        ("local", 8, signal.SIGINT),
        ("central", 8, signal.SIGINT),
        ("luigid", 1, signal.SIGTERM),
    ],
    indirect=["port"],
)
def test_filesets_in_progress_finish_and_no_others_start(
    workers, number, port, release, server, follower, opened, data, tmp_path
):
    command = luigi_command(follower, port, "--workers", str(workers))
    with started(command, tmp_path / "output") as update:
        until(lambda: at_the_gate(server, workers), "no bundle was asked for")
        sleep(SEEN_SECONDS)
        in_progress = requested_filesets(server)
        assert len(in_progress) == FREE + workers
        update.request_stop(number)
        opened.set()
        ended = update.wait()
    assert ended.code == 25, ended.output
    assert "Traceback" not in ended.output
    assert requested_filesets(server) == in_progress
    assert follower.marked("downloaded", PRODUCT) == follower.marked("extracted", PRODUCT) == in_progress
    assert leftovers(follower.root) == []
    assert stopped(FILESETS, len(in_progress)) in ended.output
    with open(follower.root / "status" / "product_status.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["known"], row["complete"], row["failed"]) == (str(FILESETS), str(len(in_progress)), "0")

    server.clear()
    with started(luigi_command(follower, port), tmp_path / "output") as update:
        again = update.wait()
    assert again.code == 0, again.output
    assert not requested_filesets(server) & in_progress
    complete(follower, release, data)


def as_make(command: list[str], folder: Path) -> list[str]:
    """The command below make, which passes a SIGTERM on to what it runs."""
    makefile = folder / "Makefile"
    makefile.write_text("update:\n\t@" + " ".join(command) + "\n")
    return ["make", "-f", str(makefile), "update"]


def below_timeout(command: list[str], _: Path) -> list[str]:
    """The command below timeout, which passes a SIGTERM on, and then sends it to the whole group."""
    return ["timeout", "600", *command]


def below_shell(command: list[str], _: Path) -> list[str]:
    return ["sh", "-c", f"{' '.join(command)}; exit $?"]


def test_make_update_is_stopped_in_the_same_way(port, release, server, follower, opened, data, tmp_path):
    command = tasks_command(follower, "--scheduler-port", str(port or free_port()))
    with started(command, tmp_path / "output") as update:
        until(lambda: at_the_gate(server, CONNECTIONS), "no bundle was asked for")
        update.request_stop()
        opened.set()
        ended = update.wait()
    assert ended.code == 25, ended.output
    assert ended.output.startswith(
        "scheduler: local" if port is None else f"scheduler: http://127.0.0.1:{port}"
    )
    assert len(follower.marked("extracted", PRODUCT)) == FREE + CONNECTIONS
    assert follower.update().code == 0
    complete(follower, release, data)


@pytest.mark.parametrize(
    ("wrapped", "number"),
    [
        (below_shell, signal.SIGINT),
        (as_make, signal.SIGTERM),
        (as_make, signal.SIGINT),
        (below_timeout, signal.SIGTERM),
    ],
)
def test_a_signal_to_the_process_group_is_one_request(
    wrapped, number, release, server, follower, opened, data, tmp_path
):
    command = wrapped(tasks_command(follower), tmp_path)
    with started(command, tmp_path / "output", scheduler_settings(tmp_path, None)) as update:
        until(lambda: at_the_gate(server, CONNECTIONS), "no bundle was asked for")
        update.send_group(number)
        until(lambda: "stopping after what is in progress" in update.output, "the signal is not seen")
        sleep(SEEN_SECONDS)
        opened.set()
        update.wait()
    done = follower.marked("extracted", PRODUCT)
    assert len(done) == FREE + CONNECTIONS, update.output
    assert follower.marked("downloaded", PRODUCT) == done
    assert stopped(FILESETS, len(done)) in update.output
    assert leftovers(follower.root) == []
    assert follower.update().code == 0
    complete(follower, release, data)


@pytest.mark.parametrize("port", ["local", "central"], indirect=True)
def test_a_second_signal_ends_at_once(port, release, server, follower, opened, data, tmp_path):
    with started(luigi_command(follower, port), tmp_path / "output") as update:
        until(lambda: at_the_gate(server, CONNECTIONS), "no bundle was asked for")
        update.request_stop()
        sleep(SEEN_SECONDS)
        assert not update.ended, "what is in progress was aborted at the first signal"
        update.send(signal.SIGTERM)
        ended = update.wait()
    assert ended.code == 25, ended.output
    assert not opened.is_set()
    opened.set()
    with started(luigi_command(follower, port), tmp_path / "output") as update:
        assert update.wait().code == 0, update.output
    complete(follower, release, data)


def test_a_stop_does_not_wait_for_a_server_that_asked_to_come_back_later(release, server, follower, tmp_path):
    server.faults.append(faults.fails(503, retry_after="3600", target=f"{PRODUCT}/*/*.tgz"))
    with started(follower.command(), tmp_path / "output") as update:
        until(lambda: any(entry.status == 503 for entry in server.requests), "nothing was refused")
        sleep(SEEN_SECONDS)
        update.send(signal.SIGTERM)
        ended = update.wait()
    assert ended.code in {25, 30}, ended.output
    assert "Traceback" not in ended.output


def test_a_stop_does_not_wait_for_a_server_that_trickles(release, server, follower, data, tmp_path):
    follower.source |= {"timeout": 3600, "connections": 4}
    delayed = [f"{PRODUCT}/o{number}.*/{name}" for number, name in enumerate(["*.tgz", "*.tgz", "index.txt"])]
    trickling = [faults.throttles(20), faults.stalls(after=10), faults.sends_interim(0.2)]
    for fault, fault.target in zip(trickling, delayed, strict=True):
        server.faults.append(fault)
    with started(follower.command(), tmp_path / "output") as update:
        until(lambda: all(fault.used for fault in trickling), "not all were asked for")
        sleep(SEEN_SECONDS)
        update.send(signal.SIGTERM)
        ended = update.wait()
    assert ended.code == 25, ended.output
    assert ended.output.count("aborted: ") == 1
    assert "2 more filesets failed for the same reason" in ended.output
    assert "Traceback" not in ended.output
    assert [fault.used for fault in trickling] == [1, 1, 1]
    server.faults.clear()
    assert follower.update().code == 0
    complete(follower, release, data)


@pytest.mark.parametrize("target", ["index.txt", f"{PRODUCT}/index.txt"])
def test_a_stop_between_two_tries_of_a_listing(target, release, server, follower, tmp_path):
    server.faults.append(faults.fails(503, retry_after="3600", target=target))
    with started(follower.command(), tmp_path / "output") as update:
        until(lambda: any(entry.status == 503 for entry in server.requests), "nothing was refused")
        sleep(SEEN_SECONDS)
        update.send(signal.SIGTERM)
        ended = update.wait()
    assert ended.code == 25, ended.output
    assert "Traceback" not in ended.output
    assert not (follower.root / "state" / PRODUCT / "listing_failure.json").exists()


@pytest.mark.parametrize(
    ("target", "number"), [("index.txt", signal.SIGTERM), (f"{PRODUCT}/index.txt", signal.SIGINT)]
)
def test_a_stop_while_the_server_is_asked_what_is_new(
    target, number, release, server, follower, data, tmp_path
):
    event = Event()
    server.faults.append(gate(event, target))
    with started(follower.command(), tmp_path / "output") as update:
        until(
            lambda: any(entry.target == f"/ds/{target}" for entry in server.requests),
            "no listing was asked for",
        )
        sleep(SEEN_SECONDS)
        update.request_stop(number)
        event.set()
        ended = update.wait()
    assert ended.code == 25, ended.output
    assert "Traceback" not in ended.output
    assert requested_filesets(server) == set()
    assert follower.update().code == 0
    complete(follower, release, data)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_stop_just_before_the_filesets_are_submitted(release, server, follower, data, tmp_path):
    """strace holds the update up between the listing and the first fileset."""
    incoming = follower.root / "incoming" / PRODUCT
    incoming.mkdir(parents=True)
    trace = tmp_path / "trace"
    slow = ["-P", str(incoming), "-e", "trace=openat", "-e", "inject=openat:delay_enter=3000000"]
    command = ["strace", "-f", "-qqq", "-o", str(trace), *slow, *follower.command()]
    with started(command, tmp_path / "output") as update:
        until((follower.root / "state" / PRODUCT / "discovered.json").exists, "no listing came")
        # The line of a call ends with its result.
        until(lambda: not trace.read_text().endswith("\n"), "the update is not held up")
        update.send_group(signal.SIGTERM)
        ended = update.wait()
    assert ended.code == 25, ended.output
    assert requested_filesets(server) == set()
    assert follower.update().code == 0
    complete(follower, release, data)


def test_a_stop_does_not_wait_for_a_scheduler_that_is_silent(release, server, follower, data, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = luigi_command(follower, silent.getsockname()[1])
        with started(command, tmp_path / "output") as update, silent.accept()[0]:
            sleep(SEEN_SECONDS)
            update.send(signal.SIGTERM)
            assert update.ends_within(8), "it waits for the scheduler, which has 10 seconds to answer"
            ended = update.wait()
    assert ended.code == 25, ended.output
    assert ended.output.splitlines()[-1].startswith("filesets: none tried; ")
    assert follower.update().code == 0
    complete(follower, release, data)


def test_what_answers_is_no_scheduler(release, server, follower, data, tmp_path):
    with simulate(tmp_path / "nothing") as other:
        other.faults.append(faults.says(b"{}", target="*"))
        with started(luigi_command(follower, int(urlsplit(other.url).port)), tmp_path / "output") as update:
            ended = update.wait()
    assert ended.code == 35, ended.output
    assert ended.output.startswith("no valid response from Luigi's scheduler: that of another program")
    assert "Traceback" not in ended.output
    assert requested_filesets(server) == set()
    assert follower.update().code == 0
    complete(follower, release, data)


@pytest.mark.parametrize(("begun_by", "number"), [("luigi", signal.SIGTERM), ("tasks", signal.SIGINT)])
def test_a_stop_before_anything_has_begun(begun_by, number, release, server, follower, data, tmp_path):
    """The program is held up while it imports its own parts."""
    command = follower.command() if begun_by == "luigi" else tasks_command(follower)[2:]
    with started([sys.executable, "-c", SLOW_IMPORT, *command], tmp_path / "output") as update:
        until(lambda: "importing" in update.output, "it does not start")
        update.send(number)
        ended = update.wait()
    assert ended.code == 25, ended.output
    assert ended.output.splitlines()[1:] == [STOPPED_EARLY]
    assert server.requests == []
    assert not follower.root.exists()
    assert follower.update().code == 0
    complete(follower, release, data)


STOPPED_EARLY = "ipp-mirror: stopped on request before anything was started; the next run goes on."
SLOW_IMPORT = """
import runpy, sys, time
class Slow:
    def find_spec(name, *_):
        if name == "tasks.verify":
            print("importing", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow)
del sys.argv[0]
if sys.argv[0] == "tasks":
    runpy.run_module("tasks", run_name="__main__", alter_sys=True)
else:
    from luigi.cmdline import luigi_run
    luigi_run(sys.argv[1:])
"""
