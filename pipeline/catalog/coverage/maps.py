"""Coverage maps: an IVOA MOC for each product and filter, of the images that are here."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import Latitude, Longitude
from mocpy import MOC
from sqlalchemy import Connection, func, select

from pipeline.catalog.sky import ORDER as INDEX_ORDER
from pipeline.catalog.tables import fileset, image, product

# Order of the smallest cells of the maps: 3.4 arcminutes.
ORDER = 10
# Number of the cell in which the centre of an image lies.
CELL = image.c.healpix // 4 ** (INDEX_ORDER - ORDER)
# Images whose radii differ by less than about a quarter of a cell are of one size.
_SIZES_IN_DEGREE = 64
# Images that become one MOC at a time.
_AT_ONCE = 5000
_NO_FILTER = "none"


def maps(connection: Connection, product_name: str) -> Iterator[tuple[str, MOC]]:
    """Yield the filters of a product, each with the coverage of its images."""
    for filter_name, rows in groupby(_places(connection, product_name), lambda row: row.filter):
        coverage = MOC.new_empty(ORDER)
        while some := list(islice(rows, _AT_ONCE)):
            coverage = coverage.union(*_mocs(some))
        yield filter_name, coverage


def file_name(product_name: str, filter_name: str) -> str:
    """Return the name of the file of a map, safe for any filter.

    >>> file_name("md-all-rel-200907", "r")
    'md-all-rel-200907.r.fits'
    """
    return f"{product_name}.{re.sub('[^A-Za-z0-9+_-]', '_', filter_name)}.fits"


def _places(connection: Connection, product_name: str) -> Iterator[Any]:
    """Yield the outlines of a product's images, in the order of their filters.

    Of images of one size with centres in one cell of the maps, such as those of a field seen on many nights,
    one stands for all.
    """
    band = func.coalesce(image.c.band, image.c.filter, _NO_FILTER)
    groups = (
        select(band.label("filter"), func.min(image.c.image_id).label("image_id"))
        .join(fileset, image.c.fileset_id == fileset.c.fileset_id)
        .join(product, fileset.c.product_id == product.c.product_id)
        .where(product.c.name == product_name, image.c.kind == "image", image.c.healpix.is_not(None))
        .group_by(band, func.round(image.c.radius * _SIZES_IN_DEGREE), CELL)
        .subquery("groups")
    )
    query = (
        select(groups.c.filter, image.c.ra, image.c.dec, image.c.radius, image.c.footprint)
        .join(groups, image.c.image_id == groups.c.image_id)
        .order_by(groups.c.filter)
    )
    yield from connection.execution_options(yield_per=_AT_ONCE).execute(query)


def _mocs(places: Sequence[Any]) -> Iterator[MOC]:
    """Yield the coverages of outlines; of images without one, of the circles that hold them."""
    outlines: dict[int, list[list[str]]] = {}
    for place in places:
        if place.footprint:
            corners = place.footprint.split()
            outlines.setdefault(len(corners), []).append(corners)
    for several in outlines.values():
        angles = np.array(several, dtype=float)
        # Right ascensions of the first polygon, its declinations, right ascensions of the second one …
        polygons = np.stack([angles[:, 0::2], angles[:, 1::2]], axis=1).reshape(2 * len(angles), -1)
        yield from MOC.from_polygons(polygons, max_depth=ORDER, n_threads=1)
    circles = np.array([(row.ra, row.dec, row.radius or 0.0) for row in places if not row.footprint])
    if len(circles):
        centres = (Longitude(circles[:, 0], u.deg), Latitude(circles[:, 1], u.deg))
        radii = np.maximum(circles[:, 2], 1e-4) * u.deg
        yield MOC.from_cones(
            *centres, radius=radii, max_depth=ORDER, union_strategy="large_cones", n_threads=1
        )
