"""Markers: which steps of a fileset are done (docs/on-disk.md, "Markers").

A marker is written last. Where one is absent or stale, the step is done again on top of what is on
disk, which is checked and taken over.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker, write_marker


@dataclass(frozen=True)
class Fileset:
    """One registration of one fileset: ``registered`` as its listing has it."""

    product: str
    name: str
    registered: str

    @classmethod
    def of(cls, product: str, row: FilesetRow) -> "Fileset":
        """The fileset of a row of the product's listing."""
        return cls(product, row.name, row.registered)

    def __str__(self) -> str:
        return f"{self.product}/{self.name}"


def utc_now() -> str:
    """The time as every marker has it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def mark_done(
    layout: Layout, step: MarkerKind, fileset: Fileset, started: str, content: dict[str, Any]
) -> None:
    """Mark a step of this registration of the fileset as done, now."""
    write_marker(
        layout.marker(step, fileset.product, fileset.name),
        {
            "product": fileset.product,
            "fileset": fileset.name,
            "registered": fileset.registered,
            "started": started,
            "finished": utc_now(),
            **content,
        },
    )


def fresh_marker(layout: Layout, step: MarkerKind, fileset: Fileset) -> dict[str, Any] | None:
    """The marker of that step for this registration; None when there is none, or a stale one."""
    marker = read_marker(layout.marker(step, fileset.product, fileset.name))
    return marker if marker and marker.get("registered") == fileset.registered else None
