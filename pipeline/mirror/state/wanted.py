"""Wanted filesets: those that an operator asked for by name, mirrored whatever the settings select."""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pipeline.datastore.listing import FilesetRow
from pipeline.durable import remove_files
from pipeline.mirror.state.failures import retry_failures
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import can_name_marker, write_marker
from pipeline.mirror.state.markers import utc_now
from pipeline.mirror.state.operands import unknown_fileset
from pipeline.mirror.state.pending import incomplete
from pipeline.mirror.state.steps import StepSpec


def wanted_filesets(layout: Layout, product: str) -> set[str]:
    """Return the names of the wanted filesets of the product; a marker that is damaged counts too."""
    return layout.names(MarkerKind.WANTED, product)


def named_filesets(layout: Layout, product: str, patterns: Sequence[str]) -> set[str]:
    """Return the known filesets of the product that the names or shell patterns name.

    Raises SettingsError with the nearest names for one that names none.
    """
    names = {each.name for each in LocalListing(layout, product).registrations()}
    found: set[str] = set()
    for pattern in patterns:
        matching = {pattern} & names or {name for name in names if fnmatchcase(name, pattern)}
        if not matching:
            raise unknown_fileset(layout, product, pattern, "Nothing was fetched.")
        found |= matching
    return {name for name in found if can_name_marker(name)}


def want_filesets(layout: Layout, product: str, names: Iterable[str], *, by: str) -> None:
    """Mark the filesets as wanted, and make those due that failed or expired. An update may be running."""
    wanted = sorted(names)
    for name in wanted:
        content: dict[str, Any] = {"product": product, "fileset": name, "since": utc_now(), "by": by}
        write_marker(layout.marker(MarkerKind.WANTED, product, name), content, shared=True)
    remove_files(layout.marker(MarkerKind.EXPIRED, product, name) for name in wanted)
    among = set(wanted)
    retry_failures(layout, product, lambda record: record["fileset"] in among)


def forget_filesets(layout: Layout, product: str, patterns: Sequence[str]) -> set[str]:
    """Remove the marks of the wanted filesets that the names or shell patterns name; return their names.

    From then on the settings alone decide on them.
    """
    forgotten = {
        name
        for name in wanted_filesets(layout, product)
        if any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)
    }
    remove_files(layout.marker(MarkerKind.WANTED, product, name) for name in sorted(forgotten))
    return forgotten


def wanted_rows(
    layout: Layout, product: str, names: Collection[str], steps: Iterable[StepSpec]
) -> list[FilesetRow]:
    """Return the rows of those of the filesets of which one of the steps is to be done, oldest first.

    Skipped and withdrawn ones are not among them. Raises ServerUnavailable for a damaged listing.
    """
    left = incomplete(layout, product, names, steps)
    for kind in (MarkerKind.SKIPPED, MarkerKind.WITHDRAWN):
        left -= layout.marked_among(kind, product, left)
    return [row for row in LocalListing(layout, product).rows() if row.name in left]
