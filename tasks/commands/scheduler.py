"""``ipp-mirror scheduler``."""

import socket
from contextlib import suppress
from pathlib import Path

import click

from pipeline.errors import SettingsError, machine_faults
from tasks.commands.options import cannot_listen, port_option
from tasks.commands.types import NewFile, Text

_EXAMPLES = """\b
Examples:
  ipp-mirror scheduler
  ipp-mirror scheduler --port 8083 --state-path /var/lib/luigi/state.pickle
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--address",
    type=Text(),
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. The scheduler has no password: leave it on this host.",
)
@port_option(8082, "Port to listen on, as scheduler_port in luigi.cfg.", least=1)
@click.option(
    "--state-path",
    type=NewFile(),
    metavar="FILE",
    default=Path("var/luigi/state.pickle"),
    show_default=True,
    help="File in which the tasks survive a restart.",
)
def scheduler(address: str, port: int, state_path: Path) -> None:
    """Run Luigi's central scheduler.

    The scheduler runs until SIGTERM or SIGINT; its web page shows the filesets of an update. Updates of
    the same user on this machine use it at port 8082; at another address, where luigi.cfg ([core]
    scheduler_host and scheduler_port) or an option names it. A port in use is exit code 40.
    """
    from tasks.runtime.luigid import main as luigid

    _check_free(address, port)
    with machine_faults(f"writing the scheduler's state, {state_path}"):
        _check_writable(state_path)
    click.echo(f"Luigi's scheduler, with its page: http://{address}:{port}/")
    luigid(["--address", address, "--port", str(port), "--state-path", str(state_path)])


def _check_writable(path: Path) -> None:
    """Make the folder of the file, and open the file: luigid itself logs a traceback every few seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    path.open("ab").close()
    if is_new:
        path.unlink()


def _check_free(address: str, port: int) -> None:
    """Raise SettingsError if nothing can listen there: luigid itself ends with a traceback."""
    from tasks.runtime.own_scheduler import is_own_scheduler

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
    except OSError as error:
        # A person waits for the sentence.
        with suppress(TimeoutError):
            if is_own_scheduler(port, seconds=2):
                raise SettingsError(
                    f"cannot listen on {address} port {port}: a scheduler of this user runs there already. "
                    "Nothing was started."
                ) from None
        raise cannot_listen(address, port, "--address", error) from None
