"""Selection of the filesets of a product by the settings (``select`` in ``mirror.yaml``)."""

import fnmatch
from collections.abc import Callable

from pipeline.config import Product, Select
from pipeline.datastore.listing import FilesetRow, registered_time
from pipeline.errors import SettingsError


def is_selected(row: FilesetRow, product: Product) -> bool:
    """Return True if the settings of the product select the fileset.

    A row without a column that ``select`` names is not selected, nor one without a valid time of registration
    where ``select`` has a time.
    """
    select = product.select
    return select is None or (_matches_time(row, select) and _matches_columns(row, select))


def refuse_unknown_columns(product: Product, columns: Callable[[], set[str]]) -> None:
    """Raise SettingsError when ``select`` names a column that is none of the listing's ``columns``.

    A listing without rows has no columns, and every name is accepted.
    """
    if product.select is None:
        return
    known = columns()
    unknown = product.select.patterns.keys() - known
    if known and unknown:
        raise SettingsError(
            f"select of product {product.name}: expected columns of its listing "
            f"({', '.join(sorted(known))}), got {', '.join(sorted(unknown))}. "
            "Correct it in the settings; nothing of the product was fetched."
        )


def _matches_time(row: FilesetRow, select: Select) -> bool:
    after, before = select.registered_after, select.registered_before
    if after is None and before is None:
        return True
    registered = registered_time(row.registered)
    if registered is None:
        return False
    return (after is None or registered >= after) and (before is None or registered < before)


def _matches_columns(row: FilesetRow, select: Select) -> bool:
    return all(
        (value := row.column(column)) is not None
        and any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)
        for column, patterns in select.patterns.items()
    )
