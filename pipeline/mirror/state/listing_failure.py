"""Record of a product whose listing could not be read; a discovery that succeeds removes it."""

from typing import Any

from pipeline.durable import remove_files
from pipeline.errors import MirrorError, kind_of
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.markers import utc_now


def record_listing_failure(layout: Layout, product: str, error: MirrorError) -> None:
    """Record that the listing of the product could not be read, now. Raises OSError."""
    now = utc_now()
    before = listing_failure(layout, product) or {}
    write_marker(
        layout.listing_failure(product),
        {
            "product": product,
            "first_failed": before.get("first_failed", now),
            "last_failed": now,
            "kind": kind_of(error),
            "reason": str(error),
        },
    )


def clear_listing_failure(layout: Layout, product: str) -> None:
    """Remove the record, if there is one. Raises OSError."""
    path = layout.listing_failure(product)
    if path.exists():
        remove_files([path])


def listing_failure(layout: Layout, product: str) -> dict[str, Any] | None:
    """Return the record; None for a product whose listing was read, or a damaged record. Raises OSError."""
    return read_marker(layout.listing_failure(product))
