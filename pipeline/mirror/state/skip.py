"""Skipped filesets: excluded from updates by an operator."""

from typing import Any

from pipeline.durable import remove_files
from pipeline.mirror.state.failures import clear_failure
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.markers import Fileset, fresh_marker, utc_now
from pipeline.mirror.state.operands import unknown_fileset


def skip_fileset(layout: Layout, product: str, name: str, *, reason: str, by: str) -> dict[str, Any] | None:
    """Exclude the fileset from updates until it is registered again.

    Return the marker of an earlier skip, which is replaced; None for a fileset that is not skipped. Raises
    SettingsError for a fileset that the local listing does not name.
    """
    fileset = _listed(layout, product, name)
    earlier = fresh_marker(layout, MarkerKind.SKIPPED, fileset)
    write_marker(
        layout.marker(MarkerKind.SKIPPED, product, name),
        {
            "product": product,
            "fileset": name,
            "registered": fileset.registered,
            "since": utc_now(),
            "by": by,
            "reason": reason,
        },
        shared=True,
    )
    clear_failure(layout, fileset)
    return earlier


def unskip_fileset(layout: Layout, product: str, name: str) -> bool:
    """Make a skipped fileset pending again; return False when it is not skipped.

    Raises SettingsError for a fileset that is not skipped and that the local listing does not name.
    """
    path = layout.marker(MarkerKind.SKIPPED, product, name)
    if not path.exists():
        _listed(layout, product, name)
        return False
    remove_files([path])
    return True


def skipped(layout: Layout, product: str) -> list[dict[str, Any]]:
    """Return the markers of all skipped filesets of a product, sorted by name."""
    names = sorted(layout.names(MarkerKind.SKIPPED, product))
    markers = (read_marker(layout.marker(MarkerKind.SKIPPED, product, name)) for name in names)
    return [marker for marker in markers if marker]


def _listed(layout: Layout, product: str, name: str) -> Fileset:
    known = (each for each in LocalListing(layout, product).registrations() if each.name == name)
    row = next(known, None)
    if row is None:
        raise unknown_fileset(layout, product, name, "Nothing was changed.")
    return Fileset(product, name, row.registered)
