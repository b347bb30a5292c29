"""Filesets and products of a mirror as external tasks, which pipelines of others can require.

They read the mirror and change nothing; an update of its own brings what is missing. ``docs/luigi.md`` has an
example.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import luigi

from pipeline.catalog.sky_knowledge import sky_knowledge
from pipeline.config import Settings, read_settings
from pipeline.errors import MachineFault, ServerUnavailable, SettingsError
from pipeline.mirror.state.fileset_files import stored_paths, unpacked_paths
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import read_marker
from pipeline.mirror.state.markers import Fileset, fresh_marker
from pipeline.mirror.state.operands import check_product_here, unknown_fileset
from pipeline.mirror.state.root_note import check_root
from pipeline.reporting.filesets import count_filesets
from tasks.mirror_config import mirror
from tasks.steps import STEPS

log = logging.getLogger(__name__)
_WAITS = "The task is not complete until an update brings it."


@dataclass(frozen=True)
class _Mirror:
    settings: Settings
    layout: Layout

    @classmethod
    def of(cls, config: str) -> "_Mirror":
        """Return the mirror of a settings file. Raises SettingsError."""
        path = Path(config or mirror().config)
        settings = read_settings(path)
        check_root(path, settings)
        return cls(settings, Layout(settings.mirror.root))


class FilesetTarget(luigi.Target):
    """Fileset of a mirror; it exists once it is complete."""

    def __init__(self, product: str, fileset: str, config: str = "") -> None:
        self._product, self._fileset, self._config = product, fileset, config
        self._mirror = _Mirror.of(config)

    def exists(self) -> bool:
        """Return True if all steps that the settings ask for are done for the listed registration."""
        layout, steps = self._mirror.layout, STEPS.included(self._mirror.settings).required
        if not all(layout.marker(step.marker, self._product, self._fileset).exists() for step in steps):
            _warn_of_unknown(self._config, self._product, self._fileset)
            return False
        try:
            rows = LocalListing(layout, self._product).rows()
            filesets = [Fileset.of(self._product, row) for row in rows if row.name == self._fileset]
        except ServerUnavailable:
            return False
        return bool(filesets) and all(fresh_marker(layout, step.marker, filesets[-1]) for step in steps)

    @property
    def stored(self) -> list[Path]:
        """Files as they were served; those that the mirror has not kept are left out."""
        return stored_paths(self._mirror.layout, self._product, self._fileset)

    @property
    def unpacked(self) -> list[Path]:
        """Files that were unpacked from its bundles."""
        return unpacked_paths(self._mirror.layout, self._product, self._fileset)


class ProductTarget(luigi.Target):
    """Product of a mirror; it exists while an update has gone through it and nothing of it is left."""

    def __init__(self, product: str, since: datetime | None, config: str = "") -> None:
        self._product, self._since, self._config = product, since, config
        self._mirror = _Mirror.of(config)

    def exists(self) -> bool:
        """Return True if all selected filesets are complete or skipped, by an update that ended ``since``."""
        settings, layout = self._mirror.settings, self._mirror.layout
        updated = (read_marker(layout.updated(self._product)) or {}).get("finished")
        if updated is None:
            _warn_of_unknown(self._config, self._product)
            return False
        if self._since and datetime.fromisoformat(updated) < self._since:
            return False
        product, steps = settings.product(self._product), STEPS.included(settings).required
        try:
            with sky_knowledge(settings, layout, product) as sky:
                counts = count_filesets(layout, product, self._product, steps, sky).counts
        except (MachineFault, ServerUnavailable):
            return False
        return not counts.left

    @property
    def filesets(self) -> list[str]:
        """Names of the complete filesets, in the order of the listing."""
        layout, steps = self._mirror.layout, STEPS.included(self._mirror.settings).required
        complete = layout.marked_in_all([step.marker for step in steps], self._product)
        return [
            row.name for row in LocalListing(layout, self._product).registrations() if row.name in complete
        ]


class MirroredFileset(luigi.ExternalTask):
    """A complete fileset of the mirror whose settings are in the file ``config``."""

    product = luigi.Parameter()
    fileset = luigi.Parameter()
    config = luigi.Parameter(default="", significant=False, description="settings file of the mirror")

    def output(self) -> FilesetTarget:
        """Return the fileset."""
        return FilesetTarget(self.product, self.fileset, self.config)


class MirroredProduct(luigi.ExternalTask):
    """A product of which nothing is left to fetch, by an update that ended at ``since`` (UTC) or later."""

    product = luigi.Parameter()
    since = luigi.Parameter(default="", description="date or time, such as 2026-07-10T12:00:00Z")
    config = luigi.Parameter(default="", significant=False, description="settings file of the mirror")

    def output(self) -> ProductTarget:
        """Return the product. Raises ValueError when ``since`` is no date or time."""
        since = datetime.fromisoformat(self.since) if self.since else None
        return ProductTarget(self.product, since and _in_utc(since), self.config)


@cache
def _warn_of_unknown(config: str, product: str, fileset: str | None = None) -> None:
    """Log, once for a name, that the mirror has no listing of the product, or no row of the fileset."""
    mirror = _Mirror.of(config)
    try:
        check_product_here(mirror.layout, product, mirror.settings, _WAITS)
        if fileset is not None:
            names = (row.name for row in LocalListing(mirror.layout, product).registrations())
            if fileset not in names:
                raise unknown_fileset(mirror.layout, product, fileset, _WAITS)
    except (SettingsError, ServerUnavailable) as error:
        log.warning("%s", error)


def _in_utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
