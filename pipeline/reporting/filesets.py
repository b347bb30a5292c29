"""Filesets of one product and their numbers, from the names of markers and one pass through its listing.

Markers are not read: where a snapshot is not current, the names in the folder count. Only between a change of
``components``, ``files`` or ``members`` and the next update are those of partial filesets read.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import starmap
from typing import NamedTuple

from pipeline.config import Product, Select
from pipeline.datastore.listing import FilesetRow, registered_order
from pipeline.errors import ServerUnavailable
from pipeline.mirror.state.beginning import EVERYTHING, find_beginning
from pipeline.mirror.state.file_selection import lacking_filesets, may_lack
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing, Registration
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.pending import deciding_state, to_unpack_again
from pipeline.mirror.state.selection import is_selected
from pipeline.mirror.state.sky_selection import DECIDING_COLUMNS, NOTHING_KNOWN, SkyKnowledge
from pipeline.mirror.state.snapshot import current_header
from pipeline.mirror.state.steps import StepSpec
from pipeline.mirror.state.wanted import wanted_filesets


@dataclass(frozen=True)
class FilesetCounts:
    """Filesets of a product.

    ``known`` are all rows received so far; ``selected`` those that the settings select, or that are wanted,
    and that upstream has not withdrawn, and those that are to be unpacked again; ``left`` those of the
    selected that are neither complete nor skipped. ``complete``, ``skipped`` and ``withdrawn`` are all that
    are marked as such, ``partial`` those of which the settings leave something out, ``expired`` those that
    were removed as they had become too old.
    """

    known: int
    selected: int
    complete: int
    left: int
    skipped: int
    withdrawn: int
    partial: int
    expired: int


class FilesetState(NamedTuple):
    """Row of the listing, as ``LocalListing.cells`` yields it, and the state of its fileset.

    ``registered`` is its time of registration as listed, empty in a damaged row that is cut before it. A
    selected fileset that is withdrawn is to be unpacked again.
    """

    columns: tuple[str, ...]
    fields: list[str]
    name: str
    registered: str
    selected: bool
    complete: bool
    skipped: bool
    withdrawn: bool


# Values of a FilesetState.
_Row = tuple[tuple[str, ...], list[str], str, str, bool, bool, bool, bool]


class ProductFilesets:
    """Filesets of the product ``name``: names of those marked, state of each; none is selected for None."""

    def __init__(
        self,
        layout: Layout,
        product: Product | None,
        name: str,
        required: tuple[StepSpec, ...],
        sky: SkyKnowledge = NOTHING_KNOWN,
    ) -> None:
        self._layout, self._product = layout, product
        self.complete = _complete(layout, name, required)
        self.may_lack = may_lack(layout, product) if product else set()
        # Selected ones that lack what changed settings choose, as far as ``states`` has come: they are
        # completed by the next update. True for those that lack whole files.
        self.lacking: dict[str, bool] = {}
        self.skipped = layout.names(MarkerKind.SKIPPED, name)
        self.withdrawn = layout.names(MarkerKind.WITHDRAWN, name)
        self._again = to_unpack_again(layout, name)
        self._wanted = wanted_filesets(layout, name) | self._again
        self.expired = layout.names(MarkerKind.EXPIRED, name)
        self._selection = _Selection(product, sky)
        self._listing = LocalListing(layout, name)

    def states(self) -> Iterator[FilesetState]:
        """Yield the state of each fileset of the listing. Raises ServerUnavailable for a damaged listing."""
        return starmap(FilesetState, self.rows())

    def rows(self) -> Iterator[_Row]:
        """Yield the same as plain tuples, which take less time. Raises as ``states``."""
        beginning = find_beginning(self._layout, self._product) if self._product else EVERYTHING
        # Names of their own, for each is used for each row.
        complete, skipped, withdrawn = self.complete, self.skipped, self.withdrawn
        wanted, left_out = self._wanted, (withdrawn - self._again) | self.expired
        may_lack = self.may_lack
        is_chosen = self._selection.has
        for columns, fields in self._listing.cells():
            name = fields[0].strip()
            registered = fields[1].strip() if len(fields) > 1 else ""
            is_after = beginning.precedes(name, registered)
            selected = name in wanted or (is_after and is_chosen(columns, fields))
            selected = selected and name not in left_out
            lacks = selected and name in may_lack and self._lacks(name)
            here = name in complete and not lacks
            yield columns, fields, name, registered, selected, here, name in skipped, name in withdrawn

    def _lacks(self, name: str) -> bool:
        if self._product:
            self.lacking |= lacking_filesets(self._layout, self._product, [name])
        return name in self.lacking


class CountedFilesets(NamedTuple):
    """Numbers of filesets; by stage, of those left and not downloaded; the complete one registered last."""

    counts: FilesetCounts
    to_download: Counter[str | None]
    newest: Registration | None


def count_filesets(
    layout: Layout,
    product: Product | None,
    name: str,
    required: tuple[StepSpec, ...],
    sky: SkyKnowledge = NOTHING_KNOWN,
) -> CountedFilesets:
    """Return the numbers of the filesets of the product ``name``; None of them is selected for None.

    Raises ServerUnavailable for a damaged listing, MachineFault when the catalog cannot be read.
    """
    filesets = ProductFilesets(layout, product, name, required, sky)
    downloaded = _downloaded(layout, name, filesets.complete - filesets.may_lack)
    known = selected = left = 0
    stages: Counter[str | None] = Counter()
    newest, last = None, ""
    for columns, fields, fileset, registered, chosen, complete, skipped, _ in filesets.rows():
        known += 1
        selected += chosen
        if complete:
            if (order := registered_order(registered)) >= last:
                newest, last = (fileset, registered), order
        elif chosen and not skipped:
            left += 1
            fetched = fileset in downloaded and not filesets.lacking.get(fileset, False)
            stages[_stage(columns, fields)] += not fetched
    counts = FilesetCounts(
        known,
        selected,
        complete=len(filesets.complete - filesets.lacking.keys()),
        left=left,
        skipped=len(filesets.skipped),
        withdrawn=len(filesets.withdrawn),
        partial=layout.count(MarkerKind.PARTIAL, name),
        expired=len(filesets.expired),
    )
    return CountedFilesets(counts, +stages, Registration(*newest) if newest else None)


def _stage(columns: tuple[str, ...], fields: list[str]) -> str | None:
    """Return the stage of a row of the listing; None where it has none."""
    stage = dict(zip(columns, fields, strict=False)).get("stage", "null").strip()
    return None if stage == "null" else stage


class SelectedAndNewest(NamedTuple):
    """Number of the selected filesets, and the complete one that was registered last."""

    selected: int
    newest: Registration | None


def selected_and_newest(
    layout: Layout, product: Product, required: tuple[StepSpec, ...], sky: SkyKnowledge, *, configured: bool
) -> SelectedAndNewest | None:
    """Return the same as ``count_filesets``; None for a damaged listing.

    No fileset of a product is selected unless it is ``configured``. For the holder of the update lock: rows
    are read only where what decides has changed since they were last read for it, or where they may grow too
    old for ``keep``. Raises MachineFault when the catalog cannot be read.
    """
    cache, state = layout.newest(product.name), None
    if not any(select.keep for select in product.select or ()):
        state = deciding_state(layout, product, [step.marker for step in required], sky)
    if state is not None:
        state["configured"] = configured
        cached = read_marker(cache)
        if cached and cached.get("state") == state:
            newest = cached["newest"]
            return SelectedAndNewest(cached["selected"], Registration(*newest) if newest else None)
    try:
        counted = count_filesets(layout, product if configured else None, product.name, required, sky)
    except ServerUnavailable:
        return None
    found = SelectedAndNewest(counted.counts.selected, counted.newest)
    if state is not None:
        # The disk may be too full for a cache.
        with suppress(OSError):
            write_marker(cache, {"state": state, **found._asdict()})
    return found


def _complete(layout: Layout, product: str, required: tuple[StepSpec, ...]) -> set[str]:
    kinds = [step.marker for step in required]
    if all(current_header(layout.marker_folder(kind, product)) for kind in kinds):
        return layout.marked_in_all(kinds, product)
    return set.intersection(*(layout.names(kind, product) for kind in kinds))


def _downloaded(layout: Layout, product: str, complete: set[str]) -> set[str]:
    """Return the names of downloaded filesets; ``complete`` ones may be missing where there are no others."""
    if layout.count(MarkerKind.DOWNLOADED, product) <= len(complete):
        return set()
    return layout.names(MarkerKind.DOWNLOADED, product)


class _Selection:
    """Test of rows by the settings of a product: rows with the same values are tested once."""

    def __init__(self, product: Product | None, sky: SkyKnowledge) -> None:
        self._product = product
        self._sky = sky
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
            row = FilesetRow(values[0], values[1], "", columns, values)
            self._tested[key] = is_selected(row, product, self._sky)
        return self._tested[key]

    def _use(self, columns: tuple[str, ...], selections: list[Select]) -> None:
        """Note the places of the values that decide."""
        is_timed = any(
            select.registered_after or select.registered_before or select.keep for select in selections
        )
        named = (column for select in selections for column in select.patterns)
        by_sky = DECIDING_COLUMNS if any(select.by_sky for select in selections) else ()
        deciding = {*named, *(columns[1:2] if is_timed else ()), *by_sky}
        self._columns, self._tested = columns, {}
        self._places = [place for place, column in enumerate(columns) if column in deciding]
