"""Complete filesets that wait to be cataloged, by their markers."""

from pipeline.config import Settings
from pipeline.mirror.state.layout import Layout, MarkerKind


def filesets_behind(layout: Layout, settings: Settings) -> int:
    """Return the number of complete filesets that the next update will catalog.

    These are all that are neither skipped nor marked as expired, of the products that the settings name.
    """
    named = settings.mirror.products
    products = layout.state_products() if named is None else [product.name for product in named]
    return sum(len(awaiting_cataloging(layout, settings, product)) for product in products)


def awaiting_cataloging(layout: Layout, settings: Settings, product: str) -> set[str]:
    """Return the names of the complete filesets of a product that an update has to catalog."""
    before = MarkerKind.EXTRACTED if settings.mirror.unpack else MarkerKind.DOWNLOADED
    if layout.count(before, product) == layout.count(MarkerKind.CATALOGED, product):
        return set()
    missing = layout.names(before, product) - layout.names(MarkerKind.CATALOGED, product)
    # Of an expired one that is here, a run was killed before it was deleted: the next one deletes it.
    apart = [MarkerKind.SKIPPED, MarkerKind.EXPIRED]
    if settings.mirror.on_removed == "delete":
        apart.append(MarkerKind.WITHDRAWN)
    return missing.difference(*(layout.names(kind, product) for kind in apart))
