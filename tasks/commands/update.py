"""``ipp-mirror update``."""

from pathlib import Path

import click

from tasks.commands.options import (
    config_option,
    console_options,
    products_option,
    scheduler_options,
    workers_option,
)

_EXAMPLES = """\b
Examples:
  ipp-mirror update
  ipp-mirror update --config /etc/ipp-mirror.yaml --products md-all-rel-200907
  17 * * * *  cd /opt/ipp-mirror && .venv/bin/ipp-mirror update --quiet    (in a crontab)
"""


@click.command(epilog=_EXAMPLES)
@config_option
@products_option
@scheduler_options
@workers_option
@console_options
def update(
    config: Path | None,
    products: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    console: dict[str, str],
) -> None:
    """Fetch and unpack new filesets.

    If another update of the mirror is running, the command ends with exit code 10. It uses Luigi's central
    scheduler if one answers that luigi.cfg or an option names, or that this user has started on this machine
    with `ipp-mirror scheduler`; else a local scheduler. The first line of the output names the scheduler.
    """
    from tasks.commands.luigi_command import run_task

    only = ["--products", products] if products else []
    run_task("UpdateMirror", *only, config=config, workers=workers, console=console, host=host, port=port)
