"""Commands of the administrator, and messages, each in a process that is killed when it takes too long."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from pipeline.errors import MirrorError
from pipeline.names import escaped

_SHOWN = 200
_POLL_SECONDS = 0.1
_SIGNALLED = "cut short by a signal"


class NotNotified(MirrorError):
    """Hook that failed or took too long, or message that was not sent."""


def run_hook(
    command: str, content: str, environment: Mapping[str, str], seconds: float, cut_short: Event
) -> None:
    """Run a command, without a shell, with ``content`` on standard input. Raises NotNotified.

    The command is killed after so many seconds, or once ``cut_short`` is set.
    """
    try:
        code, _, errors = _run(shlex.split(command), content, environment, seconds, cut_short)
    except OSError as error:
        raise NotNotified(f"{command}: {error.strerror}") from None
    if code is None:
        late = f"expected to end within {seconds:.0f} s, and was killed"
        raise NotNotified(f"{command}: {_SIGNALLED if cut_short.is_set() else late}")
    if code:
        said = errors.strip().splitlines()[-1:] or ["nothing on standard error"]
        raise NotNotified(f"{command}: ended with code {code}: {escaped(said[0][:_SHOWN])}")


def addresses(urls: Sequence[str]) -> list[str]:
    """Return the addresses, with those that stand in files and environment variables.

    Raises NotNotified, whose message has no address.
    """
    found: list[str] = []
    for url in urls:
        kind, _, where = url.partition(":")
        if kind == "env":
            if where not in os.environ:
                raise NotNotified(f"notify.urls: expected an address in the environment variable {where}")
            found.append(os.environ[where])
        elif kind == "file" and not where.startswith("//"):
            try:
                lines = Path(where).read_text("utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise NotNotified(f"notify.urls: expected addresses in {where}, got: {error}") from None
            found += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        else:
            found.append(url)
    return found


def send_message(urls: Sequence[str], title: str, body: str, seconds: float, cut_short: Event) -> None:
    """Send the message to each address through Apprise, within so many seconds or until ``cut_short`` is set.

    Raises NotNotified that names the addresses to which it was not sent by number and kind alone.
    """
    content = json.dumps({"urls": list(urls), "title": title, "body": body})
    try:
        command = [sys.executable, "-m", "pipeline.reporting.send"]
        _, output, errors = _run(command, content, {}, seconds, cut_short)
    except OSError as error:
        raise NotNotified(f"notify.urls: {error.strerror}") from None
    results = dict(json.loads(line) for line in output.splitlines() if line.startswith("["))
    late = f"{'Apprise failed' if errors else 'no answer'} within {seconds:.0f} s"
    if cut_short.is_set():
        late = _SIGNALLED
    failed = [
        f"{number + 1} ({url.partition(':')[0]}): {results.get(number, late)}"
        for number, url in enumerate(urls)
        if results.get(number, late)
    ]
    if failed:
        raise NotNotified(f"notify.urls: not sent to address {'; '.join(failed)}")


def _run(
    command: list[str], content: str, environment: Mapping[str, str], seconds: float, cut_short: Event
) -> tuple[int | None, str, str]:
    """Return the code, None for a command that was killed or not started; both outputs. Raises OSError."""
    if cut_short.is_set():
        return None, "", ""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | dict(environment),
        text=True,
        errors="replace",
        start_new_session=True,
    )
    with _killed_once(cut_short, process):
        try:
            output, errors = process.communicate(content, timeout=seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
            output, errors = process.communicate()
            return None, output, errors
    was_killed = process.returncode == -signal.SIGKILL and cut_short.is_set()
    return None if was_killed else process.returncode, output, errors


@contextmanager
def _killed_once(cut_short: Event, process: "subprocess.Popen[str]") -> Iterator[None]:
    """Kill the process once the event is set, in a thread: a second ``communicate`` would send no input."""
    over = Event()

    def watch() -> None:
        while not over.wait(_POLL_SECONDS):
            if cut_short.is_set():
                # A command that became another user's is waited for.
                with suppress(PermissionError):
                    _kill(process)
                return

    thread = Thread(target=watch, name="hook", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _kill(process: "subprocess.Popen[str]") -> None:
    """Kill the process with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
