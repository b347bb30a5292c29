"""Rows for an empty catalog, without a mirror."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert

from pipeline.catalog.load import position
from pipeline.catalog.tables import fileset, image, member, product

NIGHT = datetime(2009, 7, 29, 12)
CHIP = 0.15


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
