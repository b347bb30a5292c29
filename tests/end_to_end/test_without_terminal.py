"""Updates without what a shell gives them: standard output, a terminal, a name of the user."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from threading import Event
from time import sleep

import pytest
from support.command import COMMAND, REPOSITORY, Ended
from support.running import SEEN_SECONDS, gate, leftovers, requested_filesets, started, until
from support.upstream import File, served_filesets

PRODUCT = "md-all-rel-200907"


def below_shell(command: list[str], redirections: str) -> Ended:
    """The end of a command that a shell starts."""
    shell = ["sh", "-c", f'"$@" {redirections}', "sh", *command]
    result = subprocess.run(
        shell, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return Ended(result.returncode, result.stdout + result.stderr)


@pytest.mark.parametrize("redirections", ["<&- >&- 2>&-", ">/dev/full 2>&1", "2>&1 | true"])
def test_a_run_is_complete_whatever_happens_to_its_output(redirections, release, server, follower):
    result = below_shell(follower.command(), redirections)
    assert result == Ended(0, "")
    assert follower.content("store") == served_filesets(release)
    assert follower.marked("extracted", PRODUCT) == {"o1.chip.1.1.1", "plain"}
    log = (follower.root / "log" / "update_mirror.log").read_text()
    assert "2 extracted, 0 failed, 0 skipped, 0 left" in log


def test_a_command_whose_output_is_lost_says_so(release, server, follower):
    assert follower.update().code == 0
    command = [str(COMMAND), "status", "--config", str(follower.config)]
    full = below_shell(command, ">/dev/full")
    assert full.code == 30
    assert full.output == (
        "ipp-mirror: No space left on device at standard output. "
        "The command is done, its output is incomplete.\n"
    )
    assert below_shell(command, "| true") == Ended(0, "")


@pytest.fixture
def opened(server):
    """A gate before the bundle."""
    event = Event()
    server.faults.append(gate(event, f"{PRODUCT}/*/*.tgz"))
    yield event
    event.set()


@pytest.mark.parametrize("ignored", [False, True], ids=["", "nohup"])
def test_a_terminal_that_is_closed_stops_the_run_like_a_request(
    ignored, release, server, follower, opened, tmp_path
):
    command = [*(["nohup"] if ignored else []), *follower.command("--workers", "1")]
    with started(command, tmp_path / "output") as update:
        until(lambda: any(".tgz" in each.target for each in server.requests), "no bundle was requested")
        sleep(SEEN_SECONDS)
        update.send_group(signal.SIGHUP)
        if ignored:
            sleep(SEEN_SECONDS)
        else:
            until(lambda: "stopping after what is in progress" in update.output, "the signal is not seen")
        opened.set()
        ended = update.wait()
    assert ended.code == (0 if ignored else 25), ended.output
    assert "Traceback" not in ended.output
    assert follower.marked("extracted", PRODUCT) == requested_filesets(server)
    assert leftovers(follower.root) == []


def test_a_user_without_a_name(release, server, follower):
    unnamed = ["unshare", "--user", "--map-user=54321"]
    if shutil.which("unshare") is None or subprocess.run([*unnamed, "true"], capture_output=True).returncode:
        pytest.skip("needs a user namespace")
    release.add(PRODUCT, "wrong", [File("w.fits", b"w", listed={"md5": "0" * 32})])
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}

    def run(*command: object) -> Ended:
        result = subprocess.run(
            [*unnamed, *map(str, command)],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ended(result.returncode, result.stdout + result.stderr)

    updated = run(*follower.command())
    assert updated.code == 30, updated.output
    assert "2 extracted, 1 failed" in updated.output
    skipped = run(COMMAND, "skip", "--config", follower.config, PRODUCT, "wrong", "--reason", "not needed")
    assert skipped.code == 0, skipped.output
    marker = Path(follower.root / "state" / PRODUCT / "skipped" / "wrong.json")
    assert '"by": "54321"' in marker.read_text()
