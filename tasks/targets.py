"""Marker files of the mirror as Luigi targets."""

from pathlib import Path

import luigi

from pipeline.errors import HostileName
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import read_marker
from pipeline.mirror.state.markers import Fileset, fresh_marker


class StepMarker(luigi.Target):
    """Marker of one step of one registration of a fileset."""

    def __init__(self, layout: Layout, kind: str, fileset: Fileset) -> None:
        self._of = (layout, kind, fileset)

    def exists(self) -> bool:
        """Return True if the step is done: the marker is readable and of this registration.

        Return False when the marker cannot be read: the step then fails with the reason.
        """
        try:
            return fresh_marker(*self._of) is not None
        except (HostileName, OSError):
            return False


class RunMarker(luigi.Target):
    """Marker with the run that wrote it, and the number of failures."""

    def __init__(self, path: Path, started: str) -> None:
        self._path = path
        self._started = started

    def exists(self) -> bool:
        """Return True if this run wrote the marker, and nothing had failed."""
        try:
            marker = read_marker(self._path)
        except OSError:
            return False
        return marker is not None and marker.get("run") == self._started and not marker.get("failed")
