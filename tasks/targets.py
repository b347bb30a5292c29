"""The markers of the mirror as Luigi's targets."""

from pathlib import Path

import luigi

from pipeline.errors import HostileName
from pipeline.mirror.state.layout import Layout, Step
from pipeline.mirror.state.marker_file import read_marker
from pipeline.mirror.state.markers import Fileset, fresh_marker


class StepMarker(luigi.Target):
    """The marker of one step of one registration of a fileset."""

    def __init__(self, layout: Layout, step: Step, fileset: Fileset) -> None:
        self._of = (layout, step, fileset)

    def exists(self) -> bool:
        """Whether the step is done: the marker is readable and of this registration.

        What hinders the look hinders the step too, which then says so.
        """
        try:
            return fresh_marker(*self._of) is not None
        except (HostileName, OSError):
            return False


class RunMarker(luigi.Target):
    """A marker that an update writes each time it went through a product without a failure."""

    def __init__(self, path: Path, started: str) -> None:
        self._path = path
        self._started = started

    def exists(self) -> bool:
        """Whether this update wrote it, and nothing had failed."""
        try:
            marker = read_marker(self._path)
        except OSError:
            return False
        return marker is not None and marker.get("run") == self._started and not marker.get("failed")
