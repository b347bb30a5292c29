"""Command ``ipp-mirror``: one module per subcommand.

The modules import Luigi, the server and the settings in their functions only: help and completion are
immediate, and each subcommand imports only its own libraries.
"""

import configparser
import errno
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from pipeline import __version__
from pipeline.errors import (
    EXIT_DONE,
    EXIT_SETTINGS_OR_BUG,
    MachineFault,
    MirrorError,
    machine_fault,
    without_next_try,
)
from pipeline.names import escaped
from tasks.commands.adopt import adopt
from tasks.commands.catalog import catalog
from tasks.commands.completion import completion
from tasks.commands.find import find
from tasks.commands.get import get
from tasks.commands.groups import CommandGroup, MissingCommand
from tasks.commands.init import init
from tasks.commands.luigi_files import unreadable_file
from tasks.commands.pause import pause
from tasks.commands.plan import plan
from tasks.commands.publishing import product, publish, withdraw
from tasks.commands.resume import resume
from tasks.commands.retry import retry
from tasks.commands.scheduler import scheduler
from tasks.commands.serve import serve
from tasks.commands.skip import skip
from tasks.commands.sql import sql
from tasks.commands.status import status
from tasks.commands.unskip import unskip
from tasks.commands.update import update
from tasks.commands.verify import verify
from tasks.commands.worker import assist, worker
from tasks.runtime.streams import output_error

__all__ = ["ipp_mirror", "main"]

# What one of these leaves, the next one does.
_RUNS = {"update", "adopt", "get", "verify", "worker", "assist"}
_EXAMPLES = """\b
Examples:
  ipp-mirror init URL --root DIR            the settings file of a new mirror
  ipp-mirror update                         one update, as cron runs it
  ipp-mirror status                         the outcome of the last update
  ipp-mirror COMMAND --help                 options and examples of a command

\b
Exit codes:
   0  success: all requested filesets are mirrored
  10  another update of this mirror is running, or it is paused; or, for a worker, none is running
  20  the server is unreachable, or sent no valid listing
  25  stopped on request
  30  a fileset failed; verify or catalog check found problems; or status something for a person
  35  the scheduler was lost, or did not schedule all tasks
  40  a wrong command line or setting, or a bug
"""


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXAMPLES,
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def ipp_mirror() -> None:
    """Keep a local mirror of a Pan-STARRS IPP Data Store."""


for _command in (
    *(init, update, adopt, worker, assist, verify, status, plan, find, sql, serve, skip, unskip),
    *(get, retry, pause, resume, product, publish, withdraw, catalog, scheduler, completion),
):
    ipp_mirror.add_command(_command)


def main() -> NoReturn:
    """Run the command line of this process; exit with a code of ``docs/guide.md``."""
    try:
        sys.exit(_run(sys.argv[1:]))
    except Exception:
        trace = traceback.format_exc()
        click.echo(f"ipp-mirror: a bug in this program, please report it:\n{trace}", err=True)
        sys.exit(EXIT_SETTINGS_OR_BUG)


def _run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; each error is one sentence on stderr.

    Where a command is missing, the help with the commands comes before the sentence.
    """
    try:
        # `python -m tasks` gets the same name, for the same messages and completion.
        code = ipp_mirror.main(arguments, prog_name="ipp-mirror", standalone_mode=False)
    except click.UsageError as error:
        if isinstance(error, MissingCommand) and error.ctx:
            click.echo(f"{error.ctx.get_help()}\n", err=True)
        click.echo(escaped(_usage_message(error, arguments)), err=True)
        return EXIT_SETTINGS_OR_BUG
    except (MirrorError, configparser.Error, UnicodeDecodeError) as error:
        # Luigi reads its settings where it is imported.
        failure = error if isinstance(error, MirrorError) else unreadable_file()
        if failure is None:
            raise
        click.echo(escaped(f"ipp-mirror: {_said(failure, arguments)}", but="\n"), err=True)
        return failure.exit_code
    except OSError as error:
        fault = machine_fault(" ".join(arguments[:1]), error)
        click.echo(escaped(f"ipp-mirror: {_said(fault, arguments)}"), err=True)
        return fault.exit_code
    return code or _output_code()


def _said(error: MirrorError, arguments: Sequence[str]) -> str:
    """Return the sentence; of a command that no later run does again, without the next try."""
    said = str(error)
    kept = said if _RUNS.intersection(arguments[:1]) else without_next_try(said)
    return said if kept == said else f"{kept.removesuffix('.')}."


def _output_code() -> int:
    """Return the exit code of a command that is done: its output may not have been written.

    A reader that has read enough, such as ``head``, is no error.
    """
    error = output_error()
    if error is None or error.errno == errno.EPIPE:
        return EXIT_DONE
    click.echo(
        f"ipp-mirror: {error.strerror} at standard output. The command is done, its output is incomplete.",
        err=True,
    )
    return MachineFault.exit_code


def _usage_message(error: click.UsageError, arguments: Sequence[str]) -> str:
    # Click leaves out the context where an option lacks its value.
    named = [name for name in arguments[:1] if name in ipp_mirror.commands]
    command = error.ctx.command_path if error.ctx else " ".join(["ipp-mirror", *named])
    message = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.ctx and isinstance(error.ctx.command, click.Group):
        message += f" Options follow the command: `{command} COMMAND {error.option_name} …`."
    sentence = f"{message[:1].lower()}{message[1:]}{'' if message.endswith(('.', '?')) else '.'}"
    return f"{command}: {sentence} Nothing was done; see `{command} --help`."
