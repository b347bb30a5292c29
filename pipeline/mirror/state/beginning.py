"""Beginning of what is selected of a product: the fileset that ``begin_after`` in the settings names.

It is not selected, nor are those registered before it. Upstream may withdraw it, or register it again, and
its row then moves to the end of the listing. So its time of registration is recorded when an update first
finds it in the listing, and decides from then on, also after the setting has named another fileset meanwhile.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from pipeline.config import Product
from pipeline.datastore.listing import registered_order
from pipeline.errors import SettingsError
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.local_listing import LocalListing, Registration
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.near_names import did_you_mean


@dataclass(frozen=True)
class Beginning:
    """Time (UTC, as text) after which filesets are selected; None, and none is selected, where it is unknown.

    ``before`` are the filesets listed up to there that their times do not tell from others, as many share one
    second, and a time may be damaged.
    """

    registered: str | None = None
    before: frozenset[str] = frozenset()

    def precedes(self, fileset: str, registered: str) -> bool:
        """Return True if the fileset was registered after the beginning."""
        if self is EVERYTHING or self.registered is None:
            return self is EVERYTHING
        order, beginning = registered_order(registered), registered_order(self.registered)
        if _is_told(order, beginning):
            return order > beginning
        return fileset not in self.before


EVERYTHING = Beginning("")
"""Beginning of a product without ``begin_after``."""


def find_beginning(
    layout: Layout, product: Product, registrations: Callable[[], Iterable[Registration]] | None = None
) -> Beginning:
    """Return the beginning of a product, by its record, else by the ``registrations``.

    Those are the rows of the local listing unless others are given. Raises ServerUnavailable for a damaged
    listing.
    """
    if product.begin_after is None:
        return EVERYTHING
    recorded = _recorded(layout.beginning(product.name)).get(product.begin_after)
    if recorded is not None:
        return recorded
    if registrations is None:
        registrations = LocalListing(layout, product.name).registrations
    return _beginning_in(registrations, product.begin_after)


def record_beginning(layout: Layout, product: Product) -> Beginning:
    """Return the beginning of a product, and record it at first sight. For the holder of the update lock.

    Raises SettingsError where the listing has filesets, and not that one; ServerUnavailable for a damaged
    listing.
    """
    beginning, path = find_beginning(layout, product), layout.beginning(product.name)
    refuse_unknown_beginning(product, beginning, LocalListing(layout, product.name).registrations)
    if product.begin_after is None or beginning.registered is None:
        return beginning
    recorded = _recorded(path)
    if product.begin_after not in recorded:
        # The others stay: the setting may be changed back to one of them.
        recorded[product.begin_after] = beginning
        filesets = {
            name: {"registered": each.registered, "before": sorted(each.before)}
            for name, each in recorded.items()
        }
        # Where the disk is too full, the next update records it.
        with suppress(OSError):
            write_marker(path, {"product": product.name, "filesets": filesets})
    return beginning


def recorded_time(layout: Layout, product: Product) -> str | None:
    """Return the time (UTC, as text) of the recorded beginning of a product; None without a record of it."""
    if product.begin_after is None:
        return None
    recorded = _recorded(layout.beginning(product.name)).get(product.begin_after)
    return recorded.registered if recorded else None


def _recorded(path: Path) -> dict[str, Beginning]:
    """Return the beginnings in the record, by fileset; damaged ones are left out."""
    filesets = (read_marker(path) or {}).get("filesets")
    entries = filesets.items() if isinstance(filesets, dict) else ()
    return {name: beginning for name, entry in entries if (beginning := _beginning_of(entry))}


def _beginning_of(entry: object) -> Beginning | None:
    """Return the beginning in an entry of the record; None for a damaged entry."""
    match entry:
        case {"registered": str(registered), "before": [*before]} if all(
            isinstance(name, str) for name in before
        ):
            return Beginning(registered, frozenset(before))
    return None


def refuse_unknown_beginning(
    product: Product, beginning: Beginning, registrations: Callable[[], Iterable[Registration]]
) -> None:
    """Raise SettingsError when the beginning is unknown, although there are ``registrations``."""
    if product.begin_after is None or beginning.registered is not None:
        return
    if known := [each.name for each in registrations()]:
        raise SettingsError(
            f"product {product.name}: begin_after: expected a fileset of its listing, got "
            f"{product.begin_after}.{did_you_mean(product.begin_after, known)} Correct it in the settings; "
            "nothing of the product is fetched."
        )


def _beginning_in(registrations: Callable[[], Iterable[Registration]], fileset: str) -> Beginning:
    """Return the beginning with that fileset, by its row; an unknown one without such a row."""
    found = next((each for each in registrations() if each.name == fileset), None)
    if found is None:
        return Beginning()
    beginning = registered_order(found.registered)
    listed_before = takewhile(lambda each: each.name != fileset, registrations())
    before = (
        each.name for each in listed_before if not _is_told(registered_order(each.registered), beginning)
    )
    return Beginning(found.registered, frozenset({fileset, *before}))


def _is_told(order: str, beginning: str) -> bool:
    """Return True if the times, by their order, tell which of both comes first."""
    return bool(order and beginning) and order != beginning
