"""Resource descriptor for GAVO DaCHS: its columns, how its code reads values, and an import by DaCHS."""

import csv
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from xml.etree import ElementTree

import psycopg
import pytest
from support.catalog_rows import make_catalog
from support.databases import has_extension, postgresql

from pipeline.catalog.catalog import catalog_of
from pipeline.catalog.formats import as_csv
from pipeline.catalog.view_columns import OBSCORE
from pipeline.mirror.state.layout import Layout

FILE = Path(__file__).resolve().parents[2] / "contrib" / "dachs" / "q.rd"
ROOT = ElementTree.parse(FILE).getroot()
# Columns of ivoa.obscore in DaCHS that the view has not: the mixin has to name a value for each.
OTHERS = {"obs_creator_did", "target_class", "em_ucd", "preview"}

# Positions, with the observations of ``make_catalog`` that cover them.
PLACES = {
    (150.1, 2.1): ["o5000g0001o"],
    (359.1, -10.1): ["o5000g0002o"],
    (0.4, -9.9): ["o5000g0002o"],
    (10.1, 80.1): ["stack.2001"],
    (11.0, 1.0): ["web_1001"],
    (11.2, 1.0): [],
}


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


@pytest.fixture
def server() -> Iterator[str]:
    """Return the URL of an empty database with the extensions that DaCHS needs."""
    if shutil.which("dachs") is None or not (has_extension("pg_sphere") and has_extension("q3c")):
        pytest.skip("needs GAVO DaCHS (Debian package gavodachs2-server)")
    with postgresql() as url:
        yield url


@pytest.fixture
def dachs(server: str, tmp_path: Path) -> Callable[..., None]:
    """Return the command ``dachs`` of a new installation, whose folder of resources is ``inputs``."""
    settings = tmp_path / "gavo.rc"
    settings.write_text(
        f"[general]\nrootDir: {tmp_path}\ntempDir: {tmp_path}/tmp\ngroup: root\n"
        "[web]\nbindAddress: 127.0.0.1\n[ivoa]\nauthority: archive.example.org\n"
    )
    own = {"GAVOSETTINGS": str(settings), "GAVOCUSTOM": str(tmp_path / "none"), "HOME": str(tmp_path)}

    def run(*arguments: str) -> None:
        done = subprocess.run(
            ["dachs", *arguments], env=os.environ | own, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"dachs {arguments}: {done.stdout}{done.stderr}"

    name, host = server.removeprefix("postgresql://mirror@/").split("?host=")
    run("init", "-d", f"host={host} dbname={name} user=mirror")
    run("imp", "//obscore")
    return run


@pytest.mark.long
def test_dachs_publishes_each_image_of_the_view(dachs, server, tmp_path):
    layout = Layout(tmp_path / "mirror")
    make_catalog(layout)
    folder = tmp_path / "inputs" / "ippmirror"
    (folder / "data").mkdir(parents=True)
    shutil.copy(FILE, folder)
    with closing(catalog_of(layout, None)) as catalog:
        text = "".join(as_csv(*catalog.answer("SELECT * FROM obscore")))
    (folder / "data" / "obscore.csv").write_text(text)
    # A second import replaces the rows of the first one.
    for _ in range(2):
        dachs("imp", "ippmirror/q")
    dachs("limits", "ippmirror/q")
    dachs("pub", "ippmirror/q")
    with closing(psycopg.connect(server)) as connection:
        columns = "obs_publisher_did", "access_url", "obs_id", "dataproduct_subtype"
        published = connection.execute(f"SELECT {', '.join(columns)} FROM ivoa.obscore")
        rows = csv.DictReader(text.splitlines())
        assert sorted(published, key=str) == sorted(
            (tuple(row[name] or None for name in columns) for row in rows), key=str
        )
        covering = "SELECT obs_id FROM ivoa.obscore WHERE spoint(radians(%s), radians(%s)) @ s_region"
        found = {place: [name for (name,) in connection.execute(covering, place)] for place in PLACES}
        assert found == PLACES
        registered = connection.execute("SELECT sourcerd FROM dc.resources WHERE resid = 'images'")
        assert list(registered) == [("ippmirror/q",)]
