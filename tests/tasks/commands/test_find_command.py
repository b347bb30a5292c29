"""``ipp-mirror find`` and its words, in a process of its own."""

import csv
import io
import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from threading import Event, Thread

import pytest
from support.command import COMMAND, REPOSITORY, ipp_mirror
from support.image_rows import image_row, mirror_with_images

from pipeline.catalog.catalog import catalog_of
from pipeline.catalog.criteria import criteria_of
from pipeline.catalog.generations import current_file, make_current, next_file, remove_earlier
from pipeline.config import read_settings
from pipeline.mirror.state.layout import Layout, MarkerKind

ROWS = [
    image_row("data/a/1.fits", 160.7, 41.27, stage="warp", exp_name="o1", object="MD01", skycell="skycell.1"),
    image_row("data/a/1.mk.fits", 160.7, 41.27, stage="warp", exp_name="o1", kind="mask"),
    image_row("data/a/2.fits", 161.1, 41.27, stage="warp", exp_name="o2", filter="g.00000", band="g"),
    image_row("data/b/3.fits", 160.7, 41.27, stage="chip", exp_name="o3", fileset_id=2, t_min=55100.25),
    image_row("data/b/4.fits", None, None, stage="chip", exp_name="o\x1b[2J", fileset_id=2),
]
PLACE = "10:42:44.3 +41:16:09"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    members = [
        {"fileset_id": 1, "path": "data/a/1.mk.fits", "base": "data/a/1", "kind": "mask"},
        {"fileset_id": 1, "path": "data/a/1.fits", "base": "data/a/1", "kind": "image"},
    ]
    return mirror_with_images(tmp_path_factory.mktemp("site"), ROWS, members)


@pytest.fixture(scope="module")
def root(config):
    return config.parent / "mirror"


def find(config, *options, **more):
    return ipp_mirror("find", "--config", config, *options, **more)


@pytest.mark.parametrize(
    ("options", "names"),
    {
        "": "a/1 a/2 b/3 b/4",
        f"--at '{PLACE}'": "a/1 b/3",
        "--at '160.7 41.27' --radius 8arcmin": "a/1 b/3",
        "--radius 8 arcmin --at 160.7 41.27": "a/1 b/3",
        "--at 10 42 44.3 +41 16 09 --stage chip": "b/3",
        "--at '160.7 41.27' --radius 0.2": "a/1 a/2 b/3",
        "--stage warp --filter r": "a/1",
        "--stage warp --stage chip --kind mask --kind image": "a/1 a/1.mk a/2 b/3 b/4",
        "--stage 'w*' --exposure 'o[23]'": "a/2",
        "--night 2009-07-29": "a/1 a/2 b/4",
        "--after 2009-09-01 --before 2009-09-27T06:00:00.001": "b/3",
        "--before 2009-09-26T06:00": "a/1 a/2 b/4",
        "--skycell skycell.1": "a/1",
        "--product q --data-group MD02": "b/3 b/4",
        "--arrived-since 2009-08-01T12:00": "b/3 b/4",
    }.items(),
)
def test_paths(config, root, options, names):
    shown = find(config, "--format", "paths", *shlex.split(options))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == "".join(f"{root}/data/{name}.fits\n" for name in names.split())


def test_the_number_of_images(config):
    shown = find(config, "--count", "--at", PLACE)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "2\n", "")


def test_the_table(config):
    shown = find(config, "--stage", "chip")
    assert shown.stdout == (
        "stage  exp_name  filter   component  observed             exptime  fwhm         ra       dec  path\n"
        "chip   o3        r.00000             2009-09-26 06:00:00     40.0        160.70000  41.27000  "
        "data/b/3.fits\n"
        "chip   o\\x1b[2J  r.00000             2009-07-29 12:00:00     40.0                             "
        "data/b/4.fits\n"
    )


def test_csv_json_and_votable(config, root):
    read = list(csv.DictReader(io.StringIO(find(config, "--stage", "warp", "--format", "csv").stdout)))
    assert [(row["path"], row["ra"], row["fileset"], row["arrived"]) for row in read] == [
        (f"{root}/data/a/1.fits", "160.7", "f1", "2009-08-01T00:00:00Z"),
        (f"{root}/data/a/2.fits", "161.1", "f1", "2009-08-01T00:00:00Z"),
    ]
    (row,) = json.loads(find(config, "--exposure", "o3", "--format", "json").stdout)
    assert json.loads(find(config, "--exposure", "o3", "--json").stdout) == [row]
    assert (row["t_min"], row["observed"], row["note"]) == (55100.25, "2009-09-26T06:00:00Z", None)
    assert row["path"] == f"{root}/data/b/3.fits"
    assert find(config, "--format", "votable").stdout.startswith("<?xml")


def test_chosen_columns(config, root):
    shown = find(config, "--exposure", "o1", "--columns", "exp_name, mask_path,path", "--format", "csv")
    assert shown.stdout == f"exp_name,mask_path,path\no1,{root}/data/a/1.mk.fits,{root}/data/a/1.fits\n"


@pytest.mark.parametrize(
    ("output_format", "output"), [("table", ""), ("paths", ""), ("json", "[]\n"), ("csv", "path\n")]
)
def test_nothing_found_is_a_sentence_and_no_error(config, output_format, output):
    columns = [] if output_format == "paths" else ["--columns", "path"]
    shown = find(config, "--at", "10 10", "--format", output_format, *columns)
    assert (shown.returncode, shown.stdout) == (0, output)
    assert shown.stderr == (
        "no image here meets all of these conditions.\nno image here covers the position 10 10.\n"
    )


UNMATCHED = {
    (
        "--at",
        "10 -10.5",
        "--radius",
        "30arcmin",
    ): "no image here is within 0.5 degrees of the position 10 -10.5.",
    ("--at", "160.7 41.27", "--after", "2009-09-27"): (
        "no exposure here starts at such a time. The first starts 2009-07-29T12:00:00Z, the last "
        "2009-09-26T06:00:00Z."
    ),
    (
        "--at",
        "160.7 41.27",
        "--object",
        "none",
        "--night",
        "2009-07-29",
    ): "no image here has the object 'none'",
    ("--stage", "chpi"): "no image here has the stage 'chpi': there are chip, warp. Did you mean 'chip'?",
    ("--filter", "x"): "no image here has the filter 'x': there are g.00000, r.00000.",
    ("--product", "[a-c]*", "--stage", "warp"): "no image here has the product '[a-c]*': there are p, q.",
    ("--stage", "raw", "--stage", "s*"): "no image here has the stage 'raw' or 's*': there are chip, warp.",
    ("--exposure", "v9"): "no image here has the exposure 'v9'.",
    (
        "--skycell",
        "cell.1",
    ): "no image here has the skycell 'cell.1'. The pattern '*cell.1' finds 1: skycell.1.",
    ("--object", "md01"): "no image here has the object 'md01': there is MD01. Did you mean 'MD01'?",
    ("--data-group", "MD99"): "no image here has the data group 'MD99': there are MD01, MD02.",
}


@pytest.mark.parametrize("options", UNMATCHED, ids=str)
def test_names_that_no_image_has_are_told_with_those_that_there_are(config, options):
    shown = find(config, *options)
    assert (shown.returncode, shown.stdout) == (0, "")
    nothing, sentence = shown.stderr.splitlines()
    assert nothing == "no image here meets all of these conditions."
    assert sentence.startswith(UNMATCHED[options])


def test_the_count_of_none_is_explained_too(config):
    shown = find(config, "--stage", "chpi", "--count")
    assert (shown.returncode, shown.stdout) == (0, "0\n")
    assert shown.stderr.startswith("no image here has the stage 'chpi': ")


WRONG = {
    (
        "--kind",
        "imagee",
    ): "expected a kind of images (image, mask, weight, other), got 'imagee'. Did you mean 'image'?",
    ("--kind", "x*"): "expected a kind of images (image, mask, weight, other), got 'x*'.",
    ("--columns", "ra,patth"): "expected columns of images, got 'patth'. Did you mean 'path'?",
    ("--at", "160.7"): "invalid value for '--at': expected a position 'RA DEC' in degrees",
    ("--at", "400 10"): "expected a right ascension from 0 to 360 degrees and a declination from -90 to 90",
    ("--radius", "5 parsec", "--at", PLACE): "expected an angle such as 5arcmin, 30arcsec or 0.1deg",
    ("--at", "35.9", "-4.2", "-1"): "in degrees such as '160.685 41.269'",
    ("--at", "35.9", "-94.2"): "got 35.9 and -94.2",
    ("--radius", "1"): "expected a position with the radius, got none",
    ("--night", "yesterday"): "expected a night as its UTC date, such as 2009-07-29, got 'yesterday'",
    ("--night", "2009-07-29", "--after", "2009-07-01"): "expected either a night, or",
    ("--before", "2009-13-01"): "expected a date or a time (UTC) such as 2009-07-29",
    ("--arrived-since", "7"): "expected a duration such as 90s, 15min, 12h, 30 days or '1d 12h', or a time",
    ("--columns", "path,seeing"): "expected some of the columns path, extension, kind,",
    ("--columns", "path", "--count"): "expected no --columns, --format or --json with --count",
    ("--count", "--format", "csv"): "expected no --columns, --format or --json with --count",
    ("--json", "--count"): "expected no --columns, --format or --json with --count",
    ("--columns", "path", "--format", "paths"): "expected no --columns with --format paths",
    ("--format", "fits"): "expected table, csv, json, votable or paths, got 'fits'",
}


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_a_wrong_word_is_one_sentence_and_code_40(config, options):
    refused = find(config, *options)
    assert (refused.returncode, refused.stdout) == (40, "")
    assert WRONG[options] in refused.stderr
    assert refused.stderr.startswith("ipp-mirror find: ")
    assert refused.stderr.endswith("Nothing was done; see `ipp-mirror find --help`.\n")
    assert refused.stderr.count("\n") == 1


def test_a_mirror_without_a_catalog(tmp_path):
    config = mirror_with_images(tmp_path, ROWS)
    (tmp_path / "mirror" / "state" / "catalog" / "current.json").unlink()
    refused = find(config)
    assert (refused.returncode, refused.stdout) == (40, "")
    assert refused.stderr == (
        f"ipp-mirror: expected a catalog of the mirror at {tmp_path}/mirror, found none. "
        "The next update makes it: ipp-mirror update\n"
    )


def test_the_catalog_is_found_while_rebuilds_exchange_it(tmp_path):
    config = mirror_with_images(tmp_path, ROWS)
    layout, enough, made = Layout(tmp_path / "mirror"), Event(), []

    def exchange() -> None:
        while not enough.is_set():
            path = next_file(layout)
            shutil.copy(current_file(layout), path)
            make_current(layout, path)
            remove_earlier(layout)
            made.append(path)

    writer = Thread(target=exchange)
    writer.start()
    try:
        settings = read_settings(config)
        while len(made) < 100 and writer.is_alive():
            with catalog_of(layout, settings) as catalog:
                assert catalog.count(criteria_of()) == 4
    finally:
        enough.set()
        writer.join()


def test_a_catalog_that_is_behind_says_by_how_many_filesets(tmp_path):
    config = mirror_with_images(tmp_path, ROWS)
    for kind, names in ((MarkerKind.EXTRACTED, "abc"), (MarkerKind.CATALOGED, "a")):
        folder = tmp_path / "mirror" / "state" / "p" / kind
        folder.mkdir(parents=True)
        for name in names:
            (folder / f"{name}.json").write_text("{}")
    shown = find(config, "--count")
    assert (shown.returncode, shown.stdout) == (0, "4\n")
    assert shown.stderr == "2 filesets are not in the catalog yet; the next update adds them.\n"


def test_a_reader_that_has_read_enough_is_no_error(config):
    head = subprocess.run(
        f"{COMMAND} find --config {config} --format paths | head -n 1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (head.stdout.splitlines()[1], head.stderr) == ("0", "")


@pytest.mark.parametrize("output_format", ["csv", "json", "paths", "table"])
def test_no_slow_module_is_imported(config, output_format):
    modules = ("sqlalchemy", "astropy", "numpy", "luigi", "alembic")
    code = (
        "import sys; sys.argv = ['ipp-mirror', *sys.argv[1:]]; from tasks.commands import main\n"
        "try:\n main()\n"
        f"finally:\n print([name for name in {modules} if name in sys.modules], file=sys.stderr)"
    )
    # Without --config, as people use it.
    command = [sys.executable, "-c", code, "find", "--format", output_format, "--stage", "warp"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, cwd=config.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_on_a_terminal_the_table_has_its_width(config):
    controller, terminal = pty.openpty()
    more = {"cwd": REPOSITORY, "env": os.environ | {"COLUMNS": "60"}}
    subprocess.run([COMMAND, "find", "--config", config], stdout=terminal, check=True, timeout=60, **more)
    os.close(terminal)
    shown = os.read(controller, 65536).decode()
    os.close(controller)
    *lines, hint = shown.splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["stage", "exp_name", "filter", "component", "observed"],
        ["path"],
    ]
    assert len(lines) == 2 * 5
    assert max(map(len, lines[::2])) <= 60
    assert "…" not in shown
    assert hint == "Without exptime, fwhm, ra, dec, which do not fit; --columns A,B chooses."
