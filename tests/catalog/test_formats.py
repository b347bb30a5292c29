"""Answers as text: what programs read back, and what fits on a terminal."""

import csv
import io
import json
import math
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from astropy.io.votable import parse_single_table
from astropy.io.votable.ucd import check_ucd
from astropy.units import Unit
from support.stilts import stilts_accepts

from pipeline.catalog.columns import COLUMNS, Column, ValueKind, columns_named
from pipeline.catalog.formats import as_csv, as_json, as_table, as_votable, astropy_table

PATH, STAGE, NAXIS, RA, OBSERVED = columns_named(["path", "stage", "naxis1", "ra", "observed"])
FIVE = [PATH, STAGE, NAXIS, RA, OBSERVED]
TIME = datetime(2009, 7, 29, 12, 40, 0, tzinfo=UTC)
ROWS = [
    ("/m/a,b.fits", 'a "name"', 4846, 150.123456789, TIME),
    ("/m/é\n.fits", None, None, None, None),
    ("/m/c.fits", "", -1, 0.1 + 0.2, TIME.replace(microsecond=500_000)),
]


def test_csv():
    text = "".join(as_csv(FIVE, iter(ROWS)))
    assert text.splitlines()[:2] == [
        "path,stage,naxis1,ra,observed",
        '"/m/a,b.fits","a ""name""",4846,150.123456789,2009-07-29T12:40:00Z',
    ]
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read[2:] == [
        ["/m/é\n.fits", "", "", "", ""],
        ["/m/c.fits", "", "-1", "0.30000000000000004", "2009-07-29T12:40:00.500Z"],
    ]


def test_json():
    text = "".join(as_json(FIVE, iter(ROWS)))
    read = json.loads(text)
    assert [list(row.values()) for row in read] == [
        ["/m/a,b.fits", 'a "name"', 4846, 150.123456789, "2009-07-29T12:40:00Z"],
        ["/m/é\n.fits", None, None, None, None],
        ["/m/c.fits", "", -1, 0.30000000000000004, "2009-07-29T12:40:00.500Z"],
    ]
    assert list(read[0]) == [column.name for column in FIVE]
    assert len(text.splitlines()) == len(ROWS) + 2


def test_values_that_only_databases_have():
    columns = [Column(name, None) for name in "abcde"]
    row = (math.nan, Decimal(2**63), Decimal("0.5"), b"\x00\xff", datetime(2009, 7, 29))
    assert "".join(as_csv(columns, [row])) == f"a,b,c,d,e\nnan,{2**63},0.5,00ff,2009-07-29T00:00:00Z\n"
    assert list(json.loads("".join(as_json(columns, [(*row[:4], math.inf)])))[0].values()) == [
        *(None, 2**63, 0.5, "00ff", None)
    ]


@pytest.mark.parametrize(("written", "empty"), [(as_csv, "path,stage\n"), (as_json, "[]\n")])
def test_no_rows(written, empty):
    assert "".join(written([PATH, STAGE], iter([]))) == empty


def test_the_table_is_aligned_and_rounded():
    rows = [("data/a.fits", "chip", 4846, 150.123456789, TIME), ("data/bb.fits", None, 7, -0.5, None)]
    assert "".join(as_table(FIVE, iter(rows), None)) == (
        "path          stage  naxis1         ra  observed\n"
        "data/a.fits   chip     4846  150.12346  2009-07-29 12:40:00\n"
        "data/bb.fits              7   -0.50000\n"
    )


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_table_fits_the_terminal(width):
    rows = [(f"data/{'x' * 70}.{n}.fits", f"chip{'y' * n}", n, n / 7, TIME) for n in range(40)]
    lines = "".join(as_table(FIVE, iter(rows), width)).splitlines()
    if width == 200:
        assert len(lines) == 41
        assert not any("…" in line for line in lines)
        return
    beside, paths = lines[::2], lines[1::2]
    assert [path.strip() for path in paths] == ["path", *(row[0] for row in rows)], "no path is cut"
    assert max(map(len, beside)) <= max(width, 4 * 8 + 3 * 2)
    if width == 80:
        assert beside[40].startswith("chipyyy") and "…yyy" in beside[40], "both ends of a name are shown"


def test_a_value_longer_than_those_of_the_first_rows_is_cut():
    rows = [*([("a.fits", "chip")] * 1000), ("a-longer-name.fits", "chip")]
    assert list(as_table([PATH, STAGE], iter(rows), None))[-1] == "a-l…ts  chip\n"


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\nb", "a\tb", "a\u202eb", "\x00", "\x9b31m"])
def test_the_table_shows_nothing_that_a_terminal_obeys(hostile):
    for line in as_table([Column("x\x1b[2J", None)], iter([(hostile,)]), 80):
        assert line.endswith("\n")
        assert line[:-1].isprintable()


def table_of(columns, rows, tmp_path):
    path = tmp_path / "answer.vot"
    path.write_text("".join(as_votable(columns, iter(rows))))
    return path, parse_single_table(path, verify="exception").to_table()


def test_votable_has_units_ucds_descriptions_and_null(tmp_path):
    _, read = table_of(FIVE, ROWS, tmp_path)
    assert read.colnames == [column.name for column in FIVE]
    assert [read[name].mask.tolist() for name in ("naxis1", "ra")] == [[False, True, False]] * 2
    assert read["naxis1"].tolist() == [4846, None, -1]
    assert read["ra"][0] == ROWS[0][3]
    assert list(read["path"]) == [row[0] for row in ROWS]
    assert list(read["observed"]) == ["2009-07-29T12:40:00Z", "", "2009-07-29T12:40:00.500Z"]
    assert (read["ra"].unit, read["ra"].meta["ucd"]) == (Unit("deg"), "pos.eq.ra;meta.main")
    assert read["ra"].description == COLUMNS["ra"].description


def test_votable_of_all_columns_and_of_none(tmp_path):
    columns = list(COLUMNS.values())
    values = {
        ValueKind.TEXT: "x",
        ValueKind.PATH: "/m/x",
        ValueKind.INTEGER: 2**61,
        ValueKind.REAL: 1.5,
        ValueKind.TIME: TIME,
        ValueKind.DAY: TIME,
    }
    full = tuple(values[column.kind] for column in columns)
    paths = []
    for rows in ([], [full], [full, (None,) * len(columns)]):
        path, read = table_of(columns, rows, tmp_path)
        assert len(read) == len(rows)
        # Without that element STILTS and TOPCAT find no table.
        assert path.read_text().count("<TABLEDATA") == 1
        paths.append(path.rename(tmp_path / f"{len(rows)}.vot"))
    stilts_accepts(*paths)


def test_votable_of_names_and_values_that_xml_or_its_readers_refuse(tmp_path):
    names = ["count(*)", "x\x01y", "é<&", "n"]
    rows = [
        ("\x01a", math.inf, "\ufffe\ud800", 1),
        ("<\t&>", -math.inf, "\U0001f600", 2),
        (None, 0.5, None, None),
    ]
    path, read = table_of([Column(name, None) for name in names], rows, tmp_path)
    fields = parse_single_table(path).fields
    assert [field.name for field in fields] == ["count(*)", r"x\x01y", "é<&", "n"]
    assert [column.tolist() for column in read.itercols()] == [
        [r"\x01a", "<\t&>", ""],
        [None, None, 0.5],
        [r"\ufffe\ud800", "\U0001f600", ""],
        [1, 2, None],
    ]
    stilts_accepts(path)


def test_votable_of_values_that_differ_in_type(tmp_path):
    columns = [Column("a", None), Column("b", None), Column("c", None)]
    _, read = table_of(columns, [(1, 1, "x"), (None, 0.5, 2), (3, None, None)], tmp_path)
    assert read["a"].tolist() == [1, None, 3]
    assert read["b"].tolist() == [1.0, 0.5, None]
    assert read["c"].tolist() == ["x", "2", ""]


@pytest.mark.parametrize("name", COLUMNS)
def test_units_and_ucds_are_those_of_the_standards(name):
    column = COLUMNS[name]
    assert check_ucd(column.ucd, check_controlled_vocabulary=True)
    assert Unit(column.unit, format="vounit") is not None


def test_the_table_of_astropy():
    table = astropy_table(FIVE, iter(ROWS))
    assert table["ra"].unit == Unit("deg")
    assert table["stage"].tolist() == ['a "name"', None, ""]
    assert len(astropy_table(FIVE, iter([]))) == 0
