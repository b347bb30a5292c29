"""Resource descriptor for GAVO DaCHS: its columns, and how its code reads values."""

from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from pipeline.catalog.view_columns import OBSCORE

FILE = Path(__file__).resolve().parents[2] / "contrib" / "dachs" / "q.rd"
ROOT = ElementTree.parse(FILE).getroot()
# Columns of ivoa.obscore in DaCHS that the view has not: the mixin has to name a value for each.
OTHERS = {"obs_creator_did", "target_class", "em_ucd", "preview"}


class Shape:
    """Shape of DaCHS' module for pgSphere, as far as the code uses it."""

    def __init__(self, kind: str, numbers: list[float]) -> None:
        self.kind, self.numbers = kind, numbers

    def asPoly(self) -> tuple[str, list[float]]:  # noqa: N802
        return self.kind, self.numbers


def shapes(kind: str) -> SimpleNamespace:
    return SimpleNamespace(fromDALI=lambda numbers: Shape(kind, numbers))


PGSPHERE = SimpleNamespace(SPoly=shapes("polygon"), SCircle=shapes("circle"))


def filtered(row: dict[str, str]) -> dict:
    """Return the row as the code in the descriptor yields it."""
    body = "\n".join("    " + line for line in dedent(ROOT.find(".//rowfilter/code").text).splitlines())
    names: dict = {"pgsphere": PGSPHERE}
    exec(f"def rows(row):\n{body}", names)
    (made,) = names["rows"](row)
    return made


def test_its_columns_are_those_of_the_view():
    columns = ROOT.find("./table/LOOP").get("listItems").split()
    assert columns == [column.name for column in OBSCORE]
    mixin = ROOT.find("./table/mixin")
    assert mixin.text == "//obscore#publishObscoreLike"
    assert {name for name, value in mixin.attrib.items() if value == "NULL"} == OTHERS


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("POLYGON ICRS 1 2 3 4 5 6", ("polygon", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        ("CIRCLE ICRS 10.0 -1e-05 1.5", ("circle", [10.0, -1e-5, 1.5])),
        ("", None),
    ],
)
def test_its_code_reads_regions_and_nulls(region, expected):
    assert filtered({"s_region": region, "t_min": "", "obs_id": "x"}) == {
        "s_region": expected,
        "t_min": None,
        "obs_id": "x",
    }
