"""``ipp-mirror init``."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import HostileName, ServerUnavailable, SettingsError, without_next_try
from pipeline.names import checked_segment
from pipeline.near_names import did_you_mean
from pipeline.units import as_count
from tasks.commands.data_store import listing_client
from tasks.commands.options import checked_products, config_option, default_config, product_names
from tasks.commands.types import AnyPath

if TYPE_CHECKING:
    from pipeline.config import Source
    from pipeline.datastore.listing import ProductRow

# A person waits for the answer.
_ATTEMPTS = 2
_EXAMPLES = """\b
Examples:
  ipp-mirror init http://alala2.ifa.hawaii.edu/ipp049/ds --root /panstarrs/data/MIRROR
  ipp-mirror init http://alala2.ifa.hawaii.edu/ipp049/ds --products md-all-rel-200907,qub-200907
  ipp-mirror init http://alala2.ifa.hawaii.edu/ipp049/ds --offline
"""


def _checked_address(_context: click.Context, _parameter: click.Parameter, url: str) -> str:
    """Return the address of a Data Store. Raises click.BadParameter, without what may hold a password."""
    from pipeline.config import data_store_address

    try:
        return data_store_address(url)
    except ValueError as error:
        got = "text" if "@" in url else repr(url)
        raise click.BadParameter(str(error) if ", got " in str(error) else f"{error}, got {got}") from None


def _checked_root(_context: click.Context, _parameter: click.Parameter, root: Path) -> Path:
    """Return the absolute path of the root. Raises click.BadParameter for one that no mirror can have."""
    from pipeline.config import root_folder

    try:
        return root_folder(str(root), Path.cwd())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _checked_names(context: click.Context, parameter: click.Parameter, products: str | None) -> str | None:
    """Return the value of ``--products``. Raises click.BadParameter for a name that no product can have."""
    try:
        for name in product_names(products):
            checked_segment(name, "product name")
    except HostileName as error:
        raise click.BadParameter(str(error)) from None
    return checked_products(context, parameter, products)


@click.command(epilog=_EXAMPLES)
@config_option
@click.option(
    "--root",
    type=AnyPath(),
    metavar="DIR",
    default=Path("mirror"),
    callback=_checked_root,
    help="Root folder of the mirror (default: mirror, in this folder). Nothing is made there.",
)
@click.option(
    "--products",
    metavar="A,B",
    callback=_checked_names,
    help="Products to mirror, also hidden ones, separated by commas (default: all that the server lists).",
)
@click.option("--offline", is_flag=True, help="Do not ask the server what there is.")
@click.argument("url", callback=_checked_address)
def init(config: Path | None, root: Path, products: str | None, offline: bool, url: str) -> None:
    """Write the settings file of a new mirror.

    URL is the address of the Data Store, at which index.txt lists the products. The server is asked what
    there is: the file has a line for each product, with its description; those that are not to be mirrored
    are commented out. All other settings have their defaults, and a comment each.

    The file is mirror.yaml in this folder, unless --config or IPP_MIRROR_CONFIG names another. A file that
    exists is not overwritten.
    """
    from pipeline.config import parse_settings
    from pipeline.settings_template import new_settings

    path = config or default_config()
    _check_paths(path, root)
    names = product_names(products) or None
    text = new_settings(url, root, names)
    listed: list[ProductRow] = []
    source = parse_settings(text, path).source
    if not offline:
        listed = _listed_products(source, names or [])
        text = new_settings(url, root, names, listed)
        parse_settings(text, path)
    _write(path, text)
    option = f" --config {shlex.quote(str(config))}" if config else ""
    click.echo(
        f"{path}: settings of a mirror of {source.url} at {root}, {_amount(names, listed)}. Correct them "
        f"where needed, then:\n  ipp-mirror plan{option}\n  ipp-mirror update{option}"
    )


def _check_paths(path: Path, root: Path) -> None:
    """Check that there is no file at either place. Raises SettingsError."""
    if _is_there(root, "--root") and not root.is_dir():
        raise SettingsError(
            f"--root: expected the path of a folder, got the file {root}. No settings were written."
        )
    if _is_there(path, "--config"):
        raise SettingsError(
            f"{path}: expected no settings file here yet, got one. It is left as it is; move it away, "
            "or name another with --config FILE."
        )


def _is_there(path: Path, option: str) -> bool:
    """Return True if something has the path. Raises SettingsError where nothing can have it."""
    try:
        return path.exists()
    except OSError as error:
        raise SettingsError(
            f"{option}: expected a path on this machine, got {path}: {error.strerror}. "
            "No settings were written."
        ) from None


def _write(path: Path, text: str) -> None:
    """Write a new file. Raises SettingsError, also where one has come meanwhile."""
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot write the settings file: {error.strerror}. Name another with --config FILE."
        ) from None


def _listed_products(source: "Source", named: Sequence[str]) -> "list[ProductRow]":
    """Return the products that the root lists.

    Raises ServerUnavailable without its listing, SettingsError if one is ``named`` that is not served.
    """
    asked = source.model_copy(update={"attempts": _ATTEMPTS})
    with listing_client(asked) as client:
        try:
            rows = client.products()
        except ServerUnavailable as error:
            raise ServerUnavailable(
                f"{_cause(error)} No settings were written: correct the address, or write them without "
                "the list of products by --offline."
            ) from None
        listed = [row.name for row in rows]
        for name in named:
            if name not in listed:
                _check_hidden(client.filesets, name, listed)
    return rows


def _check_hidden(list_filesets: Callable[[str], object], name: str, listed: Sequence[str]) -> None:
    """Check that the server has a product that the root does not list. Raises SettingsError."""
    try:
        list_filesets(name)
    except ServerUnavailable as error:
        raise SettingsError(
            f"expected products that the Data Store serves, got {name!r}: {_cause(error)} It lists "
            f"{', '.join(listed) or 'none'}.{did_you_mean(name, listed)} No settings were written."
        ) from None


def _cause(error: ServerUnavailable) -> str:
    """Return the cause without advice on settings, which are not written yet."""
    from pipeline.datastore.client import ADVICE_ON_ADDRESS

    cause = without_next_try(str(error)).removesuffix(".").removesuffix(ADVICE_ON_ADDRESS)
    return f"{cause}."


def _amount(names: Sequence[str] | None, listed: "Sequence[ProductRow]") -> str:
    if not listed:
        return f"with {as_count(len(names), 'product')}" if names else "with all products"
    of_listed = len(listed) if names is None else sum(row.name in names for row in listed)
    hidden = len(names) - of_listed if names else 0
    return f"with {of_listed} of {len(listed)} listed products" + (f" and {hidden} hidden" if hidden else "")
