"""``ipp-mirror pause``."""

from pathlib import Path

import click

from pipeline.errors import machine_faults
from tasks.commands.options import config_option, current_user, quiet_option, read_layout

_EXAMPLES = """\b
Example:
  ipp-mirror pause --reason "the disk array is being moved"
"""


@click.command(epilog=_EXAMPLES)
@config_option
@quiet_option
@click.option("--reason", default="", metavar="TEXT", help="Why, as `ipp-mirror status` shows it.")
def pause(config: Path | None, quiet: bool, reason: str) -> None:
    """Let no update begin until `ipp-mirror resume`.

    An update, adoption or `get` that is started while the mirror is paused says so in one sentence, fetches
    nothing, and ends with exit code 10; what `get` asks for is remembered. One that is running goes on. All
    other commands work as ever. A mirror that is paused already keeps the first reason.
    """
    from pipeline.mirror.state.operands import check_mirror_here
    from pipeline.mirror.state.pause import pause as pause_mirror
    from pipeline.mirror.state.pause import pause_message

    layout = read_layout(config)
    check_mirror_here(layout)
    with machine_faults(f"pausing the mirror at {layout.root}"):
        is_new = pause_mirror(layout, reason=reason.strip(), by=current_user())
        message = pause_message(layout)
    outcome = "An update that is running goes on; no other begins."
    if not is_new:
        outcome = f"Nothing was changed{'; the new reason is not recorded' if reason.strip() else ''}."
    if not quiet:
        click.echo(f"{layout.root}: {message}. {outcome}")
