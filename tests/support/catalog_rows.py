"""Rows for an empty catalog, without a mirror."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, column, insert, table

from pipeline.catalog.generations import make_current
from pipeline.catalog.image_values import position
from pipeline.catalog.opening import create_file
from pipeline.catalog.tables import Time, fileset, image, member, product
from pipeline.catalog.views import create_views, renew_settings
from pipeline.config import Settings
from pipeline.mirror.state.layout import Layout

RAW_EXP = table(
    "raw_exp",
    *map(column, ("fileset_id", "row_number", "exp_id", "exp_name", "object", "filter")),
    column("dateobs", Time),
    *map(column, ("ra", "decl", "exp_time", "airmass")),
)
NIGHT = datetime(2009, 7, 29, 12)
CHIP = 0.15


def make_catalog(layout: Layout) -> None:
    """Make the catalog of a mirror of what ``fill`` adds, with its views."""
    path = layout.catalog / "000001.sqlite"
    database = create_file(layout, path)
    make_current(layout, path)
    mirror = {"source": {"url": "http://127.0.0.1/ds"}, "mirror": {"root": str(layout.root)}}
    settings = Settings.model_validate(mirror)
    database.transact(fill)
    database.transact(create_views)
    database.transact(lambda connection: renew_settings(connection, settings, layout))
    database.close()


def add_product(connection: Connection, name: str) -> int:
    """Add a product, and return its id."""
    key = connection.execute(insert(product).values(name=name)).inserted_primary_key
    return int(key[0])


def add_fileset(connection: Connection, product_id: int, name: str, **values: Any) -> int:
    """Add a fileset, and return its id."""
    row = {"product_id": product_id, "name": name, "registered": NIGHT, "cataloged": NIGHT, **values}
    return int(connection.execute(insert(fileset).values(row)).inserted_primary_key[0])


def add_image(
    connection: Connection, fileset_id: int, path: str, ra: float | None, dec: float, **values: Any
):
    """Add an image of 0.3 by 0.3 degrees, and its file."""
    key = connection.execute(
        insert(member).values(fileset_id=fileset_id, path=path, bytes=1234567, kind="image", base=path)
    ).inserted_primary_key
    place = None
    if ra is not None:
        sides = ((1, -1), (-1, -1), (-1, 1), (1, 1))
        place = (ra, dec, 0.22, [((ra + CHIP * x) % 360, dec + CHIP * y) for x, y in sides])
    row = {
        "fileset_id": fileset_id,
        "member_id": int(key[0]),
        "extension": 0,
        "path": path,
        "base": path,
        "kind": "image",
        "naxis1": 4846,
        "naxis2": 4868,
        **position(place, "header"),
        **values,
    }
    connection.execute(insert(image).values(row))


def fill(connection: Connection) -> None:
    """Add exposures known from raw_exp, from headers and from listings, a stack, and postage stamps."""
    release = add_product(connection, "md-all-rel-200907")
    first = {"exp_name": "o5000g0001o", "filter": "r.00000"}
    header = {
        "filter": "r.00000",
        "band": "r",
        "t_min": 55041.5,
        "t_max": 55041.501,
        "exptime": 86.4,
        "fwhm": 1.1,
    }

    def fileset(stage: str, of: dict, number: int = 1) -> int:
        name = f"{of['exp_name']}.{stage}.{number}"
        return add_fileset(connection, release, name, stage=stage, stage_id=str(number), **of)

    raw, again = fileset("raw", first), fileset("raw", first, 2)
    for row, exp_id in ((raw, 16), (again, 17)):
        dateobs = datetime(2009, 7, 29, 12, 0, 0, 500_000)
        values = {"fileset_id": row, "row_number": 1, "exp_id": exp_id, "exp_name": "o5000g0001o"}
        place = {"dateobs": dateobs, "ra": 150.5, "decl": 2.25, "exp_time": 113.0, "airmass": 1.25}
        connection.execute(insert(RAW_EXP).values(object="MD06", filter="r.00000", **values, **place))
    warp = fileset("warp", first, 7003)
    add_image(
        connection,
        warp,
        "data/a b/100%.fits",
        150.0,
        2.0,
        stage="warp",
        component="skycell.1",
        object="MD06",
        pixel_scale=0.25,
        **first,
        **{name: header[name] for name in header if name != "filter"},
    )
    add_image(connection, warp, "data/mask.fits", 150.0, 2.0, stage="warp", kind="mask", **first)
    add_image(
        connection, warp, "data/damaged.fits", None, 0.0, stage="warp", naxis1=None, note="cut", **first
    )
    # Chips on both sides of right ascension 0 tell the centre, warps that reach further do not.
    second = {"exp_name": "o5000g0002o"}
    chip = fileset("chip", second)
    for number, ra in enumerate((359.0, 0.5), start=1):
        path = f"data/{number}.fits.gz"
        add_image(
            connection, chip, path, ra, -10.0, stage="chip", extension=1, airmass=1.5, **second, **header
        )
    add_image(
        connection, fileset("warp", second), "data/3.fits", 5.0, -10.0, stage="warp", **second, **header
    )
    fileset("camera", {"exp_name": "o5000g0003o", "filter": "y.00000"}, 9)
    difference = {"stage": "SSdiff", "stage_id": "3005", "exp_name": "SSdiff.3005"}
    add_fileset(connection, release, "SSdiff.3005", **difference)
    stack = add_fileset(
        connection, release, "stack.2001", stage="stack", stage_id="2001", exp_name="stack.2001"
    )
    add_image(
        connection, stack, "data/stack.fits", 10.0, 80.0, stage="stack", exp_name="stack.2001", band="w"
    )
    stamps = add_fileset(connection, add_product(connection, "pstampresults"), "web_1001", type="PSRESULTS")
    add_image(connection, stamps, "store/stamp.fits", None, 0.0)
    circle = {"radius": 1.5, "footprint": None, "pos_source": "raw_exp"}
    add_image(connection, stamps, "store/circle.fits", 10.0, -0.00001, **circle)
