"""``ipp-mirror verify``."""

from pathlib import Path

import click

from tasks.commands.options import config_option, console_options, scheduler_options, workers_option

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
@scheduler_options
@workers_option
@console_options
def verify(
    config: Path | None,
    repair: bool,
    rate: str | None,
    upstream: bool,
    host: str | None,
    port: int | None,
    workers: int | None,
    console: dict[str, str],
) -> None:
    """Compare every file of the mirror with listings and markers.

    With --upstream: compare each fileset with the server's listing of it, by one request.

    A verification that was stopped is resumed by the next one. Meanwhile updates end with exit code 10.
    """
    from tasks.commands.luigi_command import run_task

    parameters = {"repair": str(repair), "rate": rate or ""}
    task = "CompareMirror" if upstream else "VerifyMirror"
    run_task(task, parameters, config, workers, console, host, port)
