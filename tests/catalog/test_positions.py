"""Approximate positions: sky cells by the headers of other images."""

from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select
from support.catalog_rows import add_fileset, add_image, add_product

from pipeline.catalog.opening import create_file
from pipeline.catalog.positions import approximate_positions
from pipeline.catalog.tables import image
from pipeline.mirror.state.layout import Layout

# Right ascensions of images in a sky cell, and where an image of it without a header is.
PLACES = {
    (10.0, 10.1): 10.05,
    (359.98, 0.04): 0.01,
    (359.92, 0.04): 359.98,
    (0.0, 0.0): 0.0,
    (359.99999999999997, 0.0): 0.0,
    (179.9, 180.1): 180.0,
    # Two tessellations.
    (10.0, 20.0): None,
    (350.0, 10.0): None,
}


def test_where_sky_cells_are(tmp_path: Path):
    layout = Layout(tmp_path)

    def fill(connection) -> None:
        row = add_fileset(connection, add_product(connection, "p"), "f")
        for number, places in enumerate(PLACES):
            for ra in (*places, None):
                add_image(connection, row, f"{number}.{ra}", ra, 1.0, skycell=f"skycell.{number}")

    unplaced = (
        select(image.c.ra, image.c.dec, image.c.pos_source, image.c.healpix)
        .where(image.c.path.endswith(".None"))
        .order_by(image.c.image_id)
    )
    with closing(create_file(layout, tmp_path / "000001.sqlite")) as database:
        database.transact(fill)
        approximate_positions(database)
        with database.reading() as connection:
            found = connection.execute(unplaced).all()
    assert [row.ra for row in found] == [ra if ra is None else pytest.approx(ra) for ra in PLACES.values()]
    assert [row.pos_source for row in found] == [None if ra is None else "skycell" for ra in PLACES.values()]
    assert all(0 <= row.ra < 360 and row.healpix >= 0 for row in found if row.ra is not None)
