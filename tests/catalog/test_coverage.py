"""Coverage of the sky: maps, picture, and the process that makes them anew."""

import fcntl
import io
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from xml.etree import ElementTree

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from matplotlib.image import imread
from mocpy import MOC
from pyvo import registry
from sqlalchemy import delete, select, update
from support.catalog_rows import add_fileset, add_image, add_product
from support.running import until

from pipeline.catalog.coverage import draw_coverage
from pipeline.catalog.coverage.exposures import Exposures, read_exposures
from pipeline.catalog.coverage.maps import ORDER, file_name, maps
from pipeline.catalog.coverage.picture import draw
from pipeline.catalog.coverage.renewal import renew_coverage
from pipeline.catalog.database import Database
from pipeline.catalog.fileset_rows import delete_fileset
from pipeline.catalog.generations import make_current
from pipeline.catalog.image_values import position
from pipeline.catalog.opening import create_file
from pipeline.catalog.pipeline_tables import PipelineTables
from pipeline.catalog.recorded_state import record_state
from pipeline.catalog.tables import fileset, image
from pipeline.catalog.views import create_views
from pipeline.config import Settings
from pipeline.errors import MachineFault
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import read_marker

SIDES = (-1, 0, 1)
# Width of a cell of the maps, degrees.
CELL = math.degrees(math.sqrt(4 * math.pi / (12 * 4**ORDER)))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "mirror")


@pytest.fixture
def database(layout: Layout) -> Iterator[Database]:
    path = layout.catalog / "000001.sqlite"
    with closing(create_file(layout, path)) as made:
        make_current(layout, path)
        made.transact(create_views)
        yield made


def add(database: Database, name: str, *images: tuple[float | None, float, dict]) -> None:
    """Add a product with a fileset for each image: a position, and columns."""

    def work(connection) -> None:
        product_id = add_product(connection, name)
        for number, (ra, dec, values) in enumerate(images):
            of = {"stage": "chip", "exp_name": f"{name}.{number}"}
            row = add_fileset(connection, product_id, f"{name}.{number}.chip", **of)
            add_image(connection, row, f"data/{name}/{number}.fits", ra, dec, **{"band": "r", **of, **values})

    database.transact(work)


def maps_of(database: Database, product: str) -> dict[str, MOC]:
    with database.reading() as connection:
        return dict(maps(connection, product))


def assert_square(coverage: MOC, ra: float, dec: float) -> None:
    """Assert that the coverage is that of a square of 0.3 degrees, but for cells on its edge."""
    stretch = 1 / math.cos(math.radians(dec))
    reach = (0.15 - CELL * stretch, 0.15 - CELL)
    assert all(covered(coverage, [(ra + x * reach[0], dec + y * reach[1]) for x in SIDES for y in SIDES]))
    reach = (0.15 + 2 * CELL * stretch, 0.15 + 2 * CELL)
    beyond = [(ra + reach[0], dec), (ra - reach[0], dec), (ra, dec + reach[1]), (ra, dec - reach[1])]
    assert not any(covered(coverage, beyond))


def covered(coverage: MOC, places: list[tuple[float, float]]) -> list[bool]:
    lon, lat = zip(*places, strict=True)
    return list(coverage.contains_lonlat([each % 360 for each in lon] * u.deg, list(lat) * u.deg))


@pytest.mark.parametrize(("ra", "dec"), [(150.0, 2.0), (0.0, -4.0), (359.9, 30.0)])
def test_a_map_covers_the_images_and_no_more_than_a_cell_around(database, ra, dec):
    add(database, "md", (ra, dec, {}), (ra, dec + 40, {"band": "g"}), (20.0, 20.0, {"kind": "mask"}))
    found = maps_of(database, "md")
    assert list(found) == ["g", "r"]
    assert_square(found["r"], ra, dec)
    assert found["r"].max_order == ORDER


def test_images_without_band_outline_or_position(database):
    circle = {"footprint": None, "radius": 1.0, "band": None, "filter": "open/5"}
    point = {"footprint": None, "radius": 0.0, "band": None}
    add(database, "md", (10.0, 10.0, circle), (30.0, 0.0, point), (5.0, 5.0, {"healpix": None}))
    found = maps_of(database, "md")
    assert list(found) == ["none", "open/5"]
    assert found["open/5"].sky_fraction == pytest.approx(math.pi / 41253, rel=0.1)
    assert covered(found["none"], [(30.0, 0.0), (5.0, 5.0)]) == [True, False]
    assert file_name("md", "open/5") == "md.open_5.fits"


def test_of_a_field_seen_often_one_image_stands_for_all(database):
    again = [(150.0 + number * 1e-6, 2.0, {}) for number in range(50)]
    add(database, "md", *again)
    assert_square(maps_of(database, "md")["r"], 150.0, 2.0)


def test_a_smaller_image_does_not_stand_for_a_larger_one_with_the_same_centre(database):
    circles = [{"footprint": None, "radius": radius, "size_class": 1} for radius in (1.1, 1.9)]
    add(database, "md", *((150.0, 2.0, circle) for circle in circles))
    assert covered(maps_of(database, "md")["r"], [(151.8, 2.0), (152.1, 2.0)]) == [True, False]


def test_the_exposures_of_a_field_have_its_name_and_those_of_the_whole_sky_have_none(database):
    field = [(35.9, -4.25 + place, {"object": "MD01"}) for place in (0.0, 1.0)]
    sky = [(ra, 0.0, {"object": "3PI", "band": None}) for ra in (10.0, 200.0)]
    add(database, "md", *field, *sky, (None, 0.0, {}))
    with database.reading() as connection:
        found = read_exposures(connection)
    assert found.bands == ["r", "other"]
    assert (list(found.ra["r"]), list(found.dec["other"])) == ([35.9, 35.9], [0.0, 0.0])
    assert (found.objects, found.unplaced) == ({"MD01": (35.9, -4.25)}, 1)


def picture_of(*places: tuple[str, float, float], **more) -> tuple[bytes, bytes]:
    exposures = Exposures(**more)
    for place in places:
        exposures.add(*place)
    return draw(exposures)


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ([], ["No exposure has a position", "ecliptic"]),
        ([("r", 35.9, -4.25)], ["1 exposure in the mirror", "plane of the Milky Way"]),
        ([(band, 10.0, 0.0) for band in "grizyw"] * 30, ["180 exposures in the mirror", "w", "30"]),
    ],
)
def test_the_picture_is_the_same_for_the_same_exposures_and_says_what_it_shows(places, words):
    png, svg = picture_of(*places, objects={"MD01": (35.9, -4.25)})
    assert (png, svg) == picture_of(*places, objects={"MD01": (35.9, -4.25)})
    root = ElementTree.fromstring(svg)
    # Matplotlib draws texts as shapes, and names each in a comment.
    comments = [line for line in svg.decode().splitlines() if line.strip().startswith("<!--")]
    for word in words:
        assert any(word in line for line in comments), word
    assert root.tag.endswith("svg") and png.startswith(b"\x89PNG")


def test_a_single_field_is_seen_in_each_map_of_the_picture():
    empty = imread(io.BytesIO(picture_of(("g", 200.0, 30.0), ("r", 200.0, 30.0))[0]))[:, :, :3]
    shown = imread(io.BytesIO(picture_of(("g", 300.0, -30.0), ("r", 300.0, -30.0))[0]))[:, :, :3]
    rows, columns = np.nonzero(np.abs(empty - shown).max(axis=2) > 0.2)
    # Whole sky, above, and a map for each filter, beside each other below.
    below = rows > empty.shape[0] * 0.65
    spots = [columns[~below], columns[below & (columns < 500)], columns[below & (columns >= 500)]]
    assert [len(spot) >= 2 * 30 for spot in spots] == [True] * 3


def written(layout: Layout) -> dict[str, int]:
    """Return the files of the coverage, with the numbers that change when they are written anew."""
    files = [*layout.coverage.iterdir(), *layout.coverage_pictures]
    return {path.name: path.stat().st_ino for path in files}


def test_what_has_changed_is_made_anew_and_the_rest_is_left(database, layout):
    add(database, "md", (10.0, 10.0, {}), (12.0, 10.0, {"band": "g"}))
    add(database, "threepi.2", (20.0, 10.0, {}))
    renew_coverage(database, layout)
    first = written(layout)
    assert sorted(first) == ["coverage.png", "coverage.svg", "md.g.fits", "md.r.fits", "threepi.2.r.fits"]
    renew_coverage(database, layout)
    assert written(layout) == first
    # A filter that went is removed, another product's maps are left.
    database.transact(lambda connection: connection.execute(delete(image).where(image.c.band == "g")))
    renew_coverage(database, layout)
    second = written(layout)
    assert sorted(second) == ["coverage.png", "coverage.svg", "md.r.fits", "threepi.2.r.fits"]
    assert second["threepi.2.r.fits"] == first["threepi.2.r.fits"]
    assert second["coverage.png"] != first["coverage.png"]
    layout.coverage_pictures[1].unlink()
    # A position that filesets of another product tell moves an image whose own fileset is as it was.
    moved = update(image).where(image.c.path == "data/threepi.2/0.fits")
    place = (200.0, 10.0, 0.22, ())
    database.transact(lambda connection: connection.execute(moved.values(position(place, "raw_exp"))))
    renew_coverage(database, layout)
    third = written(layout)
    assert third["md.r.fits"] == second["md.r.fits"]
    found = MOC.from_fits(layout.coverage / "threepi.2.r.fits")
    assert covered(found, [(200.0, 10.0), (20.0, 10.0)]) == [True, False]

    def remove_product(connection) -> None:
        name = select(fileset.c.fileset_id).where(fileset.c.name == "threepi.2.0.chip")
        delete_fileset(connection, PipelineTables(connection), connection.execute(name).scalar_one())

    database.transact(remove_product)
    renew_coverage(database, layout)
    assert sorted(written(layout)) == ["coverage.png", "coverage.svg", "md.r.fits"]


def test_of_two_processes_one_draws_and_the_other_waits_for_it(database, layout):
    add(database, "md", (10.0, 10.0, {}))
    order = json.dumps({"root": str(layout.root), "url": None}).encode()
    command = [sys.executable, "-W", "error", "-m", "pipeline.catalog.coverage"]
    layout.coverage.mkdir(parents=True)
    with open(layout.coverage_record.with_suffix(".lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        both = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(2)]
        for process in both:
            process.stdin.write(order)
            process.stdin.close()
        until(lambda: waiting_for(lock.name) == 2, "two processes that wait")
        assert not layout.coverage_record.exists()
    first = [path.stat().st_ino for path in (until_made(layout), *layout.coverage_pictures)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert first == [path.stat().st_ino for path in (layout.coverage_record, *layout.coverage_pictures)]


def until_made(layout: Layout) -> Path:
    def is_complete() -> bool:
        return bool((read_marker(layout.coverage_record) or {}).get("catalog"))

    until(is_complete, "the record of the coverage")
    return layout.coverage_record


def waiting_for(file: str) -> int:
    """Return the number of locks on the file that processes wait for."""
    inode = Path(file).stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return sum("->" in line and f":{inode} " in line for line in lines)


def test_maps_are_fits_files_of_moc_1_and_2(database, layout):
    add(database, "md", (10.0, 10.0, {}))
    renew_coverage(database, layout)
    path = layout.coverage / "md.r.fits"
    coverage = MOC.from_fits(path)
    assert_square(coverage, 10.0, 10.0)
    assert registry.Spatial(coverage.to_string())
    with fits.open(path) as file:
        header = file[1].header
        assert (header["MOCDIM"], header["ORDERING"], header["COORDSYS"]) == ("SPACE", "NUNIQ", "C")
        assert header["MOCORD_S"] == ORDER


def order(layout: Layout, **catalog: object) -> Settings:
    """The settings of a mirror, whose last run has recorded its catalog."""
    source = {"url": "http://127.0.0.1/ds"}
    settings = Settings.model_validate(
        {"source": source, "mirror": {"root": str(layout.root)}, "catalog": catalog}
    )
    record_state(settings, layout)
    return settings


def test_the_process_makes_all_files_once(database, layout, caplog, tmp_path, monkeypatch):
    caplog.set_level("DEBUG")
    # A folder of that name where the update is started is not the program.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise ImportError")
    add(database, "md", (10.0, 10.0, {}))
    draw_coverage(order(layout), layout, Event())
    assert sorted(written(layout)) == ["coverage.png", "coverage.svg", "md.r.fits"]
    # Nothing is started for a catalog that is as it was drawn: a settings value without a process.
    written_at = layout.coverage_record.stat().st_mtime_ns
    draw_coverage(order(layout), layout, Event(), wait_seconds=0)
    assert (layout.coverage_record.stat().st_mtime_ns, caplog.messages) == (written_at, [])


def test_the_process_is_ended_with_the_run_and_begun_again_by_the_next_one(database, layout, caplog):
    caplog.set_level("DEBUG")
    add(database, "md", (10.0, 10.0, {}))
    stopping = Event()
    stopping.set()
    for event, seconds in ((stopping, 600), (Event(), 0)):
        caplog.clear()
        draw_coverage(order(layout), layout, event, seconds)
        assert caplog.messages == ["drawing the coverage of the sky was ended; the next run goes on with it"]
    assert not layout.coverage_record.exists()


def test_a_process_that_fails_is_one_sentence_and_its_messages_are_in_the_log(database, layout, caplog):
    caplog.set_level("DEBUG")
    add(database, "md", (10.0, 10.0, {}))
    settings = order(layout)
    layout.coverage.parent.mkdir(exist_ok=True)
    layout.coverage.write_text("a file where the folder should be")
    with pytest.raises(MachineFault) as failed:
        draw_coverage(settings, layout, Event())
    assert str(failed.value).startswith(
        f"drawing the coverage of the sky in {layout.coverage}: expected a proc"
    )
    assert str(failed.value).endswith(". Nothing else is concerned; the next run tries again.")
    assert "File exists" in str(failed.value)
    assert "File exists" in caplog.text


def test_a_renewal_that_is_ended_goes_on_with_the_next_product(database, layout):
    """The maps of a product are remembered before all others are done."""
    add(database, "a", (10.0, 10.0, {}))
    add(database, "b", (20.0, 10.0, {"footprint": "no numbers"}))
    with pytest.raises(ValueError, match="could not convert"):
        renew_coverage(database, layout)
    first = (layout.coverage / "a.r.fits").stat().st_mtime_ns
    database.transact(lambda connection: connection.execute(update(image).values(footprint=None)))
    renew_coverage(database, layout)
    assert (layout.coverage / "a.r.fits").stat().st_mtime_ns == first
    assert sorted(written(layout)) == ["a.r.fits", "b.r.fits", "coverage.png", "coverage.svg"]


def test_only_the_process_imports_matplotlib_and_mocpy():
    code = "import sys, pipeline.catalog.finish; print({'matplotlib', 'mocpy', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
