"""Pending filesets: what is still to do, by the snapshots of the folders of markers.

Mostly nothing is, and nothing has changed since the last update found that. The state of all that decides on
it is kept in a cache, ``pending.json``, so that such an update reads neither the names of all filesets nor
their rows.
"""

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any

from pipeline import __version__
from pipeline.config import Product
from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.state.beginning import Beginning, record_beginning, recorded_time
from pipeline.mirror.state.failures import failed_in, failures, is_postponed
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import SCHEMA, read_marker, write_marker
from pipeline.mirror.state.selection import refuse_unknown_columns, selected_rows
from pipeline.mirror.state.sky_selection import NOTHING_KNOWN, SkyKnowledge
from pipeline.mirror.state.snapshot import current_header, renew_snapshot
from pipeline.mirror.state.steps import Steps, StepSpec

# Kinds of markers beside those of the steps that decide on what is pending.
_DECIDING = (
    *(MarkerKind.SKIPPED, MarkerKind.WITHDRAWN, MarkerKind.EXPIRED),
    *(MarkerKind.WANTED, MarkerKind.SUPERSEDED),
)


def renew_snapshots(layout: Layout, product: str, steps: Steps) -> None:
    """Write the snapshots that ``pending_rows`` reads, where they are not current.

    For the holder of the update lock.
    """
    for kind in (*(step.marker for step in steps), *_DECIDING, MarkerKind.PARTIAL):
        renew_snapshot(layout.marker_folder(kind, product))


def pending_rows(
    layout: Layout, product: Product, steps: Iterable[StepSpec], sky: SkyKnowledge = NOTHING_KNOWN
) -> list[FilesetRow]:
    """Return the rows of which one of the ``steps`` is to be done, oldest first.

    They are those of the filesets that the settings select, of wanted ones, of those that are to be unpacked
    again, and of those that are complete but for optional steps: these two are done for all that is here,
    also where it is withdrawn.

    ``sky`` is what the catalog knows of filesets. Skipped filesets are not returned, nor
    withdrawn ones that are incomplete; those whose next attempt is not due yet are (``postponed``). For the
    holder of the update lock. Raises SettingsError when ``select`` names a column that no row has,
    ServerUnavailable when the local listing was damaged since the server was asked, MachineFault when the
    catalog cannot be read.
    """
    steps = tuple(steps)
    kinds = [step.marker for step in steps]
    # First, as what is remembered rests on its record.
    beginning = record_beginning(layout, product)
    cache, state = layout.nothing_pending(product.name), deciding_state(layout, product, kinds, sky)
    if state is not None and read_marker(cache) == {"schema": SCHEMA, **state}:
        return []
    rows = _find_pending(layout, product, beginning, steps, sky)
    if state is not None and not rows:
        # A run does not fail because the disk is too full for a cache.
        with suppress(OSError):
            write_marker(cache, state)
    return rows


def _find_pending(
    layout: Layout, product: Product, beginning: Beginning, steps: tuple[StepSpec, ...], sky: SkyKnowledge
) -> list[FilesetRow]:
    listing = LocalListing(layout, product.name)
    refuse_unknown_columns(product, listing.columns, sky)
    required = [step.marker for step in steps if not step.optional]
    done = here = layout.marked_in_all(required, product.name)
    if len(required) < len(steps):
        done = here & layout.marked_in_all((step.marker for step in steps if step.optional), product.name)
    for kind in (MarkerKind.SKIPPED, MarkerKind.EXPIRED):
        done = done | layout.marked(kind, product.name)
    again = to_unpack_again(layout, product.name)
    done |= layout.marked(MarkerKind.WITHDRAWN, product.name) - here - again
    taken = here | again | layout.marked(MarkerKind.WANTED, product.name)
    return list(selected_rows(listing.rows(but=done), product, beginning, taken, sky))


def to_unpack_again(layout: Layout, product: str) -> set[str]:
    """Return the downloaded filesets whose extraction was set aside; none of them has to be selected.

    A withdrawn one cannot be fetched again: its bundles have to be here. If it was registered again before,
    the files of the earlier registration stay.
    """
    aside = layout.marked(MarkerKind.SUPERSEDED, product)
    again = layout.marked_among(MarkerKind.DOWNLOADED, product, aside)
    withdrawn = layout.marked_among(MarkerKind.WITHDRAWN, product, again)
    return again - {name for name in withdrawn if not has_bundles_of_one_registration(layout, product, name)}


def has_bundles_of_one_registration(layout: Layout, product: str, fileset: str) -> bool:
    """Return True if the bundles are here of the registration whose extraction was set aside."""
    kinds = (MarkerKind.DOWNLOADED, MarkerKind.SUPERSEDED)
    downloaded, aside = (read_marker(layout.marker(kind, product, fileset)) or {} for kind in kinds)
    store = layout.store(product, fileset)
    is_whole = all((store / file["name"]).exists() for file in downloaded.get("files", []))
    return is_whole and downloaded.get("registered") == aside.get("registered")


def deciding_state(
    layout: Layout, product: Product, kinds: list[str], sky: SkyKnowledge
) -> dict[str, Any] | None:
    """Return all that decides on what is selected, and on what is pending: equal states have the same.

    ``kinds`` are the markers of the steps. In an equal state a fileset may have grown too old for ``keep``.
    None while the listing has no record that fits, or a folder of markers no current snapshot.
    """
    folders = {kind: layout.marker_folder(kind, product.name) for kind in (*kinds, *_DECIDING)}
    headers = {kind: current_header(folder) for kind, folder in folders.items() if folder.is_dir()}
    listing = LocalListing(layout, product.name).state()
    if listing is None or None in headers.values():
        return None
    return {
        "version": __version__,
        "listing": listing,
        "select": product.select and [select.model_dump(mode="json") for select in product.select],
        "begin_after": [product.begin_after, recorded_time(layout, product)],
        "sky": sky.state,
        "steps": kinds,
        "names": {kind: header.names for kind, header in headers.items() if header},
    }


def has_changed(layout: Layout, product: str, steps: Iterable[StepSpec]) -> bool:
    """Return True if markers of the steps may have come or gone since their snapshots were written."""
    folders = (layout.marker_folder(step.marker, product) for step in steps)
    return any(folder.is_dir() and current_header(folder) is None for folder in folders)


def postponed(layout: Layout, product: str, steps: Steps) -> dict[str, str]:
    """Return the failed filesets whose next attempt is not due yet, with the time (UTC) when it is.

    The failure of an optional step does not postpone a required one that is missing.
    """
    later = [record for record in failures(layout, product) if is_postponed(record)]
    required = failed_in(later, (step.name for step in steps.required))
    optional = {record["fileset"] for record in later} - {record["fileset"] for record in required}
    due = incomplete(layout, product, optional, steps.required)
    return {record["fileset"]: record["next_try"] for record in later if record["fileset"] not in due}


def steps_to_schedule(layout: Layout, product: str, names: Collection[str], steps: Steps) -> "ToSchedule":
    """Return, for filesets by name, the steps whose tasks bring about all that is missing."""
    return ToSchedule(steps, {step.name: layout.marked_among(step.marker, product, names) for step in steps})


class ToSchedule:
    """Steps to schedule for each fileset, by which of their markers are there."""

    def __init__(self, steps: Steps, marked: dict[str, set[str]]) -> None:
        self._steps = steps
        self._marked = marked

    def of(self, fileset: str) -> list[StepSpec]:
        """Return the last step of each run of missing ones: its task requires those before it.

        Mostly the last step of all; nothing for a fileset that is complete. An optional step is done again
        after a required one.
        """
        lacks = {step.name for step in self._steps if fileset not in self._marked[step.name]}
        again = any(step.name in lacks for step in self._steps.required)
        missing = [step.name in lacks or (again and step.optional) for step in self._steps]
        following = [*missing[1:], False]
        return [
            step
            for step, is_missing, next_is_missing in zip(self._steps, missing, following, strict=True)
            if is_missing and not next_is_missing
        ]


def incomplete(layout: Layout, product: str, names: Collection[str], steps: Iterable[StepSpec]) -> set[str]:
    """Return those of the filesets of which one of the steps has no good marker."""
    complete = set(names)
    for step in steps:
        complete &= layout.marked_among(step.marker, product, complete)
    return set(names) - complete
