"""Which filesets are still to do, from one look at each folder of markers."""

from pipeline.config import Product
from pipeline.datastore.listing import FilesetRow
from pipeline.errors import SettingsError
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.selection import is_selected


def pending_rows(layout: Layout, product: Product, last_step: MarkerKind) -> list[FilesetRow]:
    """The rows that the settings ask for and that are neither done, skipped nor withdrawn, oldest first.

    Those that failed too often to be tried again now are among them (``failures.waiting`` tells).
    Raises SettingsError when ``select`` names a column that no row has, ServerUnavailable when the
    listing here was damaged since the server was asked.
    """
    listing = LocalListing(layout, product.name)
    _refuse_unknown_columns(product, listing)
    settled = layout.marked(last_step, product.name)
    if last_step is not MarkerKind.DOWNLOADED:
        settled &= layout.marked(MarkerKind.DOWNLOADED, product.name)
    settled |= layout.marked(MarkerKind.SKIPPED, product.name) | layout.marked(
        MarkerKind.WITHDRAWN, product.name
    )
    return [row for row in listing.rows(but=settled) if is_selected(row, product)]


def _refuse_unknown_columns(product: Product, listing: LocalListing) -> None:
    if product.select is None:
        return
    columns = listing.columns()
    unknown = product.select.patterns.keys() - columns
    if columns and unknown:
        raise SettingsError(
            f"select of product {product.name}: expected columns of its listing "
            f"({', '.join(sorted(columns))}), got {', '.join(sorted(unknown))}. "
            "Correct it in the settings; nothing of the product was fetched."
        )
