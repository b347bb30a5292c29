"""Catalog of a synthetic survey: as many images as wanted, half of them in deep fields, in SQLite."""

import math
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine

from pipeline.catalog.sky import pixel_of, size_class
from pipeline.catalog.tables import metadata

# Centre of one of ten deep fields, whose pointings scatter by a few hundredths of a degree.
DEEP_FIELD = (150.0, 2.2)
FILTERS = ("g.00000", "r.00000", "i.00000", "z.00000", "y.00000")
# MJD of the first night.
FIRST_NIGHT = 54_952
NIGHTS = 365
_FIELDS = [DEEP_FIELD, *((ra, dec) for ra in (35, 130, 185, 213, 334) for dec in (0.5, 44.0))][:10]
_DEEP_SHARE = 0.35
# Degrees between the centres of neighbouring chips or sky cells, and their sides.
_CHIP, _CELL, _CELL_STEP = 0.345, 0.43, 0.4
_COLUMNS = (
    *("fileset_id", "extension", "path", "base", "kind", "stage", "exp_name", "object", "filter", "band"),
    *("component", "skycell", "naxis1", "naxis2", "t_min", "t_max", "exptime", "airmass", "fwhm", "quality"),
    *("ra", "dec", "radius", "pixel_scale", "healpix", "size_class", "footprint", "pos_source"),
)


def make_survey(path: Path, images: int) -> None:
    """Write the SQLite file; the same rows each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{partial}")
    metadata.create_all(engine)
    engine.dispose()
    with closing(sqlite3.connect(partial)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -500000")
        names, marks = ", ".join(_COLUMNS), ", ".join("?" * len(_COLUMNS))
        rows = islice(_images(random.Random(1)), images)
        connection.executemany(f"INSERT INTO image ({names}) VALUES ({marks})", rows)
        connection.execute("INSERT INTO product VALUES (1, 'survey')")
        filesets = connection.execute("SELECT max(fileset_id) FROM image").fetchone()[0]
        arrived = datetime(2010, 1, 1, tzinfo=UTC)
        connection.executemany(
            "INSERT INTO fileset (fileset_id, product_id, name, arrived) VALUES (?, 1, ?, ?)",
            (
                (number, f"fileset.{number}", f"{arrived + timedelta(minutes=number):%Y-%m-%d %H:%M:%S.%f}")
                for number in range(1, filesets + 1)
            ),
        )
        connection.commit()
    partial.rename(path)


def _images(numbers: random.Random) -> Iterator[tuple[Any, ...]]:
    exposure = 0
    while True:
        exposure += 1
        is_deep = numbers.random() < _DEEP_SHARE
        ra, dec = numbers.choice(_FIELDS) if is_deep else _anywhere(numbers)
        ra, dec = ra + numbers.gauss(0, 0.03), dec + numbers.gauss(0, 0.03)
        night = numbers.randrange(NIGHTS)
        start = FIRST_NIGHT + night + 0.25 + numbers.random() * 0.4
        name = f"o{FIRST_NIGHT + night - 50_000}g{exposure % 10_000:04d}o"
        target = "MD01" if is_deep else "3PI"
        chosen = numbers.choice(FILTERS)
        shared = (name, target, chosen, chosen[0], start)
        for x, y in _grid(8, _CHIP):
            component = f"XY{round(x / _CHIP + 3.5)}{round(y / _CHIP + 3.5)}"
            yield _image("chip", 2 * exposure, shared, component, None, *_offset(ra, dec, x, y), _CHIP)
        for number, (x, y) in enumerate(_grid(8, _CELL_STEP)):
            # Sky cells are the same for all exposures of a field.
            at = (round(ra / 0.5) * 0.5, round(dec / 0.5) * 0.5)
            cell = f"skycell.{round(at[0] * 2)}.{number:03d}"
            yield _image("warp", 2 * exposure + 1, shared, cell, cell, *_offset(*at, x, y), _CELL)


def _anywhere(numbers: random.Random) -> tuple[float, float]:
    """Return a position north of -30 degrees."""
    return numbers.uniform(0, 360), math.degrees(math.asin(numbers.uniform(-0.5, 1)))


def _grid(side: int, step: float) -> Iterator[tuple[float, float]]:
    """Yield the places of a square of images without its corners, in degrees from its centre."""
    for row in range(side):
        for column in range(side):
            if not {row, column} <= {0, side - 1}:
                yield (column - (side - 1) / 2) * step, (row - (side - 1) / 2) * step


def _image(
    stage: str,
    fileset: int,
    shared: tuple[Any, ...],
    component: str,
    skycell: str | None,
    ra: float,
    dec: float,
    side: float,
) -> tuple[Any, ...]:
    name, target, chosen, band, start = shared
    base = f"data/gpc1/{target}.200907/2009/07/29/{name}.{fileset}/{name}.{fileset}.{stage[:2]}.{component}"
    return (
        *(fileset, 0, f"{base}.fits", base, "image", stage, name, target, chosen, band, component, skycell),
        *(4846, 4868, start, start + 40 / 86_400, 40.0, 1.1, 1.05, 0),
        *(*_place(ra, dec, side), "header"),
    )


@lru_cache(10_000)
def _place(ra: float, dec: float, side: float) -> tuple[float | str, ...]:
    """Return centre, radius, pixel scale, pixel, size class and footprint; those of a sky cell come often."""
    radius = side / math.sqrt(2)
    plane = ((x * side / 2, y * side / 2) for x, y in ((1, 1), (1, -1), (-1, -1), (-1, 1)))
    corners = " ".join(f"{a:.7f} {d:.7f}" for a, d in (_offset(ra, dec, *each) for each in plane))
    return ra, dec, radius, 0.256, pixel_of(ra, dec), size_class(radius), corners


def _offset(ra: float, dec: float, x: float, y: float) -> tuple[float, float]:
    """Return the position at x, y (degrees) of the plane that touches the sphere at ra, dec."""
    x, y = math.radians(x), math.radians(y)
    sine, cosine = math.sin(math.radians(dec)), math.cos(math.radians(dec))
    length = math.sqrt(1 + x * x + y * y)
    turn = math.degrees(math.atan2(x, cosine - y * sine))
    return (ra + turn) % 360, math.degrees(math.asin((sine + y * cosine) / length))
