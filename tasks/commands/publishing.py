"""``ipp-mirror product``, ``publish`` and ``withdraw``: the products of a site's own."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import SettingsError, machine_faults
from pipeline.names import escaped
from pipeline.units import as_count, as_size
from tasks.commands.groups import CommandGroup
from tasks.commands.options import checked_name, config_option, json_option, quiet_option, read_mirror
from tasks.commands.types import AnyPath

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.datastore.listing import ProductRow
    from pipeline.mirror.state.layout import Layout
    from pipeline.publishing import Publisher

_PRODUCT_EXAMPLES = """\b
Examples:
  ipp-mirror product add light-curves --type table --description "Light curves of MD01"
  ipp-mirror product list
  ipp-mirror product remove light-curves
"""
_PUBLISH_EXAMPLES = """\b
Examples:
  ipp-mirror publish light-curves md01.2009-08 curves/*.fits README.txt
  ipp-mirror serve
"""
_WITHDRAW_EXAMPLES = """\b
Example:
  ipp-mirror withdraw light-curves md01.2009-08
"""


@click.group(cls=CommandGroup, epilog=_PRODUCT_EXAMPLES)
def product() -> None:
    """List, add or remove products of this site's own.

    They lie beside the mirror, in published/, and `ipp-mirror serve` serves both as one Data Store.
    """


@product.command("list", epilog=_PRODUCT_EXAMPLES)
@config_option
@json_option
def list_products(config: Path | None, as_json: bool) -> None:
    """Print the products of this site's own."""
    _, layout, publisher = _publisher(config)
    with machine_faults(f"reading {layout.published}"):
        products = [_product(publisher, row) for row in publisher.products()]
    if as_json:
        click.echo(json.dumps({"schema": 1, "products": products}, indent=1))
        return
    if not products:
        click.echo(
            f"no product of this site's own at {layout.published}. Add one with: ipp-mirror product add NAME",
            err=True,
        )
    for each in products:
        amount = as_count(each["filesets"], "fileset")
        newest = f", newest {each['newest']} of {each['newest_registered']}" if each["newest"] else ""
        click.echo(escaped(f"{each['product']} ({each['type']}): {each['description']}; {amount}{newest}"))


def _product(publisher: "Publisher", row: "ProductRow") -> dict[str, Any]:
    """Return a product by the keys of the JSON; ``newest`` is None without filesets."""
    filesets = publisher.filesets(row.name)
    return {
        "product": row.name,
        "type": row.type,
        "description": row.description,
        "filesets": len(filesets),
        "newest": filesets[-1].name if filesets else None,
        "newest_registered": filesets[-1].registered if filesets else None,
    }


@product.command("add", epilog=_PRODUCT_EXAMPLES)
@config_option
@click.option(
    "--type", "kind", metavar="TYPE", default="ipp-misc", show_default=True, help="Type of the product."
)
@click.option("--description", metavar="TEXT", default="", help="Text of the listing (default: the name).")
@click.argument("name", callback=checked_name)
def add_product(config: Path | None, kind: str, description: str, name: str) -> None:
    """Add a product, without filesets.

    Its name must not be that of a product of the source.
    """
    from pipeline.publishing import PRODUCT_TYPES

    settings, layout, publisher = _publisher(config)
    if kind not in PRODUCT_TYPES:
        raise SettingsError(
            f"expected a type that readers know ({', '.join(PRODUCT_TYPES)}), got {kind!r}. "
            "Nothing was added."
        )
    with machine_faults(f"adding a product in {layout.published}"):
        if name in _products_of_source(settings, layout):
            raise SettingsError(
                f"expected a name of this site's own, got {name!r}, a product of {settings.source.url}. "
                "Nothing was added."
            )
        publisher.add_product(name, kind, description)
    command = f"ipp-mirror publish {shlex.quote(name)} …"
    click.echo(f"{name} is a product of this site's own. Publish filesets with: {command}")


@product.command("remove", epilog=_PRODUCT_EXAMPLES)
@config_option
@click.argument("name", callback=checked_name)
def remove_product(config: Path | None, name: str) -> None:
    """Remove a product whose filesets are withdrawn."""
    _, layout, publisher = _publisher(config)
    with machine_faults(f"removing {layout.published / name}"):
        publisher.remove_product(name)
    click.echo(f"{name} is removed.")


@click.command(epilog=_PUBLISH_EXAMPLES)
@config_option
@quiet_option
@click.argument("product", callback=checked_name)
@click.argument("fileset", callback=checked_name)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=AnyPath())
def publish(config: Path | None, quiet: bool, product: str, fileset: str, files: Sequence[Path]) -> None:
    """Publish files as a fileset of a product of this site's own.

    The files are copied; readers see the fileset once all of them are there, with sizes and md5. A fileset
    that was published is not changed: withdraw it, and publish it again.
    """
    _, _, publisher = _publisher(config)
    with machine_faults(f"publishing {product}/{fileset}"):
        row, size = publisher.publish(product, fileset, files)
    if not quiet:
        amount = f"{as_count(len(files), 'file')}, {as_size(size)}"
        click.echo(f"{product}/{fileset}: {amount}, registered {row.registered}.")


@click.command(epilog=_WITHDRAW_EXAMPLES)
@config_option
@quiet_option
@click.argument("product", callback=checked_name)
@click.argument("fileset", callback=checked_name)
def withdraw(config: Path | None, quiet: bool, product: str, fileset: str) -> None:
    """Withdraw a fileset of a product of this site's own.

    Its row leaves the listing, and its files are deleted. Mirrors keep or delete it as they are set.
    """
    _, _, publisher = _publisher(config)
    with machine_faults(f"withdrawing {product}/{fileset}"):
        publisher.withdraw(product, fileset)
    if not quiet:
        click.echo(f"{product}/{fileset} is withdrawn, its files are deleted.")


def _publisher(config: Path | None) -> "tuple[Settings, Layout, Publisher]":
    from pipeline.publishing import Publisher

    settings, layout = read_mirror(config)
    return settings, layout, Publisher(layout.published)


def _products_of_source(settings: "Settings", layout: "Layout") -> set[str]:
    """Return the names of the products that the settings name, that are here, or that the source lists."""
    from pipeline.datastore.listing import read_products

    listing = layout.root_listing
    listed = read_products(listing.read_bytes(), str(listing)) if listing.exists() else []
    named = [each.name for each in settings.mirror.products or []]
    return {*named, *settings.source.hidden_products, *layout.state_products(), *(row.name for row in listed)}
