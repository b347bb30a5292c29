"""Matrix of a product: how many filesets of each data group, stage and filter are complete, what is missing.

The listing has the three as columns. A product whose listing lacks them is one cell. Data groups are often
one for each night: of many, those with the same name up to the first dot are taken together.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.bundle.dbinfo import RUN_TABLES
from pipeline.catalog.headers.filters import BANDS
from pipeline.config import Product
from pipeline.mirror.state.failures import failed_in, failures
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.selection import BAND_COLUMN
from pipeline.mirror.state.sky_selection import NOTHING_KNOWN, SkyKnowledge
from pipeline.mirror.state.steps import Steps
from pipeline.reporting.filesets import FilesetState, ProductFilesets

COLUMNS = ("data_group", "stage", BAND_COLUMN)
_STAGES = tuple(dict.fromkeys(tables.stage for tables in RUN_TABLES))
_NAMED = 3


@dataclass(frozen=True)
class MatrixPolicy:
    """Most data groups shown one by one, most groups in all, filters, and rows of what is missing."""

    data_groups: int = 24
    groups: int = 60
    bands: int = 8
    missing: int = 30


DEFAULT = MatrixPolicy()


@dataclass(frozen=True)
class Cell:
    """Filesets of one data group, stage and filter.

    Each of the ``known`` is complete, or one of the others: ``withdrawn``, ``unselected``, ``skipped``, or
    ``left``, of which some ``failed``.
    """

    known: int = 0
    complete: int = 0
    left: int = 0
    failed: int = 0
    skipped: int = 0
    withdrawn: int = 0
    unselected: int = 0

    def __add__(self, other: "Cell") -> "Cell":
        return Cell(
            self.known + other.known,
            self.complete + other.complete,
            self.left + other.left,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.withdrawn + other.withdrawn,
            self.unselected + other.unselected,
        )


@dataclass
class Missing:
    """Filesets of one cell that are left, failed, skipped or withdrawn: their numbers, the first names.

    ``kinds`` counts each fileset once; ``since`` is the earliest time of registration among them (UTC, as
    listed).
    """

    data_group: str
    stage: str
    band: str
    since: str
    kinds: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)

    @property
    def filesets(self) -> int:
        """Number of the filesets."""
        return self.kinds.total()

    @property
    def is_settled(self) -> bool:
        """True if none of the filesets will be fetched: all are skipped or withdrawn."""
        return not self.kinds["left"] and not self.kinds["failed"]


@dataclass(frozen=True)
class Group:
    """Data group: a row of cells for each stage, with a cell or None for each band of ``bands``."""

    name: str
    bands: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]

    @property
    def lacks_nothing(self) -> bool:
        """True if all filesets of the group are complete or not selected."""
        cells = [cell for _, row in self.rows for cell in row if cell is not None]
        return all(cell.complete + cell.unselected == cell.known for cell in cells)


@dataclass(frozen=True)
class Matrix:
    """Matrix of a product. ``total`` has all filesets; ``notes`` say what is taken together or left out.

    ``missing`` begins with what was registered first; what is skipped or withdrawn comes last. It has the
    first of ``missing_rows`` rows.
    """

    product: str
    total: Cell
    groups: tuple[Group, ...]
    missing: tuple[Missing, ...]
    missing_rows: int
    notes: tuple[str, ...]


_Key = tuple[str, str, str]


def product_matrix(
    layout: Layout,
    product: Product | None,
    name: str,
    steps: Steps,
    policy: MatrixPolicy = DEFAULT,
    sky: SkyKnowledge = NOTHING_KNOWN,
) -> Matrix:
    """Return the matrix of the product ``name``, by one pass through its listing; no marker is read.

    ``steps`` are the included ones; no fileset is selected for the product None. Raises ServerUnavailable for
    a damaged listing, MachineFault when ``sky`` cannot be read.
    """
    required = steps.required
    failed = {each["fileset"] for each in failed_in(failures(layout, name), (step.name for step in required))}
    counts: dict[_Key, Counter[str]] = defaultdict(Counter)
    missing: dict[_Key, Missing] = {}
    places = _Places()
    for state in ProductFilesets(layout, product, name, required, sky).states():
        key, kind = places.of(state), _kind(state, failed)
        counts[key][kind] += 1
        if kind not in {"complete", "unselected"}:
            _add_missing(missing, key, state, kind)
    cells = {key: _cell(count) for key, count in counts.items()}
    return _matrix(name, cells, list(missing.values()), policy)


class _Places:
    """Key of each row: its data group, stage and filter, each empty where the row has none."""

    def __init__(self) -> None:
        self._columns: tuple[str, ...] = ()
        self._places: list[int | None] = []

    def of(self, state: FilesetState) -> _Key:
        """Return the key of a fileset."""
        if state.columns is not self._columns:
            self._columns = state.columns
            self._places = [
                state.columns.index(column) if column in state.columns else None for column in COLUMNS
            ]
        group, stage, band = (_value(state.fields, place) for place in self._places)
        # A filter is listed with a number of its kind, as in r.00000.
        return group, stage, band.partition(".")[0] or band


def _value(fields: list[str], place: int | None) -> str:
    if place is None or place >= len(fields):
        return ""
    value = fields[place].strip()
    return "" if value == "null" else value


def _kind(state: FilesetState, failed: set[str]) -> str:
    """Return the name of the number of ``Cell`` that counts the fileset; ``failed`` ones are left, too."""
    if state.complete:
        return "complete"
    if not state.selected:
        return "withdrawn" if state.withdrawn else "unselected"
    if state.skipped:
        return "skipped"
    return "failed" if state.name in failed else "left"


def _cell(count: Counter[str]) -> Cell:
    numbers = dict(count) | {"known": count.total(), "left": count["left"] + count["failed"]}
    return Cell(**numbers)


def _add_missing(missing: dict[_Key, Missing], key: _Key, state: FilesetState, kind: str) -> None:
    entry = missing.setdefault(key, Missing(*key, since=state.registered))
    entry.since = min(entry.since, state.registered)
    entry.kinds[kind] += 1
    if len(entry.names) < _NAMED:
        entry.names.append(state.name)


def _matrix(product: str, cells: dict[_Key, Cell], missing: list[Missing], policy: MatrixPolicy) -> Matrix:
    notes = []
    shown = cells
    names = {group for group, _, _ in cells}
    if len(names) > policy.data_groups:
        notes.append(
            f"{len(names)} data groups; those with the same name up to the first dot are taken together"
        )
        shown = _together(cells)
    groups = _groups(shown, policy.bands)
    if len(groups) > policy.groups:
        notes.append(f"the first {policy.groups} of {len(groups)} groups are shown")
    ordered = sorted(
        missing, key=lambda each: (each.is_settled, each.since, each.data_group, each.stage, each.band)
    )
    return Matrix(
        product,
        _sum(cells.values()),
        tuple(groups[: policy.groups]),
        tuple(ordered[: policy.missing]),
        len(ordered),
        tuple(notes),
    )


def _together(cells: dict[_Key, Cell]) -> dict[_Key, Cell]:
    """Return the cells of data groups with the same name up to the first dot as one."""
    together: dict[_Key, Cell] = defaultdict(Cell)
    for (group, stage, band), cell in cells.items():
        begin, dot, _ = group.partition(".")
        together[f"{begin}{dot and '.*'}", stage, band] += cell
    return together


def _groups(cells: dict[_Key, Cell], most_bands: int) -> list[Group]:
    by_group: dict[str, dict[str, dict[str, Cell]]] = defaultdict(lambda: defaultdict(dict))
    for (group, stage, band), cell in cells.items():
        by_group[group][stage][band] = cell
    names = sorted(by_group, key=lambda name: (not name, name))
    return [_group(name, by_group[name], most_bands) for name in names]


def _group(name: str, stages: dict[str, dict[str, Cell]], most_bands: int) -> Group:
    """Return a group with its stages in the order of the pipeline, its filters from blue to red."""
    bands = sorted({band for row in stages.values() for band in row}, key=lambda band: _order(BANDS, band))
    shown, others = bands[:most_bands], bands[most_bands:]
    rows = []
    for stage in sorted(stages, key=lambda stage: _order(_STAGES, stage)):
        row = [stages[stage].get(band) for band in shown]
        rest = [stages[stage][band] for band in others if band in stages[stage]]
        rows.append((stage, (*row, *([_sum(rest) if rest else None] if others else []))))
    return Group(name, (*shown, *(["others"] if others else [])), tuple(rows))


def _order(known: tuple[str, ...], value: str) -> tuple[int, str]:
    """Return the place of a value: known ones first, in their order, an empty one last."""
    place = known.index(value) if value in known else len(known)
    return (place + (not value), value)


def _sum(cells: Iterable[Cell]) -> Cell:
    return sum(cells, Cell())
