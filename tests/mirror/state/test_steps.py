"""Rows of the workflow: their order, what requires what, and which ones the settings ask for."""

from types import SimpleNamespace

import pytest

from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import Fileset, mark_done
from pipeline.mirror.state.steps import Problem, Steps, StepSpec, drop_marker


def nothing(*_: object) -> None:
    """Do nothing."""


FETCH = StepSpec("fetch", "fetched", nothing)
SORT = StepSpec("sort", "sorted", nothing, is_included=lambda settings: settings.sort)
PLOT = StepSpec("plot", "plotted", nothing, optional=True)
STEPS = Steps((FETCH, SORT, PLOT))


def test_each_step_requires_the_one_before_it():
    assert [STEPS.before(step) for step in STEPS] == [(), (FETCH,), (SORT, FETCH)]
    assert [STEPS.after(step) for step in STEPS] == [(SORT, PLOT), (PLOT,), ()]
    assert STEPS["sort"] is SORT


def test_a_fileset_is_complete_without_optional_steps():
    assert STEPS.required == (FETCH, SORT)


def test_the_settings_may_do_without_a_step():
    assert STEPS.included(SimpleNamespace(sort=True)) == STEPS
    without = STEPS.included(SimpleNamespace(sort=False))
    assert list(without) == [FETCH, PLOT]
    assert without.before(PLOT) == (FETCH,)


@pytest.mark.parametrize("rows", [(), (PLOT, FETCH), (FETCH, PLOT, SORT)])
def test_optional_steps_come_last(rows):
    with pytest.raises(ValueError, match="optional steps behind all others"):
        Steps(rows)


def test_a_row_that_says_no_more_than_it_must(tmp_path):
    """Nothing to verify, nothing to retract; the step is done again when its marker is dropped."""
    layout = Layout(tmp_path)
    fileset = Fileset("p", "f", "t")
    context = SimpleNamespace(layout=layout)
    mark_done(layout, FETCH.marker, fileset, "t", {})
    FETCH.retract(context, fileset)
    assert list(FETCH.verify(context, fileset, None)) == []
    assert FETCH.is_ready(layout, fileset)
    assert layout.marked(FETCH.marker, "p") == {"f"}
    assert FETCH.set_aside is drop_marker
    FETCH.set_aside(layout, FETCH, fileset)
    assert layout.marked(FETCH.marker, "p") == set()


def test_a_problem_is_one_line():
    assert str(Problem("store/p/f/a.fits", "expected 5 bytes, got 4", "fetched")) == (
        "store/p/f/a.fits: expected 5 bytes, got 4"
    )
