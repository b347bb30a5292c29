"""Operands of commands: products and filesets that an operator names."""

import shlex
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

import yaml

from pipeline.config import Settings
from pipeline.errors import SettingsError
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.names import is_usable, some
from pipeline.near_names import did_you_mean
from pipeline.units import as_count

_SHOWN = 8
# Characters in a line of YAML.
_NO_FOLDS = 10**6
_WILDCARDS = "*?["


def check_products(
    names: Sequence[str], known: Collection[str], settings: Settings, consequence: str
) -> None:
    """Check that the products are among those ``known``.

    Raises SettingsError with the nearest ones, or with how to add another; it ends with ``consequence``.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        got = ", ".join(map(repr, unknown))
        how_to_add = f" {_how_to_add(unknown[0], settings)}" if is_usable(unknown[0]) else ""
        advice = did_you_mean(unknown[0], known) or how_to_add
        here = some(sorted(known), _SHOWN) or "there is none"
        raise SettingsError(f"expected a product of this mirror ({here}), got {got}.{advice} {consequence}")


def check_products_in_settings(names: Sequence[str], settings: Settings, consequence: str) -> None:
    """Check the products as ``check_products``, where the settings name all that are mirrored."""
    if settings.mirror.products is not None:
        known = [product.name for product in settings.mirror.products]
        check_products(names, known, settings, consequence)


def check_mirror_here(layout: Layout) -> None:
    """Check that the root folder has a mirror. Raises SettingsError, or OSError if it cannot be read."""
    if not has_mirror(layout) and not layout.state_products():
        raise no_mirror(layout)


def has_mirror(layout: Layout) -> bool:
    """Return True if the root folder has the file that the first update makes. Raises OSError."""
    try:
        # ``Path.exists`` is False for a link to itself, too.
        layout.lock_file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def no_mirror(layout: Layout) -> SettingsError:
    """Return the error for a root folder without a mirror."""
    return SettingsError(
        f"no mirror at {layout.root}: expected {layout.lock_file}, which the first update makes. "
        "Begin with `ipp-mirror update`, or correct mirror.root in the settings."
    )


def check_product_here(layout: Layout, product: str, settings: Settings, consequence: str) -> None:
    """Check that something is known here of the product. Raises SettingsError as ``check_products``."""
    here = layout.state_products()
    mirrored = [each.name for each in settings.mirror.products or []] + settings.source.hidden_products
    if product not in here and (product in mirrored or not here):
        raise SettingsError(
            f"product {product}: expected its listing, found none, as no update has fetched it yet. "
            f"{consequence} `ipp-mirror update --products {shlex.quote(product)}` fetches it."
        )
    check_products([product], here, settings, consequence)


def unknown_fileset(layout: Layout, product: str, name: str, consequence: str) -> SettingsError:
    """Return the error for a name, or a pattern, that no fileset in the local listing of the product has."""
    listed = [each.name for each in LocalListing(layout, product).registrations()]
    if not listed:
        return SettingsError(
            f"product {product}: expected a fileset of its listing, which has none, got {name!r}. "
            f"{consequence} `ipp-mirror update` brings the listing up to date."
        )
    example = did_you_mean(name, listed) or f" The newest of them is {listed[-1]!r}."
    return SettingsError(
        f"product {product}: expected a name of its listing of {as_count(len(listed), 'fileset')}, got "
        f"{name!r}."
        f"{example} {consequence}"
    )


def is_pattern(name: str) -> bool:
    """Return True for a shell pattern, which no name is."""
    return any(mark in name for mark in _WILDCARDS)


def refuse_pattern(product: str, name: str, filesets: Iterable[str], doing: str) -> None:
    """Raise SettingsError for a shell pattern in place of one name; it names the ``filesets`` that match."""
    if not is_pattern(name):
        return
    matching = [each for each in filesets if fnmatchcase(each, name)]
    advice = f"; {doing} each by its name" if matching else ""
    raise SettingsError(
        f"product {product}: expected the name of one fileset, got the pattern {name!r}, which matches "
        f"{as_count(len(matching), 'fileset')}{': ' if matching else ''}{some(sorted(matching), _SHOWN)}. "
        f"Nothing was changed{advice}."
    )


def _how_to_add(product: str, settings: Settings) -> str:
    """Return the edit of the settings by which the product is mirrored."""
    if settings.mirror.products is not None:
        line = yaml.safe_dump([product], width=_NO_FOLDS).strip()
        return f"To mirror it, add the line `{line}` below `products:` of the section mirror."
    hidden = yaml.safe_dump(
        [*settings.source.hidden_products, product], default_flow_style=True, width=_NO_FOLDS
    )
    return (
        f"If {settings.source.url} serves it without listing it, write `hidden_products: {hidden.strip()}` "
        "into the section source."
    )
