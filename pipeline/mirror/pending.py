"""Which filesets are still to do, from one look at each folder of markers."""

from collections.abc import Iterable

from pipeline.config import Product
from pipeline.datastore.listing import FilesetRow
from pipeline.errors import SettingsError
from pipeline.mirror.layout import Layout, Step


def pending_rows(
    layout: Layout, product: Product, rows: Iterable[FilesetRow], last_step: Step
) -> list[FilesetRow]:
    """The rows that the settings ask for and that are neither done, skipped nor withdrawn, oldest first.

    Those that failed too often to be tried again now are among them (``failures.waiting`` tells).
    Raises SettingsError when ``select`` names a column that no row has.
    """
    rows = list(rows)
    _refuse_unknown_columns(product, rows)
    settled = layout.marked(Step.DOWNLOADED, product.name) & layout.marked(last_step, product.name)
    settled |= layout.marked(Step.SKIPPED, product.name) | layout.marked(Step.WITHDRAWN, product.name)
    return [row for row in rows if row.name not in settled and product.wants(row)]


def _refuse_unknown_columns(product: Product, rows: list[FilesetRow]) -> None:
    if product.select is None or not rows:
        return
    columns = {column for header in {row.columns for row in rows} for column in header}
    unknown = product.select.columns() - columns
    if unknown:
        raise SettingsError(
            f"select of product {product.name}: expected columns of its listing "
            f"({', '.join(sorted(columns))}), got {', '.join(sorted(unknown))}. "
            "Correct it in the settings; nothing of the product was fetched."
        )
