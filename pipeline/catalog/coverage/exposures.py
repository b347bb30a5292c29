"""Exposures of the mirror, with what the picture of them needs."""

from array import array
from dataclasses import dataclass, field

from sqlalchemy import Connection, column, select, table

from pipeline.catalog.headers import BANDS
from pipeline.catalog.sky import Cone

_AT_ONCE = 5000
# Objects beyond that number have no place for their names in the picture.
MOST_OBJECTS = 16
_exposure = table("exposure", *map(column, ("band", "ra", "dec", "object")))
OTHER = "other"
# Degrees within which the exposures of a field are; a survey of the whole sky is none.
_FIELD = 5.0


@dataclass
class Exposures:
    """Positions (degrees, ICRS) of exposures by band, and of objects by name.

    ``unplaced`` exposures have no position. ``objects`` is empty where there are more than
    :data:`MOST_OBJECTS`; it has those only that are one field.
    """

    ra: dict[str, "array[float]"] = field(default_factory=dict)
    dec: dict[str, "array[float]"] = field(default_factory=dict)
    objects: dict[str, tuple[float, float]] = field(default_factory=dict)
    unplaced: int = 0

    @property
    def bands(self) -> list[str]:
        """The bands with exposures, from blue to red, other filters last."""
        return [band for band in (*BANDS, OTHER) if band in self.ra]

    def add(self, band: str | None, ra: float, dec: float) -> None:
        """Add an exposure."""
        for angles, angle in ((self.ra, ra), (self.dec, dec)):
            angles.setdefault(band or OTHER, array("d")).append(angle)


def read_exposures(connection: Connection) -> Exposures:
    """Return the exposures that the catalog knows. Raises SQLAlchemyError."""
    found = Exposures()
    query = select(_exposure.c.band, _exposure.c.ra, _exposure.c.dec, _exposure.c.object)
    fields: dict[str, Cone | None] = {}
    for band, ra, dec, name in connection.execution_options(yield_per=_AT_ONCE).execute(query):
        if ra is None or dec is None:
            found.unplaced += 1
            continue
        found.add(band, ra, dec)
        if name and (name in fields or len(fields) <= MOST_OBJECTS):
            first = fields.setdefault(name, Cone(ra, dec, _FIELD))
            if first and first.separation(ra, dec) > _FIELD:
                fields[name] = None
    if len(fields) <= MOST_OBJECTS:
        found.objects = {name: (first.ra, first.dec) for name, first in fields.items() if first}
    return found
