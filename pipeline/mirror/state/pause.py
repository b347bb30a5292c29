"""Pause of a mirror: while its marker is there, no update begins."""

from pipeline.durable import remove_files
from pipeline.errors import Paused
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.markers import utc_now
from pipeline.names import escaped


def pause(layout: Layout, *, reason: str, by: str) -> bool:
    """Let no update begin until ``resume``; an update that is running goes on.

    Return False, and change nothing, when the mirror is paused already, perhaps by somebody else.
    """
    if layout.paused.exists():
        return False
    write_marker(layout.paused, {"since": utc_now(), "by": by, "reason": reason}, shared=True)
    return True


def resume(layout: Layout) -> bool:
    """Let updates begin again; return False when the mirror is not paused."""
    is_paused = layout.paused.exists()
    remove_files([layout.paused])
    return is_paused


def pause_message(layout: Layout) -> str | None:
    """Return since when the mirror is paused, by whom and why, in one line; None when it is not paused.

    A damaged marker pauses all the same.
    """
    if not layout.paused.exists():
        return None
    marker = read_marker(layout.paused) or {}
    since, by = marker.get("since", "an unknown time"), marker.get("by", "an unknown user")
    reason = f": {marker['reason']}" if marker.get("reason") else ""
    return escaped(f"paused since {since} by {by}{reason}")


def refuse_when_paused(layout: Layout) -> None:
    """Raise Paused when the mirror is paused."""
    if message := pause_message(layout):
        raise Paused(
            f"{layout.root}: {message}. This run did nothing; updates begin again after `ipp-mirror resume`."
        )
