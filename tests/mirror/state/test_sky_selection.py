"""Selection by sky cells, position and content: what the listing tells, what others tell, what is unknown."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from support.many_filesets import PRODUCT, complete_mirror, row, settle

from pipeline.config import Near, Product
from pipeline.datastore.listing import read_filesets
from pipeline.errors import SettingsError
from pipeline.mirror.state.pending import pending_rows
from pipeline.mirror.state.selection import (
    empty_selection,
    is_selected,
    may_be_selected,
    refuse_unknown_columns,
)
from pipeline.mirror.state.sky_selection import NOTHING_KNOWN, NothingKnown, waiting
from pipeline.mirror.state.steps import Steps
from pipeline.mirror.steps.download import DOWNLOAD

LISTING = b"""# filesetID|time registered|type|stage|skycell|data_state|
a|2009-08-01T00:00:00Z|IPP-DIST|warp|skycell.1566.004|full|
b|2009-08-01T00:00:00Z|IPP-DIST|warp|skycell.1567.001|cleaned|
# filesetID|time registered|type|stage|
c|2009-08-01T00:00:00Z|IPP-DIST|warp|
d|2009-08-01T00:00:00Z|IPP-DIST|warp|
e|2009-08-01T00:00:00Z|IPP-DIST|stack|
"""


@dataclass
class Known:
    """Knowledge of filesets by name; ``asked`` are those that were asked for."""

    cells: dict[str, set[str]] = field(default_factory=dict)
    near: dict[str, bool] = field(default_factory=dict)
    clean: dict[str, bool] = field(default_factory=dict)
    state: object = 1
    is_enabled: bool = True
    is_whole: bool = True

    def skycells(self, row) -> set[str] | None:
        return self.cells.get(row.name)

    def is_near(self, row, _near: Near) -> bool | None:
        return self.near.get(row.name)

    def is_clean(self, row) -> bool | None:
        return self.clean.get(row.name)


KNOWN = Known(
    cells={"a": {"skycell.1.1"}, "c": {"skycell.1566.001", "skycell.1568.001"}, "d": {"skycell.1567.002"}},
    near={"a": True, "b": True, "c": False},
    clean={"a": True, "c": True, "d": False},
)
NEAR = "near: {ra: 1, dec: 2, radius: 3}"


def product(select: str) -> Product:
    return Product.model_validate({"name": PRODUCT, "select": yaml.safe_load(select)})


def selected(select: str, known: object) -> str:
    rows = read_filesets(LISTING, "x")
    return "".join(each.name for each in rows if is_selected(each, product(select), known))


SELECTED = {
    "{skycell: 'skycell.1566.*'}": "ace",
    "{skycell: [skycell.1566.004, skycell.1567.002]}": "ade",
    "{skycell: 'skycell.1566.*', unknown: no}": "ac",
    f"{{{NEAR}}}": "abde",
    f"{{{NEAR}, unknown: no}}": "ab",
    "{clean: no}": "ade",
    "{clean: no, unknown: no}": "ad",
    "{clean: yes}": "abcde",
    "{unknown: no}": "abcde",
    f"{{skycell: 'skycell.*', {NEAR}, clean: no, unknown: no}}": "a",
    f"{{{NEAR}, stage: stack}}": "e",
}


@pytest.mark.parametrize("select", SELECTED)
def test_which_filesets_are_selected(select):
    assert selected(select, KNOWN) == SELECTED[select]


def test_without_others_the_listing_alone_tells():
    assert selected("{skycell: 'skycell.1566.*', unknown: no}", NOTHING_KNOWN) == "a"
    assert selected("{skycell: 'skycell.1566.*'}", NOTHING_KNOWN) == "acde"


MAY_BE_SELECTED = {
    f"{{{NEAR}, unknown: no}}": "abcde",
    f"{{{NEAR}, unknown: no, stage: stack}}": "e",
    "{skycell: 'skycell.1566.*', unknown: no}": "acde",
    "{clean: no, unknown: no}": "acde",
    "null": "abcde",
}


@pytest.mark.parametrize("select", MAY_BE_SELECTED)
def test_which_filesets_may_be_selected_whatever_others_tell(select):
    rows = read_filesets(LISTING, "x")
    found = "".join(each.name for each in rows if may_be_selected(each, product(select)))
    assert found == MAY_BE_SELECTED[select]


def test_unknown_filesets_wait_for_the_cataloging_of_those_that_are_here():
    known = Known(KNOWN.cells, KNOWN.near, KNOWN.clean, is_whole=False)
    assert selected(f"{{{NEAR}}}", known) == "ab"
    assert waiting(product(f"{{{NEAR}}}"), known) == (
        "select by near: filesets that are here are not in the catalog yet; others that it does not know "
        "wait for the update after these are cataloged"
    )
    for select in (f"{{{NEAR}, unknown: no}}", "{stage: warp}", "null"):
        assert waiting(product(select), known) is None
    assert waiting(product(f"{{{NEAR}}}"), KNOWN) is None


REFUSED = {
    "{near: {ra: 1, dec: 2, radius: 3}}": "near: expected a catalog, which knows filesets by others",
    "{clean: no}": "clean: expected a column data_state or state in its listing, or a catalog, which",
    "{skycell: s}": "skycell: expected a column skycell or skycell_id in its listing, or a catalog, which",
}


@pytest.mark.parametrize("select", REFUSED)
def test_what_nothing_can_tell_is_refused(select):
    with pytest.raises(SettingsError) as refused:
        refuse_unknown_columns(product(select), lambda: {"stage"})
    assert str(refused.value).startswith(f"product {PRODUCT}: select: {REFUSED[select]}")
    refuse_unknown_columns(product(select), lambda: {"stage"}, NothingKnown(is_enabled=True))
    refuse_unknown_columns(product(select), set)


def test_a_column_of_the_listing_needs_no_catalog():
    for select in ("{clean: no}", "{skycell: s}"):
        refuse_unknown_columns(product(select), lambda: {"skycell_id", "state"})


def test_a_selection_by_the_sky_that_matches_nothing_says_so():
    rows = list(read_filesets(LISTING, "x"))
    select = product("{skycell: none, stage: warp, unknown: no}")
    assert empty_selection(select, rows, KNOWN) == (
        "select matches 0 of 5 filesets; stage has stack, warp; skycell: none by listing and catalog"
    )


def test_what_is_remembered_to_be_complete_is_looked_at_again_when_the_catalog_changes(tmp_path: Path):
    layout = complete_mirror(tmp_path)
    for step in ("downloaded", "extracted"):
        layout.marker(step, PRODUCT, "fileset.3").unlink()
    settle(layout, hours=3)
    far, select = Known(near={"fileset.3": False}), product(f"{{{NEAR}}}")
    steps = Steps((DOWNLOAD,))
    assert pending_rows(layout, select, steps, far) == []
    far.near["fileset.3"] = True
    assert pending_rows(layout, select, steps, far) == []
    far.state = 2
    assert pending_rows(layout, select, steps, far) == [row(3)]
