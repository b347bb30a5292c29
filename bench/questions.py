"""Questions to the catalog of a synthetic survey in SQLite: CPU time of each, and of the whole command."""

import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench.measure import Spread, run
from bench.postgresql import copy_survey, postgresql
from bench.survey import DEEP_FIELD, make_survey
from bench.tables import print_table
from pipeline.catalog.columns import COLUMNS, SHOWN, WRITTEN, columns_named
from pipeline.catalog.criteria import Criteria
from pipeline.catalog.find import count, find
from pipeline.catalog.generations import make_current
from pipeline.catalog.reader import Reader, ServerReader, SqliteReader
from pipeline.mirror.state.layout import Layout

_ROUNDS = 9
_SPARSE = (80.0, 20.0)
_JULY, _AUGUST = datetime(2009, 7, 1, tzinfo=UTC), datetime(2009, 8, 1, tzinfo=UTC)
_MONTH = {"filter": ("r",), "after": _JULY, "before": _AUGUST}
_DEEP_CONE = "cone of 0.1 degrees in a deep field"
_GROUPS = "SELECT stage, band, count(*) FROM image WHERE kind = 'image' GROUP BY stage, band"


def _questions(reader: Reader) -> dict[str, Criteria]:
    ((exposure,),) = reader.rows("SELECT min(exp_name) FROM image", {})
    return {
        "position": Criteria(at=_SPARSE),
        "cone of 0.1 degrees": Criteria(at=_SPARSE, radius=0.1),
        "position in a deep field": Criteria(at=DEEP_FIELD),
        _DEEP_CONE: Criteria(at=DEEP_FIELD, radius=0.1),
        "cone of 5 degrees, a filter, a month": Criteria(at=DEEP_FIELD, radius=5.0, **_MONTH),
        "night, stage, filter": Criteria(
            stage=("warp",), filter=("r",), after=_JULY, before=_JULY.replace(day=2)
        ),
        "exposure": Criteria(exposure=(exposure,)),
    }


def ask(folder: Path, images: int) -> None:
    """Write a catalog of so many images unless it is there, ask it, and print a table."""
    layout = Layout(folder / "questions" / str(images))
    file = layout.catalog / "000001.sqlite"
    if not file.exists():
        make_survey(file, images)
        make_current(layout, file)
    columns = columns_named(WRITTEN)
    rows = [["", "rows", "CPU ms", "min-max"]]
    with closing(SqliteReader(file)) as reader:
        questions = _questions(reader)
        for name, criteria in questions.items():
            rows.append([name, *_timed(lambda c=criteria: sum(1 for _ in find(reader, c, columns, "/m")))])
        deep = questions[_DEEP_CONE]
        for shown, some in {"columns of the table": columns_named(SHOWN), "paths": [COLUMNS["path"]]}.items():
            name = f"the same, {shown}"
            rows.append([name, *_timed(lambda c=some: sum(1 for _ in find(reader, deep, c, "/m")))])
        rows.append(["the same, counted", *_timed(lambda: count(reader, deep))])
        rows.append(["numbers by stage and filter", *_timed(lambda: len(list(reader.rows(_GROUPS, {}))))])
    rows.append(["the command find --format paths, a position", *_command(layout.root)])
    print_table(f"Questions to {images:,} images: {file.stat().st_size / images:.0f} bytes for each", rows)


def ask_postgresql(folder: Path, images: int, times: int) -> None:
    """Ask PostgreSQL about so many times the images of the survey, and print the time that passes."""
    file = Layout(folder / "questions" / str(images)).catalog / "000001.sqlite"
    columns = columns_named(WRITTEN)
    rows = [["", "rows", "ms", "min-max"]]
    with postgresql(folder) as database:
        copy_survey(file, database, times)
        reader = ServerReader(database)
        for name, criteria in _questions(reader).items():
            question = partial(find, reader, criteria, columns, "/m")
            rows.append([name, *_timed(lambda q=question: sum(1 for _ in q()), time.perf_counter)])
    print_table(f"Questions to {images * times:,} images in PostgreSQL", rows)


def _timed(question: Callable[[], int], clock: Callable[[], float] = time.process_time) -> list[str]:
    seconds = []
    for _ in range(_ROUNDS):
        began = clock()
        found = question()
        seconds.append(clock() - began)
    return [f"{found:,}", *_cells(seconds)]


def _command(root: Path) -> list[str]:
    """Return the cells of the whole command, start of the interpreter included."""
    settings = root / "mirror.yaml"
    settings.write_text("source: {url: http://127.0.0.1:9/ds}\nmirror: {root: .}\ncatalog: {enabled: true}\n")
    program = str(Path(sys.executable).with_name("ipp-mirror"))
    command = [program, "find", "--at", "150.1 2.3", "--format", "paths"]
    log = root / "find.log"
    seconds = [run(command, root, log).cpu_seconds for _ in range(_ROUNDS)]
    return [f"{len(log.read_text().splitlines()):,}", *_cells(seconds)]


def _cells(seconds: list[float]) -> list[str]:
    spread = Spread.of([1000 * each for each in seconds])
    return [f"{spread.median:.1f}", f"{spread.least:.1f}-{spread.most:.1f}"]
