"""Options that several subcommands share, and the settings that they name."""

import errno
import getpass
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from pipeline.errors import HostileName, SettingsError
from pipeline.names import checked_segment
from tasks.commands.luigi_files import name_settings
from tasks.commands.types import AnyPath, Integer, Text, Word

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.mirror.state.layout import Layout

CONFIG_VARIABLE = "IPP_MIRROR_CONFIG"
"""Environment variable with the path of the settings file."""

Function = TypeVar("Function", bound=Callable[..., Any])


def config_option(function: Function) -> Function:
    """Add ``--config FILE`` to a command, whose parameter is ``config``; or IPP_MIRROR_CONFIG."""
    return click.option(
        "--config",
        "--mirror-config",
        "config",
        type=AnyPath(),
        metavar="FILE",
        envvar=CONFIG_VARIABLE,
        help="Settings file (default: that of IPP_MIRROR_CONFIG, else [mirror] config in luigi.cfg, else "
        "mirror.yaml in this folder). --mirror-config is a second name.",
    )(function)


def workers_option(function: Function) -> Function:
    """Add ``--workers N`` to a command, whose parameter is ``workers``."""
    return click.option(
        "--workers",
        type=Integer(min=1),
        metavar="N",
        help="Most steps at once (default: [core] workers in luigi.cfg, else as many as the connections and "
        "the processors can do).",
    )(function)


def console_options(function: Function) -> Function:
    """Add ``--quiet``, ``--verbose`` and ``--progress`` to a command.

    The parameter of the command is ``console``, settings of Luigi's section ``[mirror]``.
    """

    @wraps(function)
    def with_console(*arguments: Any, quiet: bool, verbose: bool, progress: str | None, **others: Any) -> Any:
        if quiet and verbose:
            raise click.UsageError("--quiet and --verbose exclude each other")
        level = {"console": "quiet"} if quiet else {"console": "verbose"} if verbose else {}
        shown = {"progress": progress} if progress else {}
        return function(*arguments, console=level | shown, **others)

    quiet = click.option("-q", "--quiet", is_flag=True, help="Print only what is wrong.")
    verbose = click.option("-v", "--verbose", is_flag=True, help="Print all messages, as the log has them.")
    progress = click.option(
        "--progress",
        type=Word(["none", "plain", "bar"]),
        help="Progress on standard output: none, a line every half minute, or a bar (default: a bar on a "
        "terminal, else none).",
    )
    return quiet(verbose(progress(cast(Function, with_console))))


def quiet_option(function: Function) -> Function:
    """Add ``--quiet`` to a command that runs no task, whose parameter is ``quiet``."""
    return click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")(function)


def json_option(function: Function) -> Function:
    """Add ``--json`` to a command, whose parameter is ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def products_option(function: Function) -> Function:
    """Add ``--products A,B`` to a command, whose parameter is ``products``."""
    return click.option(
        "--products",
        metavar="A,B",
        callback=checked_products,
        help="Only these products, separated by commas (default: all of the settings).",
    )(function)


def checked_products(
    _context: click.Context, _parameter: click.Parameter, products: str | None
) -> str | None:
    """Return the value of ``--products``. Raises click.BadParameter for one without a name."""
    if products is not None and not product_names(products):
        raise click.BadParameter(f"expected names of products, such as A,B, got {products!r}")
    return products


def product_names(products: str | None) -> list[str]:
    """Return the names in the value of ``--products``."""
    return [name.strip() for name in (products or "").split(",") if name.strip()]


def scheduler_options(function: Function) -> Function:
    """Add ``--scheduler-host H`` and ``--scheduler-port N`` to a command: ``host`` and ``port``."""
    port = click.option(
        "--scheduler-port",
        "port",
        type=Integer(1, 65_535),
        metavar="N",
        help="Port of the central scheduler (default: [core] scheduler_port in luigi.cfg, else 8082).",
    )
    host = click.option(
        "--scheduler-host",
        "host",
        type=Text(),
        metavar="HOST",
        help="Host of the central scheduler (default: [core] scheduler_host in luigi.cfg, else this one).",
    )
    return host(port(function))


def port_option(default: int, explanation: str, least: int = 0) -> Callable[[Function], Function]:
    """Return a decorator that adds ``--port N`` to a command."""
    return click.option(
        "--port",
        type=Integer(least, 65_535),
        metavar="N",
        default=default,
        show_default=True,
        help=explanation,
    )


def checked_name(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    """Return the name of a product or fileset, if one is given. Raises click.BadParameter for a wrong one."""
    try:
        return name if name is None else checked_segment(name, "name")
    except HostileName as error:
        raise click.BadParameter(str(error)) from None


def name_or_pattern(context: click.Context, parameter: click.Parameter, name: str) -> str | None:
    """Return the name of a fileset as ``checked_name``; a shell pattern is left to the command to refuse."""
    from pipeline.mirror.state.operands import is_pattern

    return name if is_pattern(name) else checked_name(context, parameter, name)


def cannot_listen(host: str, port: int, option: str, error: OSError) -> SettingsError:
    """Return the error for an address that a server cannot listen on; ``option`` names the host."""
    advice = {
        errno.EADDRINUSE: "Another program listens there: choose another --port",
        errno.EACCES: "Ports below 1024 need the rights of root: choose another --port",
    }.get(error.errno or 0, f"Choose an address of this machine by {option}")
    # Errors of names have numbers of their own, below zero.
    cause = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    cause = (cause or str(error)).partition(" (while attempting")[0]
    return SettingsError(f"cannot listen on {host} port {port}: {cause}. {advice}; nothing was started.")


def current_user() -> str:
    """Return the name of the user, or the number of one without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def read_layout(config: Path | None) -> "Layout":
    """Return the layout of the mirror in the settings file. Raises SettingsError as ``read_mirror``."""
    return read_mirror(config)[1]


def read_mirror(config: Path | None) -> "tuple[Settings, Layout]":
    """Return the settings and the layout of the mirror in the settings file.

    Raises SettingsError, also when the mirror has a higher format than this program supports, or is not
    mounted.
    """
    from pipeline.config import read_settings
    from pipeline.mirror.state.layout import Layout
    from pipeline.mirror.state.root_note import check_root

    path = config or default_config()
    settings = read_settings(path)
    check_root(path, settings)
    return settings, Layout(settings.mirror.root)


def default_config() -> Path:
    """Return the settings file that Luigi's settings name; without such a name, Luigi is not imported.

    Raises SettingsError for a wrong value in Luigi's section ``[mirror]``.
    """
    if not name_settings():
        return Path("mirror.yaml")
    # Read by Luigi, which has its own rules for overrides and for what is in values.
    from tasks.mirror_config import checked_section, mirror

    return Path(checked_section(mirror).config)
