"""Views in each kind of database: made, made anew, and what they answer."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mocpy import MOC
from sqlalchemy import Connection, insert, text
from support.catalog_rows import RAW_EXP, add_fileset, add_product, fill
from support.databases import mariadb, postgresql

from pipeline.catalog.coverage.maps import maps
from pipeline.catalog.database import Database, database_url
from pipeline.catalog.headers import band_of
from pipeline.catalog.opening import create_file, new_settings
from pipeline.catalog.schema import create_schema
from pipeline.catalog.view_columns import EXPOSURE, OBSCORE
from pipeline.catalog.views import create_views, renew_settings
from pipeline.config import Settings
from pipeline.mirror.state.layout import Layout

ROOT = Path("/panstarrs/a mirror")


def settings(**catalog) -> Settings:
    source = {"url": "http://127.0.0.1/ds"}
    return Settings.model_validate({"source": source, "mirror": {"root": str(ROOT)}, "catalog": catalog})


@contextmanager
def filled(made: Database) -> Iterator[Database]:
    """Add the rows of ``fill``, and the views."""
    made.transact(fill)
    made.transact(create_views)
    made.transact(lambda connection: renew_settings(connection, settings(), Layout(ROOT)))
    yield made
    made.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path = tmp_path_factory.mktemp("views") / "000001.sqlite"
    with filled(create_file(Layout(ROOT), path)) as made:
        yield made


def rows(database: Database, view: str) -> list[dict]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(text(f"SELECT * FROM {view}")).mappings()]


def by(name: str, found: list[dict]) -> dict[str, dict]:
    return {row[name]: row for row in found}


def assert_described(database: Database) -> None:
    """Assert that both views have the columns described, in their order, with values of their types."""
    types = {"text": str, "integer": int, "long": int, "double": float}
    for view, columns in (("exposure", EXPOSURE), ("obscore", OBSCORE)):
        found = rows(database, view)
        assert list(found[0]) == [each.name for each in columns]
        for each in columns:
            values = [row[each.name] for row in found if row[each.name] is not None]
            assert {type(value) for value in values} <= {types[each.type]}, each
            assert not each.required or len(values) == len(found), each
            assert values or each.name == "pol_states", each


def test_columns_are_those_described(database):
    assert_described(database)


@pytest.mark.parametrize("server", [postgresql, mariadb])
def test_servers_answer_as_sqlite_does(database, server):
    with server() as url:
        other = Database(database_url(url))
        create_schema(other, new_settings(Layout(ROOT), 1))
        with filled(other):
            assert_described(other)
            for view, key in (("exposure", "exp_name"), ("obscore", "access_url")):
                expected, found = by(key, rows(database, view)), by(key, rows(other, view))
                for name, row in expected.items():
                    # Numbers in the text of a circle have more digits in some databases than in others.
                    if (row.get("s_region") or "").startswith("CIRCLE"):
                        assert_circle(found[name].pop("s_region"))
                        del row["s_region"]
                    assert found[name] == {
                        key: pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
                        for key, value in row.items()
                    }
                assert len(found) == len(expected)
            assert coverage(other) == coverage(database)
            assert_views_are_exchanged(other)


def coverage(database: Database) -> dict[str, MOC]:
    with database.reading() as connection:
        return dict(maps(connection, "md-all-rel-200907"))


def assert_circle(region: str) -> None:
    word, frame, *numbers = region.split()
    assert (word, frame, [float(number) for number in numbers]) == ("CIRCLE", "ICRS", [10.0, -0.00001, 1.5])


def test_an_exposure_is_known_from_raw_exp_else_from_headers_else_from_listings(database):
    found = by("exp_name", rows(database, "exposure"))
    assert sorted(found) == ["o5000g0001o", "o5000g0002o", "o5000g0003o"]
    first, second, third = (found[name] for name in sorted(found))
    assert first.pop("mjd") == pytest.approx(55041.5 + 0.5 / 86400, abs=1e-7)
    assert second.pop("ra") == pytest.approx(359.75)
    counts = dict.fromkeys(
        ("n_raw", "n_chip", "n_chip_bg", "n_camera", "n_fake", "n_warp", "n_warp_bg", "n_diff"), 0
    )
    place = {"object": "MD06", "ra": 150.5, "dec": 2.25, "exptime": 113.0, "airmass": 1.25}
    assert first == {
        "exp_name": "o5000g0001o",
        "source": "raw_exp",
        "exp_id": 17,
        **place,
        "filter": "r.00000",
        "band": "r",
        **counts,
        "n_raw": 2,
        "n_warp": 1,
    }
    assert second == {
        "exp_name": "o5000g0002o",
        "source": "header",
        "exp_id": None,
        "object": None,
        "dec": -10.0,
        "mjd": 55041.5,
        "filter": "r.00000",
        "band": "r",
        "exptime": 86.4,
        "airmass": 1.5,
        **counts,
        "n_chip": 1,
        "n_warp": 1,
    }
    nothing = dict.fromkeys(("exp_id", "object", "ra", "dec", "mjd", "exptime", "airmass"))
    assert third == {
        "exp_name": "o5000g0003o",
        "source": "listing",
        **nothing,
        "filter": "y.00000",
        "band": "y",
        **counts,
        "n_camera": 1,
    }


def test_bands_of_exposures_are_those_of_their_filters(tmp_path):
    names = ["g.00000", "w", "?.00000", "OPEN", "green", None]
    made = create_file(Layout(ROOT), tmp_path / "000001.sqlite")

    def add(connection: Connection) -> None:
        release = add_product(connection, "md")
        for number, name in enumerate(names):
            add_fileset(connection, release, f"f{number}", stage="chip", exp_name=f"o{number}", filter=name)

    made.transact(add)
    made.transact(create_views)
    found = by("exp_name", rows(made, "exposure"))
    made.close()
    assert [found[f"o{number}"]["band"] for number in range(len(names))] == list(map(band_of, names))


POINTINGS = [
    ((math.radians(150.5), math.radians(-2.25)), (150.5, -2.25)),
    ((math.radians(150.5), None), (150.5, None)),
    ((None, math.radians(-2.25)), (None, -2.25)),
    ((150.5, None), (150.5, None)),
    ((None, -12.25), (None, -12.25)),
    ((150.5, 1.0), (150.5, 1.0)),
    ((1.0, -12.25), (1.0, -12.25)),
    ((None, None), (None, None)),
]


def test_the_pointing_of_an_exposure_is_in_degrees_also_beside_null(tmp_path):
    made = create_file(Layout(ROOT), tmp_path / "000001.sqlite")

    def add(connection: Connection) -> None:
        release = add_product(connection, "md")
        for number, ((ra, decl), _) in enumerate(POINTINGS):
            raw = add_fileset(connection, release, f"raw.{number}", stage="raw", exp_name=f"o{number}")
            values = {"fileset_id": raw, "row_number": 1, "exp_id": number, "exp_name": f"o{number}"}
            connection.execute(insert(RAW_EXP).values(ra=ra, decl=decl, **values))

    made.transact(add)
    made.transact(create_views)
    found = by("exp_name", rows(made, "exposure"))
    made.close()
    for number, (_, expected) in enumerate(POINTINGS):
        angles = (found[f"o{number}"][name] for name in ("ra", "dec"))
        assert [angle if angle is None else round(angle, 9) for angle in angles] == list(expected), number


def test_obscore_has_each_image_of_the_kind_image_that_could_be_read(database):
    found = by("access_url", rows(database, "obscore"))
    start = "file:///panstarrs/a%20mirror/"
    assert sorted(url.removeprefix(start) for url in found) == [
        "data/1.fits.gz",
        "data/2.fits.gz",
        "data/3.fits",
        "data/a%20b/100%25.fits",
        "data/stack.fits",
        "store/circle.fits",
        "store/stamp.fits",
    ]
    assert found[f"{start}data/a%20b/100%25.fits"] == {
        "dataproduct_type": "image",
        "calib_level": 3,
        "obs_collection": "md-all-rel-200907",
        "obs_id": "o5000g0001o",
        "obs_publisher_did": "ivo://ipp-mirror?data/a%20b/100%25.fits",
        "access_url": f"{start}data/a%20b/100%25.fits",
        "access_format": "image/fits",
        "access_estsize": 1235,
        "target_name": "MD06",
        "s_ra": 150.0,
        "s_dec": 2.0,
        "s_fov": 0.44,
        "s_region": "POLYGON ICRS 150.1500000 1.8500000 149.8500000 1.8500000 149.8500000 2.1500000 "
        "150.1500000 2.1500000",
        "s_resolution": 1.1,
        "s_xel1": 4846,
        "s_xel2": 4868,
        "t_min": 55041.5,
        "t_max": 55041.501,
        "t_exptime": 86.4,
        "t_resolution": 86.4,
        "t_xel": 1,
        "em_min": 550e-9,
        "em_max": 689e-9,
        "em_res_power": 4.4,
        "em_xel": 1,
        "o_ucd": "phot.count",
        "pol_states": None,
        "pol_xel": 0,
        "facility_name": "Pan-STARRS1",
        "instrument_name": "GPC1",
        "dataproduct_subtype": "warp",
        "obs_title": "warp o5000g0001o skycell.1 r.00000",
        "s_pixel_scale": 0.25,
    }


def test_obscore_of_raw_calibrated_and_combined_images(database):
    start = "file:///panstarrs/a%20mirror/"
    found = {url.removeprefix(start): row for url, row in by("access_url", rows(database, "obscore")).items()}
    chip, stack, stamp = (found[name] for name in ("data/1.fits.gz", "data/stack.fits", "store/stamp.fits"))
    assert (chip["calib_level"], chip["obs_id"]) == (2, "o5000g0002o")
    assert (chip["access_format"], chip["obs_publisher_did"]) == (
        "image/x-fits-gzip",
        "ivo://ipp-mirror?data/1.fits.gz&hdu=1",
    )
    assert (stack["calib_level"], stack["obs_id"], stack["em_min"]) == (3, "stack.2001", 451e-9)
    assert (chip["t_min"], chip["t_max"]) == (55041.5, 55041.501)
    assert (stack["t_min"], stack["t_max"], stack["t_exptime"]) == (55041.5, None, 86.4)
    assert (stamp["calib_level"], stamp["obs_id"], stamp["s_region"]) == (1, "web_1001", None)
    assert_circle(found["store/circle.fits"]["s_region"])


def assert_views_are_exchanged(database: Database) -> None:
    """Assert that views are left while their text is known to be right, and made anew otherwise."""
    before = rows(database, "exposure")
    # A view with another text is exchanged, one with the same is not touched.
    database.transact(lambda connection: connection.execute(text("DROP VIEW exposure")))
    database.transact(lambda connection: connection.execute(text("CREATE VIEW exposure AS SELECT 1 AS one")))
    database.transact(create_views)
    assert rows(database, "exposure") == [{"one": 1}]
    database.transact(
        lambda connection: connection.execute(
            text("UPDATE catalog_setting SET value = 'x' WHERE name = 'views'")
        )
    )
    database.transact(create_views)
    assert rows(database, "exposure") == before


def test_views_are_made_anew_when_their_text_has_changed(database):
    assert_views_are_exchanged(database)


def test_settings_follow_the_settings_file(database):
    given = {"access_url": "https://archive.example/ps1/", "publisher_did": "ivo://archive.example/ps1"}
    database.transact(lambda connection: renew_settings(connection, settings(**given), Layout(Path("/new"))))
    assert database.setting("root") == "/new"
    row = next(row for row in rows(database, "obscore") if row["s_dec"] == 2.0)
    assert row["access_url"] == "https://archive.example/ps1/data/a%20b/100%25.fits"
    assert row["obs_publisher_did"] == "ivo://archive.example/ps1?data/a%20b/100%25.fits"
    database.transact(lambda connection: renew_settings(connection, settings(), Layout(ROOT)))
    assert database.setting("access_url") == "file:///panstarrs/a%20mirror"
