"""Cataloging as a step of the workflow: optional, for the files of a fileset are complete without it.

SQLAlchemy is imported in the functions: an update that has nothing to catalog does without. Where a catalog
is to be made, or caught up with, it is imported before the processes of the run are forked, once for all.
"""

import importlib
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from threading import Event

from pipeline.config import Settings
from pipeline.mirror.context import Report, RunContext
from pipeline.mirror.resources.rate_limit import RateLimit
from pipeline.mirror.state.layout import MarkerKind
from pipeline.mirror.state.markers import Fileset, fresh_marker
from pipeline.mirror.state.steps import Problem, StepSpec
from pipeline.units import as_count

log = logging.getLogger(__name__)

_LOADED = ("pipeline.catalog.reconcile", "pipeline.catalog.finish", "sqlalchemy.dialects.sqlite")


def catalog_fileset(context: RunContext, fileset: Fileset, report: Report) -> None:
    """Write the rows of the fileset to the catalog, and its marker. Raises BundleUnusable or MachineFault."""
    from pipeline.catalog.writer import writer_of

    writer_of(context.settings, context.layout).catalog(fileset, context.ownership, report)


def delete_from_catalog(context: RunContext, fileset: Fileset) -> None:
    """Delete the rows of the fileset; without a database that can be written, the next run with one does."""
    if not context.settings.catalog.enabled or CATALOG.name in context.left_out:
        from pipeline.catalog.recorded_state import forget_state

        forget_state(context.layout)
        return
    from pipeline.catalog.reconcile import delete_now_or_later

    delete_now_or_later(context.settings, context.layout, fileset)


def load_catalog(context: RunContext) -> None:
    """Import what reading and writing need, except where the last run has left nothing to catch up with."""
    from pipeline.catalog.recorded_state import is_recorded

    if not (context.settings.catalog.is_file and is_recorded(context.layout)):
        for name in _LOADED:
            importlib.import_module(name)


def prepare_catalog(context: RunContext) -> None:
    """Make a catalog if there is none, and the filesets pending that it lacks. Raises MachineFault."""
    from pipeline.catalog.recorded_state import is_as_recorded

    if not is_as_recorded(context.settings, context.layout):
        from pipeline.catalog.reconcile import reconcile, warn_of_loss

        warn_of_loss(context.settings, context.layout)
        reconcile(context.settings, context.layout)


def finish_catalog(context: RunContext) -> None:
    """After a run that changed the catalog, write all that follows from it. Raises MachineFault."""
    from pipeline.catalog.recorded_state import is_as_recorded

    if not is_as_recorded(context.settings, context.layout):
        from pipeline.catalog.finish import finish

        finish(context.settings, context.layout)


def draw_catalog(context: RunContext, stopping: Event) -> None:
    """Have the coverage of the sky drawn, unless it is as the catalog is. Raises MachineFault."""
    from pipeline.catalog.coverage import draw_coverage

    draw_coverage(context.settings, context.layout, stopping)


def verify_cataloged(context: RunContext, fileset: Fileset, _rate: RateLimit) -> Iterator[Problem]:
    """Yield a problem if the catalog has no rows of the fileset, or others than its marker says."""
    layout = context.layout
    marker = fresh_marker(layout, MarkerKind.CATALOGED, fileset)
    if not context.settings.catalog.enabled or marker is None:
        return
    from pipeline.catalog.check import MISSING, STALE
    from pipeline.catalog.writer import writer_of

    cataloged = writer_of(context.settings, layout).cataloged(fileset)
    if cataloged != marker.get("cataloged"):
        path = layout.relative(layout.marker(MarkerKind.CATALOGED, fileset.product, fileset.name))
        yield Problem(path, STALE if cataloged else MISSING, MarkerKind.CATALOGED)


def unexpected_rows(context: RunContext) -> Iterator[Problem]:
    """Yield the filesets with rows in the catalog that the mirror does not hold; the next run deletes these.

    Filesets that are not cataloged yet are logged, and no problem.
    """
    if not context.settings.catalog.enabled:
        return
    from pipeline.catalog.check import EXTRA, PENDING, differences
    from pipeline.catalog.opening import current_database
    from pipeline.catalog.recorded_state import record_behind

    database = current_database(context.settings, context.layout, read_only=True)
    if database is None:
        return
    kinds = [step.marker for step in context.included_steps.required]
    counts: Counter[str] = Counter()
    with closing(database):
        for difference in differences(context.layout, database, kinds):
            counts[difference.what] += 1
            if difference.what == EXTRA:
                name = f"{difference.product}/{difference.fileset}"
                yield Problem(f"catalog: {name}", f"{EXTRA}; the next update deletes its rows", None)
    if counts[EXTRA]:
        record_behind(context.layout)
    if counts[PENDING]:
        waiting = as_count(counts[PENDING], "fileset")
        log.info("catalog: %s not cataloged yet; the next update does it", waiting)


def _is_included(settings: Settings) -> bool:
    return settings.catalog.enabled


CATALOG = StepSpec(
    name="catalog",
    marker=MarkerKind.CATALOGED,
    do=catalog_fileset,
    optional=True,
    retract=delete_from_catalog,
    load=load_catalog,
    prepare=prepare_catalog,
    finish=finish_catalog,
    conclude=draw_catalog,
    verify=verify_cataloged,
    unexpected=unexpected_rows,
    is_included=_is_included,
)
