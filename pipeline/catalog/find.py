"""Search for images: criteria become one query, and an exact test of the rows that it finds.

The query finds a little too much: all images in ranges of HEALPix pixels about a cone, all texts that match
the pattern of LIKE nearest to a shell pattern. It is the same for all databases, but for how a cone begins.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

from pipeline.catalog.columns import COLUMNS, Column, ValueKind
from pipeline.catalog.criteria import Criteria, Patterns
from pipeline.catalog.headers.filters import BANDS, band_of
from pipeline.catalog.reader import Reader, Row
from pipeline.catalog.sky import LEAST_CLASS, Cone, flat_scales, ranges_of_cone
from pipeline.mirror.state.operands import is_pattern
from pipeline.mirror.state.selection import BAND_COLUMN, matches

_TO_LIKE = str.maketrans({"*": "%", "?": "_", "%": "|%", "_": "|_", "|": "||"})
# Footprints whose test is remembered: images of a sky cell have the same.
_FOOTPRINTS = 4096
# Times that are remembered: images of an exposure, or of a fileset, have the same.
_TIMES = 1024
# Degrees: more than the last digit of a footprint.
_ROUNDING = 1e-7
_MJD_ZERO = datetime(1858, 11, 17, tzinfo=UTC)
# Two looks into an index.
_NEXT_CLASS = "SELECT min(size_class) FROM image WHERE size_class > :size"
_LINKS = {
    "fileset": "fileset.fileset_id = image.fileset_id",
    "product": "product.product_id = fileset.product_id",
}
# What the exact test of a position needs to know of an image.
_PLACE = tuple(COLUMNS[name] for name in ("ra", "dec", "radius", "footprint"))

# Columns of the criteria that are texts.
TEXT_COLUMNS = {
    field.name: COLUMNS["exp_name" if field.name == "exposure" else field.name]
    for field in fields(Criteria)
    if field.type == Patterns
}


def find(reader: Reader, criteria: Criteria, columns: Sequence[Column], root: str) -> Iterator[Row]:
    """Yield the values of the columns for each image that meets the criteria, in the order of their paths.

    Paths begin with ``root`` when it is not empty. Raises MachineFault.
    """
    rows = Search(reader, criteria, columns).rows(" ORDER BY image.path, image.extension")
    conversions, width = _conversions(columns, root), len(columns)
    for row in rows:
        values = list(row[:width])
        for place, converted in conversions:
            if values[place] is not None:
                values[place] = converted(values[place])
        yield tuple(values)


def find_paths(reader: Reader, criteria: Criteria, root: str) -> Iterator[str]:
    """Yield the path of each file with an image that meets the criteria, once. Raises MachineFault."""
    rows = find(reader, criteria, [COLUMNS["path"]], root)
    return (path for path, _ in groupby(path for (path,) in rows))


def count(reader: Reader, criteria: Criteria) -> int:
    """Return the number of images that meet the criteria. Raises MachineFault."""
    return Search(reader, criteria, []).count()


class Search:
    """Query for some criteria: its parts, its parameters, and the tests of the rows that it finds."""

    def __init__(self, reader: Reader, criteria: Criteria, columns: Sequence[Column]) -> None:
        self._reader = reader
        self._columns = list(columns)
        self._tables = {table for column in columns for table in column.tables}
        self._conditions: list[str] = []
        self._parameters: dict[str, Any] = {}
        self._tests: list[Callable[[Row], bool]] = []
        self._cone = self._first = ""
        if criteria.at is not None:
            self._add_cone(Cone(*criteria.at, criteria.radius))
        for name, column in TEXT_COLUMNS.items():
            if patterns := getattr(criteria, name):
                self._add_patterns(column, patterns)
        self._add_limit("image.t_min >=", criteria.after and _mjd(criteria.after))
        self._add_limit("image.t_min <", criteria.before and _mjd(criteria.before))
        if criteria.arrived_since is not None:
            self._tables.add("fileset")
            if not self._first and not self._reader.has_statistics:
                self._first = "fileset"
            self._add_limit("fileset.arrived >=", reader.stored(criteria.arrived_since))

    def rows(self, order: str = "") -> Iterator[Row]:
        """Return the rows that pass all tests: the values of the columns, then those for the tests."""
        selected = ", ".join(column.sql for column in self._columns)
        rows = self._reader.rows(self._sql(selected) + order, self._parameters)
        for test in self._tests:
            rows = filter(test, rows)
        return rows

    def count(self) -> int:
        """Return the number of rows that pass all tests."""
        if self._tests:
            return sum(1 for _ in self.rows())
        ((number,),) = self._reader.rows(self._sql("count(*)"), self._parameters)
        return int(number)

    def _sql(self, selected: str) -> str:
        # SQLite begins at the left of a CROSS JOIN, without statistics else perhaps with all images.
        start = f"{self._first} CROSS JOIN image" if self._first else "image"
        joined = [table for table in _LINKS if table in self._tables and table != self._first]
        joins = "".join(f" JOIN {table} ON {_LINKS[table]}" for table in joined)
        conditions = [*self._conditions, *([_LINKS[self._first]] if self._first in _LINKS else [])]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"{self._cone}SELECT {selected} FROM {start}{joins}{where}"

    def _add_cone(self, cone: Cone) -> None:
        """Join ranges of pixels, by class of radius: images that meet the cone have their centres there."""
        sizes = list(_size_classes(self._reader))
        ranges = [
            (size, first, last)
            for size in sizes
            for first, last in ranges_of_cone(cone.ra, cone.dec, cone.radius + 2.0**size)
        ]
        # A range without pixels stands for none.
        self._add_ranges([tuple(map(self._bound, row)) for row in ranges or [(0, 1, 0)]])
        if scales := flat_scales(cone.ra, cone.dec, cone.radius + 2.0 ** max(sizes, default=0)):
            self._conditions.append(self._nearby(cone, *scales))

        @lru_cache(_FOOTPRINTS)
        def meets_polygon(footprint: str) -> bool:
            return cone.meets_polygon(list(map(float, footprint.split())))

        place = itemgetter(*map(self._place_of, _PLACE))
        self._tests.append(lambda row: _meets(cone, meets_polygon, *place(row)))

    def _place_of(self, column: Column) -> int:
        """Return the place of a column in the rows, for a test."""
        if column not in self._columns:
            self._columns.append(column)
        return self._columns.index(column)

    def _add_ranges(self, ranges: Sequence[tuple[str, ...]]) -> None:
        """Require one of the ranges: size class, first and last pixel.

        A server sees from its statistics how few rows these are. SQLite has to be told to begin with them.
        """
        if self._reader.has_statistics:
            one_of = (f"size_class = {c} AND healpix BETWEEN {first} AND {last}" for c, first, last in ranges)
            self._conditions.append(f"({' OR '.join(one_of)})")
            return
        rows = ", ".join(f"({', '.join(names)})" for names in ranges)
        self._cone = f"WITH cone(size_class, first_pixel, last_pixel) AS (VALUES {rows}) "
        self._first = "cone"
        self._conditions.append("image.size_class = cone.size_class")
        self._conditions.append("image.healpix BETWEEN cone.first_pixel AND cone.last_pixel")

    def _nearby(self, cone: Cone, ra_scale: float, dec_scale: float) -> str:
        """Return a condition that holds for all images whose circles meet the cone; an index decides it."""
        ra, dec = f"(image.ra - {self._bound(cone.ra)})", f"(image.dec - {self._bound(cone.dec)})"
        reach = f"({self._bound(cone.radius + _ROUNDING)} + coalesce(image.radius, 0))"
        ra_part, dec_part = (f"{self._bound(scale)} * " for scale in (ra_scale, dec_scale))
        return f"{ra_part}{ra} * {ra} + {dec_part}{dec} * {dec} <= {reach} * {reach}"

    def _add_patterns(self, column: Column, patterns: Patterns) -> None:
        """Require that one of the shell patterns matches."""
        self._tables.update(column.tables)
        self._conditions.append(
            f"({' OR '.join(self._alternative(column, pattern) for pattern in patterns)})"
        )
        # Databases distinguish the case of equal names, but have no pattern with a set of characters.
        if any(is_pattern(pattern) for pattern in patterns):
            place = self._place_of(column)
            self._tests.append(lambda row: any(_matches(column, row[place], each) for each in patterns))

    def _alternative(self, column: Column, pattern: str) -> str:
        """Return a condition on a text that holds wherever the shell pattern matches."""
        if column.name == BAND_COLUMN:
            if pattern in BANDS:
                return f"image.band = {self._bound(pattern)}"
            likes = [_like(pattern), f"{_like(pattern)}.%"]
        elif is_pattern(pattern):
            likes = [_like(pattern)]
        else:
            return f"{column.sql} = {self._bound(pattern)}"
        return " OR ".join(f"{column.sql} LIKE {self._bound(like)} ESCAPE '|'" for like in likes)

    def _add_limit(self, condition: str, value: Any) -> None:
        if value is not None:
            self._conditions.append(f"{condition} {self._bound(value)}")

    def _bound(self, value: Any) -> str:
        """Return the name of a new parameter with that value."""
        name = f"p{len(self._parameters)}"
        self._parameters[name] = value
        return f":{name}"


def _size_classes(reader: Reader) -> Iterator[int]:
    """Yield the classes of radius of the images, each by a look into an index."""
    size = LEAST_CLASS - 1
    while True:
        ((size,),) = reader.rows(_NEXT_CLASS, {"size": size})
        if size is None:
            return
        yield size


def _meets(
    cone: Cone,
    meets_polygon: Callable[[str], bool],
    ra: float,
    dec: float,
    radius: float | None,
    footprint: str | None,
) -> bool:
    """Return True if the cone and an image have a point in common; without a footprint, its circle."""
    radius = radius or 0.0
    # In a cone that is smaller than the image, the centre seldom decides.
    if footprint is None or cone.radius > radius:
        distance = cone.separation(ra, dec)
        if distance <= cone.radius or distance > cone.radius + radius + _ROUNDING:
            return distance <= cone.radius
    return footprint is None or meets_polygon(footprint)


def _matches(column: Column, value: str, pattern: str) -> bool:
    """Return True if a text matches the shell pattern; the letter of a band matches its filters."""
    if column.name == BAND_COLUMN and pattern in BANDS:
        return band_of(value) == pattern
    return matches(column.name, value, pattern)


def _like(pattern: str) -> str:
    """Return a pattern of LIKE, with ``|`` to escape, that matches all that the shell pattern matches."""
    start, bracket, _ = pattern.partition("[")
    return start.translate(_TO_LIKE) + ("%" if bracket else "")


def _mjd(time: datetime) -> float:
    return (time - _MJD_ZERO) / timedelta(days=1)


def time_of(mjd: float) -> datetime | None:
    """Return the time of a modified Julian date, to the millisecond; None for one outside of the calendar."""
    try:
        return _MJD_ZERO + timedelta(milliseconds=round(mjd * 86_400_000))
    except (OverflowError, ValueError):
        return None


def _utc(stored: str | datetime) -> datetime:
    """Return a time of the database, which SQLite keeps as text, with its zone."""
    if isinstance(stored, str):
        return datetime.fromisoformat(f"{stored}+00:00")
    return stored.replace(tzinfo=UTC)


def _conversions(columns: Sequence[Column], root: str) -> list[tuple[int, Callable[[Any], Any]]]:
    """Return the places of values that differ from those in the database, each with its function."""
    functions: dict[ValueKind, Callable[[Any], Any]] = {
        ValueKind.TIME: lru_cache(_TIMES)(_utc),
        ValueKind.DAY: lru_cache(_TIMES)(time_of),
    }
    if root:
        functions[ValueKind.PATH] = lambda path: f"{root}/{path}"
    return [(place, functions[c.kind]) for place, c in enumerate(columns) if c.kind in functions]
