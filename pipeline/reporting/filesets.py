"""Numbers of the filesets of one product, from the names of markers and one pass through its listing.

Markers are not read: where a snapshot is not current, the names in the folder count.
"""

from collections.abc import Container
from dataclasses import dataclass

from pipeline.config import Product, Select
from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.state.layout import LOOK_UP_AT_MOST, Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing, Registration
from pipeline.mirror.state.marker_file import SUFFIX
from pipeline.mirror.state.selection import is_selected
from pipeline.mirror.state.snapshot import current_header
from pipeline.mirror.state.steps import StepSpec
from pipeline.mirror.state.wanted import wanted_filesets


@dataclass(frozen=True)
class FilesetCounts:
    """Filesets of a product.

    ``known`` are all rows received so far; ``selected`` those that the settings select, or that are wanted,
    and that upstream has not withdrawn; ``left`` those of the selected that are neither complete nor skipped.
    ``complete``, ``skipped`` and ``withdrawn`` are all that are marked as such.
    """

    known: int
    selected: int
    complete: int
    left: int
    skipped: int
    withdrawn: int


def count_filesets(
    layout: Layout, product: Product | None, name: str, required: tuple[StepSpec, ...]
) -> FilesetCounts:
    """Return the numbers of the filesets of the product ``name``; None of them is selected for None.

    Raises ServerUnavailable for a damaged listing.
    """
    complete = _complete(layout, name, required)
    skipped = layout.names(MarkerKind.SKIPPED, name)
    withdrawn = layout.names(MarkerKind.WITHDRAWN, name)
    wanted = wanted_filesets(layout, name)
    selection = _Selection(product)
    known = selected = left = 0
    for columns, fields in LocalListing(layout, name).cells():
        known += 1
        fileset = fields[0].strip()
        if fileset not in withdrawn and (fileset in wanted or selection.has(columns, fields)):
            selected += 1
            left += fileset not in complete and fileset not in skipped
    return FilesetCounts(known, selected, len(complete), left, len(skipped), len(withdrawn))


def newest_here(layout: Layout, product: str, required: tuple[StepSpec, ...]) -> Registration | None:
    """Return the complete fileset that is last in the listing; None without one."""
    listing = LocalListing(layout, product)
    folders = [layout.marker_folder(step.marker, product) for step in required]
    for registration in reversed(listing.newest(LOOK_UP_AT_MOST)):
        if all((folder / f"{registration.name}{SUFFIX}").exists() for folder in folders):
            return registration
    complete = _complete(layout, product, required)
    return next(iter(listing.newest(1, but=_AllBut(complete))), None) if complete else None


class _AllBut(Container[str]):
    """All names but some."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return name not in self._names


def _complete(layout: Layout, product: str, required: tuple[StepSpec, ...]) -> set[str]:
    kinds = [step.marker for step in required]
    if all(current_header(layout.marker_folder(kind, product)) for kind in kinds):
        return layout.marked_in_all(kinds, product)
    return set.intersection(*(layout.names(kind, product) for kind in kinds))


class _Selection:
    """Test of rows by the settings of a product: rows with the same values are tested once."""

    def __init__(self, product: Product | None) -> None:
        self._product = product
        self._columns: tuple[str, ...] = ()
        self._places: list[int] = []
        self._tested: dict[tuple[str, ...], bool] = {}

    def has(self, columns: tuple[str, ...], fields: list[str]) -> bool:
        """Return True if the row is selected; False for a row that is cut off."""
        product = self._product
        if product is None or product.select is None:
            return product is not None
        if columns is not self._columns:
            self._use(columns, product.select)
        if len(fields) < len(columns):
            return False
        key = tuple([fields[place] for place in self._places])
        if key not in self._tested:
            values = tuple(field.strip() for field in fields)
            self._tested[key] = is_selected(FilesetRow(values[0], values[1], "", columns, values), product)
        return self._tested[key]

    def _use(self, columns: tuple[str, ...], selections: list[Select]) -> None:
        """Note the places of the values that decide."""
        is_timed = any(select.registered_after or select.registered_before for select in selections)
        named = (column for select in selections for column in select.patterns)
        deciding = {*named, *(columns[1:2] if is_timed else ())}
        self._columns, self._tested = columns, {}
        self._places = [place for place, column in enumerate(columns) if column in deciding]
