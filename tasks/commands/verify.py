"""``ipp-mirror verify``."""

import json
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import click

from tasks.commands.options import (
    config_option,
    console_options,
    json_option,
    scheduler_options,
    workers_option,
)

_EXAMPLES = """\b
Examples:
  ipp-mirror verify                         report problems, change nothing
  ipp-mirror verify --rate "50 MB/s"        read slowly, leave the disk to other users
  ipp-mirror verify --repair                repair problems, and verify again
  ipp-mirror verify --upstream              find what was corrected upstream in place
  ipp-mirror verify --upstream --repair     fetch it, and unpack it again
"""


@click.command(epilog=_EXAMPLES)
@config_option
@click.option("--repair", is_flag=True, help="Fetch and unpack damaged files again.")
@click.option("--rate", metavar="RATE", help='Limit of the rate of reading, such as "50 MB/s".')
@click.option(
    "--upstream", is_flag=True, help="Compare with the listings that the server sends now; read no file."
)
@json_option
@scheduler_options
@workers_option
@console_options
def verify(
    config: Path | None,
    repair: bool,
    rate: str | None,
    upstream: bool,
    as_json: bool,
    host: str | None,
    port: int | None,
    workers: int | None,
    console: dict[str, str],
) -> None:
    """Compare every file of the mirror with listings and markers.

    With --upstream: compare each fileset with the server's listing of it, by one request.

    A verification that was stopped is resumed by the next one. Meanwhile updates end with exit code 10.

    With --json, messages go to standard error.
    """
    from tasks.commands.luigi_command import run_task

    parameters = {"repair": str(repair), "rate": rate or ""}
    task = "CompareMirror" if upstream else "VerifyMirror"
    run = partial(run_task, task, parameters, config, workers, console, host, port)
    if not as_json:
        run()
        return
    try:
        with redirect_stdout(sys.stderr):
            run()
    finally:
        # Without a run, as while another one is at work, there is no result.
        if report := _report(upstream):
            click.echo(json.dumps(report, indent=1))


def _report(upstream: bool) -> dict[str, Any] | None:
    """Return the result of the verification of this process, or of the comparison; None when none started."""
    from pipeline.reporting.status_files import verification_problems
    from tasks.runtime.current import run_if_started

    if (run := run_if_started()) is None:
        return None
    counters, layout = run.context.counters, run.context.layout
    numbers = {name: getattr(counters, name) for name in ("here", "sound", "repaired", "damaged")}
    return {
        "schema": 1,
        "root": str(layout.root),
        "code": run.code,
        "reason": run.reason,
        "upstream": upstream,
        **numbers,
        "left": counters.unverified,
        "problems": verification_problems(layout, run.context.steps),
    }
