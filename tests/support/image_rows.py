"""Catalogs with rows of images that a test names, without files."""

import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from pipeline.catalog.database import Database, sqlite_url
from pipeline.catalog.generations import make_current
from pipeline.catalog.sky import pixel_of, size_class
from pipeline.catalog.tables import fileset, image, member, metadata, product
from pipeline.mirror.state.layout import Layout

# Twelve hours after it began, MJD 55041 was the noon of that day.
MJD_OF_2009_07_29 = 55041.0
ARRIVED = datetime(2009, 8, 1)


def square(ra: float, dec: float, side: float) -> str:
    """Return the footprint of an image in TAN projection whose sides have that many degrees at its centre."""
    half = math.radians(side) / 2
    corners = ((half, half), (half, -half), (-half, -half), (-half, half))
    return " ".join(f"{a:.7f} {d:.7f}" for a, d in (from_plane(ra, dec, x, y) for x, y in corners))


def from_plane(ra: float, dec: float, x: float, y: float) -> tuple[float, float]:
    """Return the position at x (east), y (north) of the plane that touches the unit sphere at ra, dec."""
    sine, cosine = math.sin(math.radians(dec)), math.cos(math.radians(dec))
    turn = math.degrees(math.atan2(x, cosine - y * sine))
    return (ra + turn) % 360, math.degrees(math.atan2(sine + y * cosine, math.hypot(x, cosine - y * sine)))


def image_row(
    path: str, ra: float | None, dec: float | None, side: float = 0.3, **more: Any
) -> dict[str, Any]:
    """Return a row of the table ``image``: a square image, unless ``more`` has another footprint."""
    row: dict[str, Any] = {
        "path": path,
        "base": path.removesuffix(".fits"),
        "extension": 0,
        "kind": "image",
        "fileset_id": 1,
        "stage": "chip",
        "filter": "r.00000",
        "band": "r",
        "exp_name": "o1",
        "quality": 0,
        "exptime": 40.0,
        "t_min": MJD_OF_2009_07_29 + 0.5,
        "ra": ra,
        "dec": dec,
    }
    if ra is not None and dec is not None:
        row |= {"radius": math.degrees(math.atan(math.radians(side) / math.sqrt(2))), "pos_source": "header"}
        row |= {"footprint": square(ra, dec, side)}
    row |= more
    if ra is not None and dec is not None:
        row |= {"healpix": pixel_of(ra, dec), "size_class": size_class(row["radius"])}
    return row


def write_images(
    database: Database, images: list[dict[str, Any]], members: list[dict[str, Any]] = ()
) -> None:
    """Create the tables and write the rows, with two filesets that arrived on 1 and 2 August 2009."""
    metadata.create_all(database.engine)
    columns = image.c.keys()
    with database.engine.begin() as connection:
        connection.execute(
            insert(product), [{"product_id": n, "name": name} for n, name in ((1, "p"), (2, "q"))]
        )
        connection.execute(
            insert(fileset),
            [
                {
                    "fileset_id": n,
                    "product_id": n,
                    "name": f"f{n}",
                    "data_group": f"MD0{n}",
                    "arrived": arrived,
                }
                for n, arrived in ((1, ARRIVED), (2, ARRIVED + timedelta(days=1)))
            ],
        )
        rows = [{name: row.get(name) for name in columns if name != "image_id"} for row in images]
        connection.execute(insert(image), rows)
        if members:
            connection.execute(insert(member), members)
    database.close()


def image_file(path: Path, images: list[dict[str, Any]], members: list[dict[str, Any]] = ()) -> Path:
    """Write an SQLite file with these images, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    write_images(Database(sqlite_url(path)), images, members)
    return path


def mirror_with_images(
    folder: Path, images: list[dict[str, Any]], members: list[dict[str, Any]] = ()
) -> Path:
    """Write the settings of a mirror whose catalog has these images, and return their path."""
    layout = Layout(folder / "mirror")
    file = image_file(layout.catalog / "000001.sqlite", images, members)
    make_current(layout, file)
    config = folder / "mirror.yaml"
    config.write_text(
        "source: {url: http://127.0.0.1:9/ds}\nmirror: {root: mirror}\ncatalog: {enabled: true}\n"
    )
    return config
