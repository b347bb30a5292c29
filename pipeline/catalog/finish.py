"""End of a run that changed the catalog: what follows from all of its rows."""

from contextlib import closing
from pathlib import Path

from pipeline.catalog.generations import remove_earlier
from pipeline.catalog.opening import current_database
from pipeline.catalog.positions import approximate_positions
from pipeline.catalog.recorded_state import record_state
from pipeline.catalog.snapshot import write_snapshot
from pipeline.config import Settings
from pipeline.mirror.state.layout import Layout


def finish(settings: Settings, layout: Layout) -> None:
    """Approximate positions, write the snapshot, record the state of the database. Raises MachineFault."""
    database = current_database(settings, layout)
    if database is None:
        return
    with closing(database):
        approximate_positions(database)
    if database.is_file and settings.catalog.snapshot:
        write_snapshot(layout, Path(str(database.url.database)))
    remove_earlier(layout)
    record_state(settings, layout)
