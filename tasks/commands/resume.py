"""``ipp-mirror resume``."""

from pathlib import Path

import click

from pipeline.errors import machine_faults
from tasks.commands.options import config_option, quiet_option, read_layout

_EXAMPLES = """\b
Example:
  ipp-mirror resume
"""


@click.command(epilog=_EXAMPLES)
@config_option
@quiet_option
def resume(config: Path | None, quiet: bool) -> None:
    """Let updates begin again after `ipp-mirror pause`."""
    from pipeline.mirror.state.operands import check_mirror_here
    from pipeline.mirror.state.pause import resume as resume_mirror

    layout = read_layout(config)
    check_mirror_here(layout)
    with machine_faults(f"resuming the mirror at {layout.root}"):
        was_paused = resume_mirror(layout)
    if quiet:
        return
    if was_paused:
        click.echo(f"{layout.root}: resumed; the next update begins as usual.")
    else:
        click.echo(f"{layout.root} is not paused. Nothing was changed.")
