"""The sample store as a whole: what is listed, what the documents say, what arrives later."""

import gzip
import hashlib
import io
import shutil
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from astropy.io import fits

from pipeline.bundle import mdc
from pipeline.bundle.dirinfo import read_dirinfo
from pipeline.datastore.listing import (
    FilesetRow,
    read_files,
    read_filesets,
    read_products,
    registered_time,
)
from pipeline.errors import SettingsError
from pipeline.sample.config_dump import VOLUMES
from pipeline.sample.plan import ReleasePlan
from pipeline.sample.release import PARTNER, RELEASE, STAMPS, append_release, write_chips, write_release
from pipeline.sample.sky import MD01
from pipeline.sample.survey import FIRST_NIGHT, Exposure, exposure_index

PLAN = ReleasePlan(exposures=4, chips=3, skycells=2, image_size=48, stamps=2)
PRODUCTS = ("md-all-rel-200907", "empty-product", "pstampresults", "qub-200907")
CHAIN = [
    ("chipRun", "exp_id", "rawExp"),
    ("rawImfile", "exp_id", "rawExp"),
    ("chipProcessedImfile", "chip_id", "chipRun"),
    ("camRun", "chip_id", "chipRun"),
    ("camProcessedExp", "cam_id", "camRun"),
    ("fakeRun", "cam_id", "camRun"),
    ("fakeProcessedImfile", "fake_id", "fakeRun"),
    ("warpRun", "fake_id", "fakeRun"),
    ("warpSkyfile", "warp_id", "warpRun"),
    ("warpSkyCellMap", "warp_id", "warpRun"),
    ("stackInputSkyfile", "warp_id", "warpRun"),
    ("stackInputSkyfile", "stack_id", "stackRun"),
    ("stackSumSkyfile", "stack_id", "stackRun"),
    ("diffSkyfile", "diff_id", "diffRun"),
    ("staticskyInput", "stack_id", "stackRun"),
    ("staticskyResult", "sky_id", "staticskyRun"),
    ("skycalRun", "sky_id", "staticskyRun"),
    ("skycalResult", "skycal_id", "skycalRun"),
    ("fullForceRun", "skycal_id", "skycalRun"),
    ("fullForceInput", "warp_id", "warpRun"),
    ("fullForceResult", "ff_id", "fullForceRun"),
    ("fullForceSummary", "ff_id", "fullForceRun"),
    ("stackAssociationMap", "stack_id", "stackRun"),
    ("stackSummary", "sass_id", "stackAssociation"),
]
STAGES = {
    "raw",
    "chip",
    "camera",
    "fake",
    "warp",
    "stack",
    "diff",
    "sky",
    "skycal",
    "ff",
    "stack_summary",
    "SSdiff",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    out = tmp_path_factory.mktemp("sample") / "store"
    write_release(out, PLAN)
    return out


def tree(out: Path) -> dict[str, str]:
    """Every file of the tree and the digest of its bytes."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def filesets(out: Path, product: str) -> list[FilesetRow]:
    return read_filesets((out / product / "index.txt").read_bytes(), product)


def release_folders(out: Path) -> list[Path]:
    return [out / RELEASE.name / row.name for row in filesets(out, RELEASE.name)]


def documents(out: Path, kind: str) -> dict[str, mdc.Scope]:
    """The dbinfo or dirinfo of each fileset of the release, by the fileset's name."""
    found = {}
    for folder in release_folders(out):
        [path] = folder.glob(f"{kind}.*.mdc")
        found[folder.name] = mdc.read(path.read_bytes(), str(path))
    return found


def rows_of(out: Path, table: str) -> list[mdc.Scope]:
    return [row for document in documents(out, "dbinfo").values() for row in document.all(table)]


def members_of(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as opened:
        return {
            entry.name: opened.extractfile(entry).read() for entry in opened.getmembers() if entry.isfile()
        }


def test_the_same_plan_gives_the_same_bytes_and_another_seed_others(tmp_path):
    plan = ReleasePlan(exposures=2, chips=2, skycells=1, image_size=32, stamps=2)
    for folder, each in (("one", plan), ("again", plan), ("other", replace(plan, seed=2))):
        write_release(tmp_path / folder, each)
    first, second, third = (tree(tmp_path / folder) for folder in ("one", "again", "other"))
    assert first == second
    assert first.keys() == third.keys()
    differing = {name for name in first if first[name] != third[name]}
    assert {name for name in first if name.endswith(".tgz")} <= differing


def test_listings_are_laid_out_as_the_original_prints_them(store):
    root = (store / "index.txt").read_text().splitlines(keepends=True)
    assert root[0] == (
        "# productID  |Most recent |Time registered     |type     |Description                     |\n"
    )
    assert (
        "empty-product|none        |2009-07-28T20:00:00Z|ipp-dist |A product without filesets      |\n"
        in root
    )
    assert root[-1] == "\n"
    release = (store / "md-all-rel-200907/index.txt").read_text().splitlines(keepends=True)
    assert release[:3] == [
        "# filesetID                       |time registered     |type    |target_id|stage        |stage_id"
        "|exp_name            |data_group      |filter |\n",
        "o4741g0234o.raw.44433.31.1        |2009-08-01T03:02:11Z|IPP-DIST|1        |raw          |44433   "
        "|o4741g0234o         |MD01.20090729   |r.00000|\n",
        "o4741g0234o.chip.14517.32.1       |2009-08-01T03:02:11Z|IPP-DIST|1        |chip         |14517   "
        "|o4741g0234o         |MD01.20090729   |r.00000|\n",
    ]
    assert release[-1] == "\n"
    chip = (store / "md-all-rel-200907/o4741g0234o.chip.14517.32.1/index.txt").read_text().splitlines()
    assert chip[0] == "# fileID          |bytes   |md5sum                          |type        |component|"
    assert chip[3].startswith("o4741g0234o.44433.ch.14517.XY01.tgz|")
    assert chip[3].endswith("|tgz         |XY01    |")


def test_postage_stamps_are_listed_in_several_tables(store):
    lines = (store / "pstampresults/web_1001/index.txt").read_text().splitlines()
    header = "# fileID          |bytes   |md5sum                          |type        |"
    assert [line for line in lines if line.startswith("#")] == [
        header,
        header + "component|",
        header + "chipname|",
    ]
    rows = read_files((store / "pstampresults/web_1001/index.txt").read_bytes(), "stamps")
    assert [(row.name, row.type, row.md5 is None) for row in rows] == [
        ("results.fits", "table", False),
        ("results.mdc", "text", True),
        ("1001_1_ota01_XY01.fits", "chip", False),
        ("1001_2_ota02_XY02.fits", "chip", False),
        ("1001_3_ota03_XY03.fits", "chip", False),
    ]
    assert (store / "pstampresults/web_1002/index.txt").read_text() == header + "\n\n"


def test_the_root_lists_all_but_the_partner_s_product(store):
    products = read_products((store / "index.txt").read_bytes(), "root")
    assert [product.name for product in products] == [name for name in PRODUCTS if name != PARTNER.name]
    for product in products:
        listed = filesets(store, product.name)
        assert product.most_recent == (listed[-1].name if listed else None)
        assert not listed or product.registered == listed[-1].registered
    assert filesets(store, PARTNER.name)


@pytest.mark.parametrize("product", PRODUCTS)
def test_sizes_and_md5_are_true_and_nothing_else_lies_there(store, product):
    listed = filesets(store, product)
    assert {path.name for path in (store / product).iterdir()} == {row.name for row in listed} | {"index.txt"}
    for row in listed:
        folder = store / product / row.name
        files = read_files((folder / "index.txt").read_bytes(), row.name)
        assert {path.name for path in folder.iterdir()} == {file.name for file in files} | {"index.txt"}
        for file in files:
            content = (folder / file.name).read_bytes()
            assert len(content) == file.bytes
            assert file.md5 in {None, hashlib.md5(content).hexdigest()}


def test_every_stage_is_there_and_odd_rows_too(store):
    rows = filesets(store, RELEASE.name)
    stages = {row.column("stage") for row in rows}
    assert stages == STAGES | {None}
    unknown = [row for row in rows if row.column("stage") is None]
    assert [set(row.fields[3:]) for row in unknown] == [{"null"}]
    times = [row.registered for row in rows]
    assert times == sorted(times)
    assert len(set(times)) < len(times)


def test_bundles_are_what_tar_would_write(store):
    archives = sorted(store.rglob("*.tgz"))
    assert len(archives) > 30
    for path in archives:
        assert path.read_bytes()[4:8] == bytes(4), "the time in the gzip header"
        with tarfile.open(path) as archive:
            folder, *files = archive.getmembers()
        assert folder.name in {".", "./"}
        assert folder.isdir()
        assert files
        days = set()
        for entry in files:
            assert entry.isfile()
            assert entry.name.startswith("./")
            assert "/" not in entry.name[2:]
            assert (entry.uname, entry.gname) == ("ipp", "users")
            days.add(datetime.fromtimestamp(entry.mtime, UTC).date().isoformat())
        assert days in ({"2009-07-29"}, {"2009-07-30"})
        assert any(entry.name.endswith(".mdc") for entry in files) or ".stksum." in path.name


def test_dirinfo_places_every_component_and_only_empty_ones_have_no_bundle(store):
    left_out = []
    for folder in release_folders(store):
        [path] = folder.glob("dirinfo.*.mdc")
        placed = read_dirinfo(path.read_bytes(), str(path)).components
        files = read_files((folder / "index.txt").read_bytes(), folder.name)
        bundled = {file.component for file in files if file.type == "tgz"}
        assert bundled <= placed.keys()
        left_out += [(folder.name, name) for name in placed.keys() - bundled]
    assert left_out == [("o4741g0235o.warp.7002.40.1", "skycell.1566.005")]
    missed = [row for row in rows_of(store, "warpSkyfile") if row["quality"]]
    assert [(row["warp_id"], row["skycell_id"]) for row in missed] == [(7002, "skycell.1566.005")]


def test_no_two_filesets_put_a_file_in_one_place(store):
    places = []
    for product in (RELEASE.name, PARTNER.name):
        for row in filesets(store, product):
            folder = store / product / row.name
            [path] = folder.glob("dirinfo.*.mdc")
            document = mdc.read(path.read_bytes(), str(path))
            destdir = document["destdir"]["destdir"]
            for file in read_files((folder / "index.txt").read_bytes(), row.name):
                if file.type == "tgz":
                    below = document["components"][file.component]
                    places += [f"{destdir}/{below}/{name}" for name in members_of(folder / file.name)]
    assert len(places) > 100
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(("table", "key", "parent"), CHAIN)
def test_keys_join_across_stages(store, table, key, parent):
    keys = {row[key] for row in rows_of(store, table)}
    assert keys
    assert keys <= {row[key] for row in rows_of(store, parent)}


def test_differences_name_their_warps_and_stacks(store):
    warps = {
        (row["warp_id"], row["skycell_id"]) for row in rows_of(store, "warpSkyfile") if not row["quality"]
    }
    stacks = {(row["stack_id"], row["skycell_id"]) for row in rows_of(store, "stackRun")}
    inputs = [row for row in rows_of(store, "diffInputSkyfile") if row["warp1"]]
    [of_stacks] = [row for row in rows_of(store, "diffInputSkyfile") if not row["warp1"]]
    assert {(of_stacks[name], of_stacks["skycell_id"]) for name in ("stack1", "stack2")} <= stacks
    assert (of_stacks["stack1"], of_stacks["stack2"]) == (2006, 2004)
    assert inputs
    for row in inputs:
        assert (row["warp1"], row["skycell_id"]) in warps
        assert (row["stack2"], row["skycell_id"]) in stacks
        assert row["stack1"] is None
        assert row["warp2"] is None


def test_keys_of_runs_are_unique_in_the_whole_store(store):
    for table, key in (("rawExp", "exp_id"), ("camRun", "cam_id"), ("stackRun", "stack_id")):
        keys = []
        for path in store.rglob("dbinfo.*.mdc"):
            keys += [row[key] for row in mdc.read(path.read_bytes(), str(path)).all(table)]
        assert len(keys) == len(set(keys)) > 0


def test_the_schema_comes_first_and_the_name_fits_the_run(store):
    keys = {"raw": "exp_id", "camera": "cam_id", "stack_summary": "sass_id", "SSdiff": "diff_id"}
    for name, document in documents(store, "dbinfo").items():
        assert document.entries[0].name == "dbversion"
        assert document["dbversion"].get("schema_version")
        stage, run_id = name.split(".")[-4:-2]
        run = document.entries[1].value
        assert run[keys.get(stage, f"{stage}_id")] == int(run_id)


def names_in_bundles(folder: Path) -> set[str]:
    return {name[2:] for archive in folder.glob("*.tgz") for name in members_of(archive)}


def test_paths_of_the_sender_end_in_files_of_the_bundle_unless_they_were_cleaned(store):
    checked = {True: 0, False: 0}
    for folder in release_folders(store):
        [path] = folder.glob("dbinfo.*.mdc")
        for table in ("rawImfile", "chipProcessedImfile"):
            for row in mdc.read(path.read_bytes(), str(path)).all(table):
                present = row["uri"].rpartition("/")[2] in names_in_bundles(folder)
                assert present == (row.get("data_state") != "cleaned")
                checked[present] += 1
    assert checked == {True: (4 + 4 + 1) * 3 - 1, False: 2}


def test_a_cleaned_run_says_so_and_has_catalogues_only(store):
    [fileset, *others] = [row for row in documents(store, "dbinfo").items() if cleaned(row[1])]
    assert not others
    name, document = fileset
    assert name == "o4741g0184o.chip.214517.200032.1"
    assert {row["data_state"] for row in document.all("chipProcessedImfile")} == {"cleaned"}
    names = names_in_bundles(store / RELEASE.name / name)
    assert {name.rpartition(".")[2] for name in names} == {"cmf", "mdc"}


def cleaned(document: mdc.Scope) -> bool:
    return document.entries[1].value.get("state") == "cleaned"


def test_exposures_are_of_two_nights_three_filters_and_two_fields(store):
    exposures = [
        (row["exp_name"], row["object"], f"{row['dateobs']:%Y-%m-%dT%H:%M:%S}", row["filter"])
        for row in rows_of(store, "rawExp")
    ]
    assert exposures == [
        ("o4741g0234o", "MD01", "2009-07-29T12:40:00", "r.00000"),
        ("o4741g0235o", "MD01", "2009-07-29T12:42:10", "g.00000"),
        ("o4742g0234o", "MD01", "2009-07-30T12:40:00", "i.00000"),
        ("o4742g0235o", "MD01", "2009-07-30T12:42:10", "r.00000"),
        ("o4741g0184o", "ThreePi", "2009-07-29T10:30:00", "r.00000"),
    ]
    assert [row["filter"] for row in rows_of(store, "stackRun")] == [
        "g.00000",
        *2 * ["i.00000"],
        *2 * ["r.00000"],
        "r.00000",  # of the last night alone
        "r.00000",
    ]


def test_the_name_of_an_exposure_gives_its_index():
    exposures = [Exposure(index, MD01, 1, {}) for index in range(2000)]
    assert [exposure_index(exposure.name, MD01) for exposure in exposures] == list(range(2000))
    assert len({exposure.start for exposure in exposures}) == 2000
    assert all(
        each.name.startswith(f"o{4741 + (each.start.date() - FIRST_NIGHT).days}g") for each in exposures
    )
    assert all(exposure.airmass >= 1.0 for exposure in exposures)


def test_config_dumps_name_every_kind_of_volume_and_some_are_compressed(store):
    dumps = [
        content
        for archive in store.rglob("*.tgz")
        for name, content in members_of(archive).items()
        if name.endswith(".mdc")
    ]
    packed = [dump for dump in dumps if dump.startswith(b"\x1f\x8b")]
    assert 0 < len(packed) < len(dumps)
    assert all(gzip.decompress(dump).startswith(b"PROGRAM ") for dump in packed)
    values = []
    for dump in dumps:
        document = mdc.read(dump, "dump")
        for scope in ("FILES.INPUT", "FILES.OUTPUT"):
            values += [entry.value for entry in document[scope].entries]
    assert {"STDOUT", "STDERR"} < set(values)
    for volume in VOLUMES:
        assert any(value.startswith(volume) for value in values)


def test_what_is_appended_is_new_and_later_and_nothing_else_changes(store, tmp_path):
    out = Path(shutil.copytree(store, tmp_path / "store"))
    before, old = tree(out), {name: filesets(out, name) for name in PRODUCTS}
    later = ReleasePlan(exposures=1, chips=3, skycells=2, image_size=48, stamps=1)
    summary = append_release(out, later)

    after = tree(out)
    listings = {"index.txt", f"{RELEASE.name}/index.txt", f"{STAMPS.name}/index.txt"}
    assert {name for name in before if before[name] != after.get(name)} == listings
    added = {name: filesets(out, name)[len(rows) :] for name, rows in old.items()}
    for name, rows in old.items():
        assert [row.fields for row in filesets(out, name)[: len(rows)]] == [row.fields for row in rows]
        last = max((registered_time(row.registered) for row in rows), default=None)
        assert all(registered_time(row.registered) > last for row in added[name])
    assert {name: len(rows) for name, rows in added.items() if rows} == {RELEASE.name: 12, STAMPS.name: 1}
    assert summary.filesets == 13
    assert added[RELEASE.name][0].name == "o4743g0234o.raw.44437.66.1"
    exposures = [row["exp_id"] for row in rows_of(out, "rawExp")]
    assert exposures == [44433, 44434, 44435, 44436, 244433, 44437]


def test_one_exposure_and_one_of_everything_is_a_store_too(tmp_path):
    plan = ReleasePlan(exposures=1, chips=1, skycells=1, image_size=32, stamps=0)
    summary = write_release(tmp_path / "store", plan)
    assert summary.filesets == 12
    assert filesets(tmp_path / "store", STAMPS.name) == []


def test_an_occupied_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(SettingsError, match="expected an empty or absent folder"):
        write_release(tmp_path, PLAN)
    assert tree(tmp_path).keys() == {"mine"}


def test_only_a_store_can_be_added_to(tmp_path):
    with pytest.raises(SettingsError, match="expected a store with the product md-all-rel-200907"):
        append_release(tmp_path, PLAN)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"), [("exposures", -1), ("chips", 61), ("chips", 0), ("image_size", 31), ("seed", -1)]
)
def test_impossible_sizes_are_refused(name, value):
    with pytest.raises(SettingsError, match=rf"{name}: expected \d+ to \d+, got {value}"):
        ReleasePlan(**{name: value})


def test_chips_with_long_headers_are_a_store_of_one_stage(tmp_path):
    plan = ReleasePlan(exposures=2, chips=2, image_size=32)
    write_chips(tmp_path, plan, housekeeping=270)
    assert [row.name for row in filesets(tmp_path, RELEASE.name)] == [
        "o4741g0234o.chip.14517.31.1",
        "o4741g0235o.chip.14518.32.1",
    ]
    archives = sorted(tmp_path.rglob("*.tgz"))
    assert len(archives) == 4
    for archive in archives:
        images = [content for name, content in members_of(archive).items() if name.endswith(".fits")]
        assert len(images) == 3
        for content in images:
            with fits.open(io.BytesIO(content)) as units:
                units.verify("exception")
                assert 300 <= len(units[0].header) <= 320
                assert units[0].data.shape == (32, 32)
                assert units[0].header["OBJECT"] == "MD01"
