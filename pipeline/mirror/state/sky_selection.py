"""Selection of filesets by what is known of them from others that are here: sky cells, position, content.

The knowledge is that of the catalog, which this package does not know: a :class:`SkyKnowledge` is handed in.
"""

import fnmatch
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.config import Near, Product, Select
from pipeline.datastore.listing import FilesetRow
from pipeline.errors import SettingsError

# Columns of a listing that tell what the catalog is asked otherwise, the first one before the second.
SKYCELL_COLUMNS = ("skycell", "skycell_id")
STATE_COLUMNS = ("data_state", "state")
# Columns by which rows are told apart.
DECIDING_COLUMNS = (*SKYCELL_COLUMNS, *STATE_COLUMNS, "stage", "stage_id", "exp_name")
_CLEANED = "cleaned"


class SkyKnowledge(Protocol):
    """Knowledge of filesets from those that are here: of the same run, exposure or sky cell.

    The methods return None where nothing is known of the fileset. Raises MachineFault.
    """

    @property
    def state(self) -> Any:
        """JSON value that changes with what is known."""

    @property
    def is_enabled(self) -> bool:
        """False without a catalog."""

    @property
    def is_whole(self) -> bool:
        """False while the catalog lacks filesets of the product that are here."""

    def skycells(self, row: FilesetRow) -> Collection[str] | None:
        """Return the names of all sky cells that the fileset has."""

    def is_near(self, row: FilesetRow, near: Near) -> bool | None:
        """Return True if the fileset may have images in the cone."""

    def is_clean(self, row: FilesetRow) -> bool | None:
        """Return True if the fileset has no images any more."""


@dataclass(frozen=True)
class NothingKnown:
    """Nothing is known of any fileset: without a catalog, or before it has one."""

    is_enabled: bool = False
    is_whole: bool = True
    state: None = None

    def skycells(self, _row: FilesetRow) -> None:
        """Return None."""

    def is_near(self, _row: FilesetRow, _near: Near) -> None:
        """Return None."""

    def is_clean(self, _row: FilesetRow) -> None:
        """Return None."""


NOTHING_KNOWN = NothingKnown()


def matches_sky(row: FilesetRow, select: Select, sky: SkyKnowledge) -> bool:
    """Return True if ``skycell``, ``near`` and ``clean`` of the selection match the fileset.

    A fileset of which that is not known matches, unless ``unknown`` says otherwise or knowledge is to come
    from filesets that are here already. Raises MachineFault.
    """
    is_known = True
    for verdict in _verdicts(row, select, sky):
        if verdict is False:
            return False
        is_known = is_known and verdict is not None
    return is_known or (select.unknown and sky.is_whole)


def refuse_undecidable(product: Product, columns: Collection[str], sky: SkyKnowledge) -> None:
    """Raise SettingsError when neither ``columns`` of the listing nor a catalog can decide."""
    told = {"skycell": SKYCELL_COLUMNS, "near": (), "clean": STATE_COLUMNS}
    names = product.by_sky if not sky.is_enabled else []
    for name in names:
        if not set(told[name]) & set(columns):
            needed = f"a column {' or '.join(told[name])} in its listing, or " if told[name] else ""
            raise SettingsError(
                f"product {product.name}: select: {name}: expected {needed}a catalog, which knows filesets "
                "by others that are here, got neither. Set catalog.enabled to true in the settings; "
                "nothing of the product is fetched."
            )


def waiting(product: Product, sky: SkyKnowledge) -> str | None:
    """Return a sentence on filesets that wait for the cataloging of others; None if there are none."""
    if sky.is_whole or not any(select.by_sky and select.unknown for select in product.select or ()):
        return None
    return (
        f"select by {', '.join(product.by_sky)}: filesets that are here are not in the catalog yet; others "
        "that it does not know wait for the update after these are cataloged"
    )


def _verdicts(row: FilesetRow, select: Select, sky: SkyKnowledge) -> Iterator[bool | None]:
    if select.skycell:
        listed = _first(row, SKYCELL_COLUMNS)
        names = [listed] if listed else sky.skycells(row)
        yield None if names is None else any(_matches(name, select.skycell) for name in names)
    if select.near:
        yield sky.is_near(row, select.near)
    if not select.clean:
        state = _first(row, STATE_COLUMNS)
        is_clean = state == _CLEANED if state else sky.is_clean(row)
        yield None if is_clean is None else not is_clean


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _first(row: FilesetRow, columns: tuple[str, ...]) -> str | None:
    return next((value for column in columns if (value := row.column(column))), None)
