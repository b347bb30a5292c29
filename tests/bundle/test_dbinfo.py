"""dbinfo: the rows of a run by component, and the paths in them."""

import contextlib
import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.processor_time import takes_at_most

from pipeline.bundle import mdc
from pipeline.bundle.dbinfo import RUN_TABLES, localized_dbinfo
from pipeline.bundle.dirinfo import DirInfo
from pipeline.errors import BundleUnusable, HostileName

DATA = Path("/mirror/data")
CHIPS = DirInfo("gpc1/2009", {"XY01": "o1.44433", "XY02": "o1.44433"})
SKY = DirInfo("gpc1/sky", {"skycell.1566.004": "MD04/skycell.1566.004"})


def localized(document: bytes, dirinfo: DirInfo) -> mdc.Scope:
    return mdc.read(localized_dbinfo(document, "dbinfo.mdc", dirinfo, DATA), "dbinfo.mdc")


def row(table: str, *columns: str) -> bytes:
    return "\n".join([f"{table} METADATA", *columns, "END", ""]).encode()


def path_base(document: bytes, dirinfo: DirInfo, table: str) -> str | None:
    return localized(document, dirinfo)[table]["path_base"]


def test_a_chip_document_changes_in_its_paths_and_nothing_else():
    document = (
        b"# chips\n"
        b"dbversion MULTI\ndbversion METADATA\n   schema_version STR 1.1.58\nEND\n"
        b"chipRun MULTI\r\n"
        b"chipRun          METADATA  \n"
        b"   chip_id          S64       14519           \n"
        b"   workdir          STR       neb://@HOST@.0/gpc1/MD06 # old\n"
        b"   tess_id          STR       /data/tess/MD06.V2/\n"
        b"END\n"
        b"chipProcessedImfile MULTI\n"
        b"chipProcessedImfile METADATA\n"
        b"   uri              STR       neb://any/gpc1/o1.44433/o1.ch.XY01.fits\t# the image\n"
        b"   path_base        STR       file:///data/x/o1.ch.XY01\n"
        b"   bg               F32       nan\n"
        b"   class_id         STR       XY01            \n"
        b"END\n"
        b"chipProcessedImfile METADATA\n"
        b"   class_id STR XY02\n   uri STR NULL\n   path_base STR\n   comment STR neb://any/x\n"
        b"END\n"
    )
    changed = document
    for old, new in [
        (b"neb://@HOST@.0/gpc1/MD06", b"/mirror/data/gpc1/2009"),
        (b"/data/tess/MD06.V2/", b"MD06.V2"),
        (b"neb://any/gpc1/o1.44433/o1.ch.XY01.fits", b"/mirror/data/gpc1/2009/o1.44433/o1.ch.XY01.fits"),
        (b"file:///data/x/o1.ch.XY01", b"/mirror/data/gpc1/2009/o1.44433/o1.ch.XY01"),
    ]:
        assert changed.count(old) == 1
        changed = changed.replace(old, new)
    assert localized_dbinfo(document, "dbinfo.mdc", CHIPS, DATA) == changed
    assert gzip.decompress(localized_dbinfo(gzip.compress(document), "dbinfo.mdc", CHIPS, DATA)) == changed


def test_raw_files_are_right_below_data():
    raw = DirInfo(None, {"XY01": "o1"})
    document = row("rawExp", "workdir STR neb://a/b") + row(
        "rawImfile", "class_id STR XY01", "uri STR neb://a/f.fits"
    )
    scope = localized(document, raw)
    assert scope["rawExp"]["workdir"] == "/mirror/data"
    assert scope["rawImfile"]["uri"] == "/mirror/data/o1/f.fits"


def test_the_run_tables_of_every_stage():
    stages = ("raw", "chip", "chip_bg", "camera", "fake", "warp", "warp_bg", "diff", "stack", "sky", "skycal")
    assert {tables.stage for tables in RUN_TABLES} == {*stages, "ff"}
    for tables in RUN_TABLES:
        if tables.component_key == "warp_id":
            continue
        component = tables.component or "c"
        column = f"{tables.component_key or 'x'} STR c"
        dirinfo = DirInfo("d", {component: "f"} if tables.component_key is None else {"c": "f", "e": "g"})
        for table in tables.rows:
            assert path_base(row(table, "path_base STR a/b", column), dirinfo, table) == "/mirror/data/d/f/b"


def test_the_camera_stage_has_one_component():
    camera = DirInfo("d", {"exposure": "cam", "other": "x"})
    document = row("camProcessedExp", "path_base STR neb://a/o1.cm", "class_id STR other")
    assert path_base(document, camera, "camProcessedExp") == "/mirror/data/d/cam/o1.cm"


def test_a_warp_map_row_belongs_to_its_sky_cell_not_its_chip():
    dirinfo = DirInfo("d", {"XY01": "chip", "skycell.1": "sky", "skycell.2": "x"})
    document = row("warpSkyCellMap", "class_id STR XY01", "skycell_id STR skycell.1", "path_base STR p/m")
    assert path_base(document, dirinfo, "warpSkyCellMap") == "/mirror/data/d/sky/m"


def test_a_stack_row_belongs_to_the_sky_cell_of_its_run():
    dirinfo = DirInfo("d", {"skycell.1": "one", "skycell.2": "two"})
    run = row("stackRun", "stack_id S64 9", "skycell_id STR skycell.2", "tess_id STR p/MD04")
    stack = row("stackSumSkyfile", "stack_id S64 9", "path_base STR p/s.9")
    for document in (run + stack, stack + run):
        assert path_base(document, dirinfo, "stackSumSkyfile") == "/mirror/data/d/two/s.9"
    assert path_base(b"stackRun MULTI\n" + run * 2 + stack, dirinfo, "stackSumSkyfile") is None


def test_a_row_that_names_no_component_belongs_to_the_only_one():
    for table in ("stackSumSkyfile", "staticskyResult", "skycalResult", "unheardOf"):
        document = row(table, "path_base STR neb://a/b")
        assert path_base(document, SKY, table) == "/mirror/data/gpc1/sky/MD04/skycell.1566.004/b"
        assert path_base(document, CHIPS, table) is None


FORCED = (
    b"dbversion MULTI\ndbversion METADATA\n   schema_version STR 1.1.77\nEND\n"
    b"fullForceRun MULTI\nfullForceRun METADATA\n   ff_id S64 3\n   skycal_id S64 9\n"
    b"   sources_path_base STR neb://ipp053.0/gpc1/sky.20120706/RINGS.V3/skycell.1/cal.9 # of a skycal run\n"
    b"   workdir STR neb://@HOST@.0/gpc1/ff.20120801\nEND\n"
    b"fullForceInput MULTI\nfullForceInput METADATA\n   ff_id S64 3\n   warp_id S64 41\nEND\n"
    b"fullForceResult MULTI\n"
    b"fullForceResult METADATA\n   warp_id S64 41\n   path_base STR neb://h/gpc1/ff.20120801/a/ff.41\nEND\n"
    b"fullForceResult METADATA\n   warp_id S64 4\n   path_base STR neb://h/gpc1/ff.20120801/a/ff.4\nEND\n"
    b"fullForceResult METADATA\n   warp_id S64 1\n   path_base STR neb://h/gpc1/ff.20120801/a/ff.1\nEND\n"
    b"fullForceSummary MULTI\nfullForceSummary METADATA\n   ff_id S64 3\n"
    b"   path_base STR neb://h/gpc1/ff.20120801/s/ff.3\nEND\n"
)


def test_rows_of_forced_photometry_belong_to_their_warps_and_to_the_summary():
    components = {"41.skycell.1": "a/41", "4.skycell.1": "a/4", "summary": "s"}
    changed = localized_dbinfo(FORCED, "dbinfo.mdc", DirInfo("gpc1/ff.20120801", components), DATA)
    expected = FORCED
    for old, new in [
        (b"neb://ipp053.0/gpc1/sky.20120706/", b"/mirror/data/gpc1/sky.20120706/"),
        (b"neb://@HOST@.0/gpc1/ff.20120801", b"/mirror/data/gpc1/ff.20120801"),
        (b"neb://h/gpc1/ff.20120801/a/ff.41", b"/mirror/data/gpc1/ff.20120801/a/41/ff.41"),
        (b"neb://h/gpc1/ff.20120801/a/ff.4\n", b"/mirror/data/gpc1/ff.20120801/a/4/ff.4\n"),
        (b"neb://h/gpc1/ff.20120801/a/ff.1\n", b"NULL\n"),
        (b"neb://h/gpc1/ff.20120801/s/ff.3", b"/mirror/data/gpc1/ff.20120801/s/ff.3"),
    ]:
        assert expected.count(old) == 1
        expected = expected.replace(old, new)
    assert changed == expected


@pytest.mark.parametrize(
    ("value", "local"),
    [
        ("NULL", None),
        ("", ""),
        ("sky/cal.9", None),
        ("neb://V/a/../../b", None),
        ("/data/V/b", "/mirror/data/b"),
    ],
)
def test_sources_of_another_fileset_are_below_data_or_absent(value, local):
    document = row("fullForceRun", f"sources_path_base STR {value}")
    assert localized(document, CHIPS)["fullForceRun"]["sources_path_base"] == local


def test_a_difference_of_stacks_is_placed_as_any_difference():
    dirinfo = DirInfo("gpc1/SS", {"skycell.1": "a", "skycell.2": "b"})
    document = b"diffRun MULTI\n" + row("diffRun", "diff_id S64 5", "workdir STR neb://h/gpc1/SS")
    document += row("diffSkyfile", "skycell_id STR skycell.2", "path_base STR neb://h/gpc1/SS/b/d.5")
    scope = localized(document, dirinfo)
    assert scope["diffRun"]["workdir"] == "/mirror/data/gpc1/SS"
    assert scope["diffSkyfile"]["path_base"] == "/mirror/data/gpc1/SS/b/d.5"


def test_a_stack_summary_belongs_to_its_only_component():
    document = row("stackSummary", "projection_cell STR skycell.1", "path_base STR neb://h/gpc1/sum/s.1")
    dirinfo = DirInfo("gpc1/sum", {"skycell.1": "."})
    assert path_base(document, dirinfo, "stackSummary") == "/mirror/data/gpc1/sum/s.1"


def test_an_unknown_table_is_placed_by_what_its_rows_name():
    for column in ("class_id", "skycell_id"):
        document = row("newTable", f"{column} STR XY02", "path_base STR a/b")
        assert path_base(document, CHIPS, "newTable") == "/mirror/data/gpc1/2009/o1.44433/b"


def test_a_row_without_files_here_has_no_paths():
    document = row("chipProcessedImfile", "class_id STR XY77", "uri STR neb://a/b # far", "tess_id STR NULL")
    changed = localized_dbinfo(document, "dbinfo.mdc", CHIPS, DATA)
    assert changed == document.replace(b"neb://a/b", b"NULL")
    assert path_base(row("camProcessedExp", "path_base STR a/b"), CHIPS, "camProcessedExp") is None


def test_a_run_always_has_a_workdir():
    assert (
        localized(row("camRun", "workdir STR NULL"), CHIPS)["camRun"]["workdir"] == "/mirror/data/gpc1/2009"
    )


def test_what_is_not_in_a_row_stays():
    document = b"workdir STR a/b\n" + row("chipRun", "deep METADATA", "workdir STR a/b", "END")
    assert localized_dbinfo(document, "dbinfo.mdc", CHIPS, DATA) == document


@pytest.mark.parametrize("path", ["a/..", "..", ".", "/", "neb://a/./"])
@pytest.mark.parametrize("column", ["uri", "path_base", "tess_id"])
def test_a_path_without_a_name_at_its_end_is_hostile(path, column):
    document = row("chipProcessedImfile", "class_id STR XY01", f"{column} STR {path}")
    with pytest.raises(
        HostileName, match=rf"^dbinfo\.mdc, line 3: expected the {column} of chipProcessedImfile"
    ):
        localized_dbinfo(document, "dbinfo.mdc", CHIPS, DATA)


@pytest.mark.parametrize(
    "key", ["S32 5", "METADATA\nEND", "STR NULL", "F32 nan", "STR ../../etc", "UTC 2009-01-01"]
)
def test_a_key_that_is_no_component_gives_no_path(key):
    for table in ("chipProcessedImfile", "chipRun", "unheardOf"):
        document = row(table, f"class_id {key}", "path_base STR a/b")
        assert path_base(document, CHIPS, table) is None


def test_a_run_that_is_no_scope_names_no_component():
    document = b"stackRun S32 5\n" + row("stackSumSkyfile", "path_base STR a/b")
    assert path_base(document, CHIPS, "stackSumSkyfile") is None


def test_a_data_that_no_document_can_hold_is_refused():
    with pytest.raises(BundleUnusable, match="expected a new value that the line can hold"):
        localized_dbinfo(row("chipRun", "workdir STR a"), "dbinfo.mdc", CHIPS, Path("/mirror#2"))


lines = st.sampled_from(
    [
        *(
            "chipRun METADATA",
            "stackSumSkyfile METADATA",
            "stackRun METADATA",
            "stackRun MULTI",
            "x METADATA",
        ),
        *(
            "class_id STR XY01",
            "class_id S8 1",
            "skycell_id METADATA",
            "skycell_id STR NULL",
            "@class_id STR a",
        ),
        *(
            "uri STR a/b",
            "path_base STR ..",
            "path_base STR",
            "tess_id STR a/",
            "workdir STR",
            "@uri STR a/b,c",
        ),
        *("TYPE C uri class_id", "stackRun C a/b XY01", "END", "END", "END"),
    ]
)


@given(st.lists(lines, max_size=15), st.sampled_from([CHIPS, SKY, DirInfo(None, {})]))
@settings(deadline=None, max_examples=300)
def test_any_rows_are_localized_or_refused(chosen, dirinfo):
    chosen += ["END"] * (sum("METADATA" in line for line in chosen) - chosen.count("END"))
    with contextlib.suppress(BundleUnusable, HostileName):
        localized(("\n".join(chosen) + "\n").encode(), dirinfo)


@pytest.mark.long
@pytest.mark.parametrize("table", ["chipProcessedImfile", "stackSumSkyfile", "stackRun", "unheardOf"])
def test_rows_and_components_cost_the_same_each(table):
    def case(n: int) -> tuple[bytes, DirInfo]:
        rows = b"".join(
            row("stackRun", "x S8 1") + row(table, f"class_id STR c{i}", "path_base STR a/b")
            for i in range(n)
        )
        return b"stackRun MULTI\n%s MULTI\n" % table.encode() + rows, DirInfo(
            "d", {f"c{i}": "f" for i in range(n)}
        )

    def work(given: tuple[bytes, DirInfo]) -> None:
        localized_dbinfo(given[0], "dbinfo.mdc", given[1], DATA)

    assert takes_at_most(9, work, case(2000), case(8000))
