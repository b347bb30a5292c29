"""Approximate positions of images whose headers have none: those of their sky cell or of their exposure.

They follow from all rows of the catalog together, whatever the order in which these came, so that a rebuild
finds the same.
"""

import math
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, or_, select, update

from pipeline.catalog.database import Database, in_batches
from pipeline.catalog.image_values import position
from pipeline.catalog.pipeline_tables import PipelineTables
from pipeline.catalog.pointing import in_degrees
from pipeline.catalog.sky import FIELD_RADIUS
from pipeline.catalog.tables import image

_Place = tuple[float, float, float, tuple[tuple[float, float], ...]]


def approximate_positions(database: Database) -> None:
    """Give an approximate position to each image without one of its own. Raises MachineFault."""
    database.transact(_approximate)


def _approximate(connection: Connection) -> None:
    tables = PipelineTables(connection)
    for some in in_batches(_distinct(connection, image.c.skycell)):
        _place(connection, image.c.skycell, some, _places_of_skycells(connection, some), "skycell")
    for some in in_batches(_distinct(connection, image.c.exp_name)):
        _place(connection, image.c.exp_name, some, _pointings(connection, tables, some), "raw_exp")


def _without_own() -> Any:
    return or_(image.c.pos_source.is_(None), image.c.pos_source != "header")


def _distinct(connection: Connection, column: Any) -> list[str]:
    """Return the values of the column in images without a position of their own, sorted."""
    query = select(column).where(_without_own(), column.is_not(None)).distinct().order_by(column)
    return list(connection.execute(query).scalars())


def _places_of_skycells(connection: Connection, names: list[str]) -> dict[str, _Place]:
    """Return where the sky cells are by the headers of other images, if these agree."""
    # From -180 to 180 degrees: sky cells at right ascension 0 are not torn apart.
    turned = case((image.c.ra > 180, image.c.ra - 360), else_=image.c.ra)
    query = (
        select(
            image.c.skycell,
            func.min(image.c.ra),
            func.max(image.c.ra),
            func.min(turned),
            func.max(turned),
            func.min(image.c.dec),
            func.max(image.c.dec),
            func.max(image.c.radius),
        )
        .where(image.c.skycell.in_(names), image.c.pos_source == "header")
        .group_by(image.c.skycell)
    )
    places: dict[str, _Place] = {}
    for name, west, east, turned_west, turned_east, south, north, radius in connection.execute(query):
        if turned_east - turned_west < east - west:
            west, east = turned_west, turned_east
        # Sky cells of two tessellations may share a name.
        if math.hypot(east - west, north - south) <= radius:
            # A tiny negative number is 360 once divided.
            places[name] = ((west + east) / 2 % 360 % 360, (south + north) / 2, radius, ())
    return places


def _pointings(connection: Connection, tables: PipelineTables, names: list[str]) -> dict[str, _Place]:
    """Return the circles of the exposures, from their rows in the database of the telescope."""
    raw_exp = tables.named("raw_exp")
    query = (
        select(raw_exp.c.exp_name, raw_exp.c.ra, raw_exp.c.decl)
        .where(raw_exp.c.exp_name.in_(names), raw_exp.c.ra.is_not(None), raw_exp.c.decl.between(-90, 90))
        .order_by(raw_exp.c.exp_name, raw_exp.c.ra, raw_exp.c.decl)
    )
    pointings = {name: in_degrees(ra, dec) for name, ra, dec in connection.execute(query)}
    return {name: (ra % 360, dec, FIELD_RADIUS, ()) for name, (ra, dec) in pointings.items()}


def _place(
    connection: Connection, column: Any, names: list[str], places: dict[str, _Place], source: str
) -> None:
    """Write the positions of the images of these names; without a place they lose what they had.

    A sky cell comes before an exposure, whichever of the two was here first.
    """
    lost = [name for name in names if name not in places]
    connection.execute(
        update(image).where(column.in_(lost), image.c.pos_source == source).values(position(None, source))
    )
    rows = [
        {"named": name, "east": place[0], "north": place[1], **position(place, source)}
        for name, place in sorted(places.items())
    ]
    if rows:
        replaced = ("skycell", "raw_exp") if source == "skycell" else ("raw_exp",)
        elsewhere = or_(
            image.c.pos_source != source, image.c.ra != bindparam("east"), image.c.dec != bindparam("north")
        )
        # A statement for several rows of parameters takes no IN.
        is_replaced = or_(*(image.c.pos_source == each for each in replaced))
        wanted = or_(image.c.pos_source.is_(None), is_replaced & elsewhere)
        connection.execute(update(image).where(column == bindparam("named"), wanted), rows)
