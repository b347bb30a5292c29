"""Commands of the administrator, and messages, each in a process that is killed when it takes too long."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.errors import MirrorError
from pipeline.names import escaped

_SHOWN = 200


class NotNotified(MirrorError):
    """Hook that failed or took too long, or message that was not sent."""


def run_hook(command: str, content: str, environment: Mapping[str, str], seconds: float) -> None:
    """Run a command, without a shell, with ``content`` on standard input. Raises NotNotified."""
    try:
        code, _, errors = _run(shlex.split(command), content, environment, seconds)
    except OSError as error:
        raise NotNotified(f"{command}: {error.strerror}") from None
    if code is None:
        raise NotNotified(f"{command}: expected to end within {seconds:.0f} s, and was killed")
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


def send_message(urls: Sequence[str], title: str, body: str, seconds: float) -> None:
    """Send the message to each address through Apprise.

    Raises NotNotified that names the addresses to which it was not sent by number and kind alone.
    """
    content = json.dumps({"urls": list(urls), "title": title, "body": body})
    try:
        _, output, errors = _run([sys.executable, "-m", "pipeline.reporting.send"], content, {}, seconds)
    except OSError as error:
        raise NotNotified(f"notify.urls: {error.strerror}") from None
    results = dict(json.loads(line) for line in output.splitlines() if line.startswith("["))
    late = "no answer" if not errors else "Apprise failed"
    failed = [
        f"{number + 1} ({url.partition(':')[0]}): {results.get(number, f'{late} within {seconds:.0f} s')}"
        for number, url in enumerate(urls)
        if results.get(number, late)
    ]
    if failed:
        raise NotNotified(f"notify.urls: not sent to address {'; '.join(failed)}")


def _run(
    command: list[str], content: str, environment: Mapping[str, str], seconds: float
) -> tuple[int | None, str, str]:
    """Return the code, None for a command that was killed, and both outputs. Raises OSError."""
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
    try:
        output, errors = process.communicate(content, timeout=seconds)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        return None, output, errors
    return process.returncode, output, errors
