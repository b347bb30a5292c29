"""Steps of the workflow as data: one row for each thing that is done to a fileset.

A row says which marker proves the step, whether the mirror is incomplete without it, how it is done, and
how what it made is verified, set aside and retracted. Discovery, pending, removal, verification, status and
the task window walk the rows and name no step.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.durable import remove_files
from pipeline.mirror.state.layout import Layout

if TYPE_CHECKING:
    # The rows are written beside the steps, above this package; here they are only passed on.
    from pipeline.mirror.context import Report, RunContext
    from pipeline.mirror.resources.rate_limit import RateLimit
    from pipeline.mirror.state.markers import Fileset


# Beginning of what is wrong with a file or folder that no fileset brought.
UNEXPECTED = "unexpected: "


@dataclass(frozen=True)
class Problem:
    """One thing on disk that is not as its marker says.

    ``path`` is relative to the root; ``marker`` is the kind of marker of the step that repairs it, None when
    no step does.
    """

    path: str
    what: str
    marker: str | None

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def _always(_: Settings) -> bool:
    return True


def _nothing_to_verify(_context: "RunContext", _fileset: "Fileset", _rate: "RateLimit") -> Iterable[Problem]:
    return ()


def _nothing_unexpected(_context: "RunContext") -> Iterable[Problem]:
    return ()


def _nothing_to_retract(_context: "RunContext", _fileset: "Fileset") -> None:
    return None


def _nothing_to_do(_context: "RunContext") -> None:
    return None


def _nothing_to_conclude(_context: "RunContext", _stopping: Event) -> None:
    return None


def _as_marked(_layout: Layout, _fileset: "Fileset") -> bool:
    return True


def drop_marker(layout: Layout, step: "StepSpec", fileset: "Fileset") -> None:
    """Make the step pending: what it made stays, and is replaced when it is done again."""
    remove_files([layout.marker(step.marker, fileset.product, fileset.name)])


@dataclass(frozen=True)
class StepSpec:
    """One step of the workflow; each step requires the nearest one before it that is included.

    ``name`` is a verb (``extract``), ``marker`` the folder of its markers (``extracted``).

    * ``do(context, fileset, report)`` does the step and writes its marker last. Done again on top of what a
      killed attempt left, it ends the same way. Raises MirrorError.
    * ``retract(context, fileset)`` removes what the step made, when the fileset is deleted.
    * ``set_aside(layout, step, fileset)`` makes the step pending when the fileset is registered again.
    * ``verify(context, fileset, rate)`` yields what is not as the marker says; reading keeps to ``rate``.
    * ``unexpected(context)`` yields what the step has made and belongs to no fileset.
    * ``is_ready(layout, fileset)`` is False when what the next step needs is gone in spite of the marker.
    * ``load(context)`` is called before the processes that do the steps are forked: what it imports is shared
      by all of them. Raises nothing.
    * ``prepare(context)`` is called once at the beginning of an update, ``finish(context)`` at its end. Of an
      optional step either may raise MirrorError: the update goes on, after a failed ``prepare`` without the
      step.
    * ``conclude(context, stopping)`` is called when the run has released its lock, and another one may have
      begun. It takes minutes at most, and returns soon once ``stopping`` is set. Raises MirrorError, which
      changes no exit code.
    * ``is_included(settings)`` is False when the settings do without the step.
    * An ``optional`` step may fail: the fileset counts as complete without it.
    """

    name: str
    marker: str
    do: Callable[["RunContext", "Fileset", "Report"], None]
    optional: bool = False
    retract: Callable[["RunContext", "Fileset"], None] = _nothing_to_retract
    set_aside: Callable[[Layout, "StepSpec", "Fileset"], None] = drop_marker
    verify: Callable[["RunContext", "Fileset", "RateLimit"], Iterable[Problem]] = _nothing_to_verify
    unexpected: Callable[["RunContext"], Iterable[Problem]] = _nothing_unexpected
    is_ready: Callable[[Layout, "Fileset"], bool] = _as_marked
    load: Callable[["RunContext"], None] = _nothing_to_do
    prepare: Callable[["RunContext"], None] = _nothing_to_do
    finish: Callable[["RunContext"], None] = _nothing_to_do
    conclude: Callable[["RunContext", Event], None] = _nothing_to_conclude
    is_included: Callable[[Settings], bool] = _always


@dataclass(frozen=True)
class Steps:
    """The rows in the order in which they are done: optional ones come last."""

    rows: tuple[StepSpec, ...]

    def __post_init__(self) -> None:
        if not self.rows or [row.optional for row in self.rows] != sorted(row.optional for row in self.rows):
            raise ValueError("expected at least one step, and optional steps behind all others")

    def __iter__(self) -> Iterator[StepSpec]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> StepSpec:
        return next(row for row in self.rows if row.name == name)

    def included(self, settings: Settings) -> "Steps":
        """Return the steps that the settings ask for."""
        return Steps(tuple(row for row in self.rows if row.is_included(settings)))

    @property
    def required(self) -> tuple[StepSpec, ...]:
        """The steps without which a fileset is incomplete."""
        return tuple(row for row in self.rows if not row.optional)

    def set_aside(self, layout: Layout, fileset: "Fileset", after: StepSpec | None = None) -> None:
        """Make all steps of the fileset pending, or those after one; what they made stays till replaced."""
        for step in reversed(self.after(after) if after else self.rows):
            step.set_aside(layout, step, fileset)

    def before(self, step: StepSpec) -> tuple[StepSpec, ...]:
        """Return the steps before ``step``, the nearest one first."""
        return self.rows[: self.rows.index(step)][::-1]

    def after(self, step: StepSpec) -> tuple[StepSpec, ...]:
        """Return the steps after ``step``, the nearest one first."""
        return self.rows[self.rows.index(step) + 1 :]
