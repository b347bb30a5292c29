"""``ipp-mirror verify``."""

from pathlib import Path

import click

from tasks.commands.options import config_option, scheduler_options, workers_option

_EXAMPLES = """\b
Examples:
  ipp-mirror verify                         report problems, change nothing
  ipp-mirror verify --rate "50 MB/s"        read slowly, leave the disk to other users
  ipp-mirror verify --repair                repair problems, and verify again
"""


@click.command(epilog=_EXAMPLES)
@config_option
@click.option("--repair", is_flag=True, help="Fetch and unpack damaged files again.")
@click.option("--rate", metavar="RATE", help='Limit of the rate of reading, such as "50 MB/s".')
@scheduler_options
@workers_option
def verify(
    config: Path | None,
    repair: bool,
    rate: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
) -> None:
    """Compare every file of the mirror with listings and markers.

    A verification that was stopped is resumed by the next one. Meanwhile updates end with exit code 10.
    """
    from tasks.commands.luigi_command import run_task

    arguments = [*(["--repair"] if repair else []), *(["--rate", rate] if rate else [])]
    run_task("VerifyMirror", *arguments, config=config, workers=workers, host=host, port=port)
