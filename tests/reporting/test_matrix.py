"""Matrix of data groups, stages and filters: numbers of its cells, its order, its bounds."""

import pytest
from support.audit import opened_below

from pipeline.config import Product, Select
from pipeline.datastore.listing import FilesetRow
from pipeline.errors import ContentMismatch
from pipeline.mirror.state.failures import BackOff, record_failure
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.markers import Fileset, mark_done
from pipeline.mirror.state.skip import skip_fileset
from pipeline.reporting.matrix import Cell, Matrix, MatrixPolicy, product_matrix
from tasks.steps import STEPS

PRODUCT = "md"
COLUMNS = ("filesetID", "time registered", "type", "stage", "data_group", "filter")


@pytest.fixture
def layout(tmp_path) -> Layout:
    return Layout(tmp_path)


def row(name: str, *values: str, registered: str = "2009-07-29T00:00:00Z") -> FilesetRow:
    fields = (name, registered, "T", *values)
    return FilesetRow(name, registered, "T", COLUMNS[: len(fields)], fields)


def write(layout: Layout, *rows: FilesetRow) -> None:
    LocalListing(layout, PRODUCT).replace(rows)


def complete(layout: Layout, *rows: FilesetRow) -> None:
    for each in rows:
        for kind in (MarkerKind.DOWNLOADED, MarkerKind.EXTRACTED):
            mark_done(layout, kind, Fileset.of(PRODUCT, each), "t", {"files": []})


def matrix_of(layout: Layout, select: Select | None = None, **policy: int) -> Matrix:
    product, required = Product(name=PRODUCT, select=select), STEPS["extract"]
    steps = type(STEPS)(tuple(step for step in STEPS if not step.optional))
    assert required in steps
    return product_matrix(layout, product, PRODUCT, steps, MatrixPolicy(**policy))


def cells(matrix: Matrix) -> dict[tuple[str, str, str], Cell]:
    return {
        (group.name, stage, band): cell
        for group in matrix.groups
        for stage, row in group.rows
        for band, cell in zip(group.bands, row, strict=True)
        if cell is not None
    }


def test_each_fileset_is_counted_once(layout):
    rows = {name: row(name, "warp", "MD01.a", "r.00000") for name in "abcdefg"}
    write(layout, *rows.values(), row("h", "raw", "MD01.a", "r.00000"))
    complete(layout, rows["a"], rows["b"])
    skip_fileset(layout, PRODUCT, "b", reason="r", by="me")
    skip_fileset(layout, PRODUCT, "c", reason="r", by="me")
    write_marker(layout.marker(MarkerKind.WITHDRAWN, PRODUCT, "d"), {"noticed": "t"})
    record_failure(
        layout, Fileset.of(PRODUCT, rows["e"]), "download", ContentMismatch("x"), "run", BackOff(every_run=5)
    )
    record_failure(
        layout, Fileset.of(PRODUCT, rows["a"]), "catalog", ContentMismatch("x"), "run", BackOff(every_run=5)
    )
    matrix = matrix_of(layout, Select.model_validate({"stage": "warp"}))
    warp = Cell(known=7, complete=2, left=3, failed=1, skipped=1, withdrawn=1)
    assert cells(matrix) == {
        ("MD01.a", "warp", "r"): warp,
        ("MD01.a", "raw", "r"): Cell(known=1, unselected=1),
    }
    assert matrix.total == warp + Cell(known=1, unselected=1)


def test_stages_in_the_order_of_the_pipeline_filters_from_blue_to_red(layout):
    values = [
        ("stack", "y"),
        ("chip", "g.00000"),
        ("odd", "r"),
        ("warp", "i"),
        ("raw", "null"),
        ("chip", "OPEN"),
    ]
    write(layout, *(row(f"f{number}", stage, "g", band) for number, (stage, band) in enumerate(values)))
    [group] = matrix_of(layout).groups
    assert group.bands == ("g", "r", "i", "y", "OPEN", "")
    assert [stage for stage, _ in group.rows] == ["raw", "chip", "warp", "stack", "odd"]


def test_a_listing_without_the_columns_is_one_cell(layout):
    write(layout, row("a"), row("b"))
    complete(layout, row("a"))
    matrix = matrix_of(layout)
    assert cells(matrix) == {("", "", ""): Cell(known=2, complete=1, left=1)}
    assert [(each.filesets, each.names) for each in matrix.missing] == [(1, ["b"])]


def test_columns_change_in_the_middle_of_a_listing(layout):
    write(layout, row("a"), row("b", "chip"), row("c", "chip", "MD01", "r"))
    assert set(cells(matrix_of(layout))) == {("", "", ""), ("", "chip", ""), ("MD01", "chip", "r")}


def test_what_is_missing_begins_with_the_oldest(layout):
    rows = [
        row(f"f{day}", "chip", f"MD{day % 2}", "r", registered=f"2009-07-{day:02}T00:00:00Z")
        for day in range(1, 9)
    ]
    write(layout, *reversed(rows))
    complete(layout, rows[0])
    matrix = matrix_of(layout)
    assert [(each.data_group, each.filesets, each.since[:10]) for each in matrix.missing] == [
        ("MD0", 4, "2009-07-02"),
        ("MD1", 3, "2009-07-03"),
    ]
    assert all(len(each.names) == 3 for each in matrix.missing)


def test_many_data_groups_are_taken_together(layout):
    nights = [row(f"f{night}", "chip", f"MD0{night % 2}.{night}", "r") for night in range(6)]
    write(layout, *nights, row("x", "chip", "plain", "r"))
    complete(layout, nights[1])
    assert len(matrix_of(layout, data_groups=7).groups) == 7
    matrix = matrix_of(layout, data_groups=6)
    assert {key[0]: cell.complete for key, cell in cells(matrix).items()} == {
        "MD00.*": 0,
        "MD01.*": 1,
        "plain": 0,
    }
    assert matrix.total == Cell(known=7, complete=1, left=6)
    assert "7 data groups" in matrix.notes[0]
    assert {each.data_group for each in matrix.missing} >= {"MD00.0", "MD01.3"}


def test_bounds_are_said(layout):
    write(layout, *(row(f"f{number}", "chip", f"g{number}", f"b{number}") for number in range(9)))
    matrix = matrix_of(layout, groups=2, missing=4)
    assert (len(matrix.groups), len(matrix.missing), matrix.total.known) == (2, 4, 9)
    assert matrix.notes == ("the first 2 of 9 groups are shown",)
    assert matrix.missing_rows == 9
    write(layout, *(row(f"f{number}", "chip", "g", f"b{number}") for number in range(9)))
    [group] = matrix_of(layout, bands=3).groups
    assert group.bands == ("b0", "b1", "b2", "others")
    assert group.rows[0][1][3] == Cell(known=6, left=6)


def test_no_marker_of_a_complete_fileset_is_read(layout):
    rows = [row(f"f{number}", "chip", "g", "r") for number in range(5)]
    write(layout, *rows)
    complete(layout, *rows)
    with opened_below(layout.state(PRODUCT)) as opened:
        assert matrix_of(layout).total.complete == 5
    assert {path for path in opened if path.endswith(".json")} <= {"file_selection.json"}
