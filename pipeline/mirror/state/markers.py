"""Markers of filesets: which steps are done, for which registration (docs/on-disk.md, "Markers").

A marker is written last. Where a marker is absent or stale, the step is done again; files on disk are checked
and reused.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.datastore.listing import DISTRIBUTION, FilesetRow
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import read_marker, write_marker


@dataclass(frozen=True)
class Fileset:
    """One registration of one fileset.

    ``registered`` is the time in its listing row (UTC, as text), ``row`` that row; None where no listing was
    read.
    """

    product: str
    name: str
    registered: str
    row: FilesetRow | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, product: str, row: FilesetRow) -> "Fileset":
        """Return the fileset of a row of the product's listing."""
        return cls(product, row.name, row.registered, row)

    @property
    def columns(self) -> dict[str, str]:
        """All values of the listing row by the names of their columns.

        Of several columns of one name, the first counts, as for ``FilesetRow.column``.
        """
        columns: dict[str, str] = {}
        if self.row:
            for column, value in zip(self.row.columns, self.row.fields, strict=False):
                columns.setdefault(column, value)
        return columns

    @property
    def is_distribution(self) -> bool:
        """True for a fileset that has two documents at least (protocol notes, "Listings")."""
        return self.columns.get("type", "").upper() == DISTRIBUTION

    def __str__(self) -> str:
        return f"{self.product}/{self.name}"


def utc_now() -> str:
    """Return the current time as written in markers: UTC, to the second."""
    return utc_text(datetime.now(UTC))


def utc_text(time: datetime) -> str:
    """Return a time in UTC as written in markers: to the second, with a ``Z``."""
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def time_since(time: Any) -> timedelta | None:
    """Return the time that has passed since a time in a marker, negative for one in the future.

    None for what is no time. A time in the future may come from a clock that was wrong.
    """
    try:
        return datetime.now(UTC) - datetime.fromisoformat(time)
    except (TypeError, ValueError):
        return None


def is_within(time: Any, span: timedelta) -> bool:
    """Return True if a time in a marker is at most ``span`` ago; False for one in the future, or none."""
    passed = time_since(time)
    return passed is not None and timedelta(0) <= passed < span


def mark_done(layout: Layout, kind: str, fileset: Fileset, started: str, content: dict[str, Any]) -> None:
    """Write the marker of a step that is done for this registration of the fileset, finished now."""
    write_marker(
        layout.marker(kind, fileset.product, fileset.name),
        {
            "product": fileset.product,
            "fileset": fileset.name,
            "registered": fileset.registered,
            "started": started,
            "finished": utc_now(),
            **content,
        },
    )


def fresh_marker(layout: Layout, kind: str, fileset: Fileset) -> dict[str, Any] | None:
    """Return the marker of that kind for this registration; None when there is none, or a stale one."""
    marker = read_marker(layout.marker(kind, fileset.product, fileset.name))
    return marker if marker and marker.get("registered") == fileset.registered else None
