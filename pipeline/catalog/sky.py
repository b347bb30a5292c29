"""Geometry on the celestial sphere, and the HEALPix index of positions.

Angles are degrees, positions ICRS. Edges of polygons are arcs of great circles, as the straight edges of an
image in TAN projection are.

The index of a position is the number of its HEALPix pixel (Górski et al. 2005, ApJ 622, 759) in the nested
scheme at order 29, where a pixel is 0.4 milliarcseconds wide. The pixels of a region of the sky are a few
ranges of such numbers, which a database finds with an ordinary index.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cache

ORDER = 29
# Half the diagonal of the field of the camera, degrees.
FIELD_RADIUS = 1.65
# Pixels of one face of HEALPix along its side at that order.
_SIDE = 1 << ORDER
# Southern corner of each of the 12 faces: its ring in sides of a face, its longitude in units of 45 degrees.
_FACE_RING = (2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4)
_FACE_LONGITUDE = (1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7)
# Radians that rounding may move a position, and the least size class: a radius of 2**-14 degrees, 0.2 arcsec.
_ROUNDING = 1e-9
LEAST_CLASS = -14
_SPREAD = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)

# Pixel of any order: its number, its face, and its place on the face from the southern corner.
_Cell = tuple[int, int, int, int]
_Vector = tuple[float, float, float]


class Cone:
    """Circle on the sphere about ``ra``, ``dec``: all that is at most ``radius`` degrees away.

    >>> cone = Cone(359.9, 0, radius=0.2)
    >>> round(cone.separation(0.1, 0), 7)
    0.2
    >>> cone.meets_polygon([0.0, -0.1, 0.3, -0.1, 0.3, 0.1, 0.0, 0.1])
    True
    """

    def __init__(self, ra: float, dec: float, radius: float) -> None:
        self.ra, self.dec, self.radius = ra, dec, radius
        self._ra = math.radians(ra)
        self._sin, self._cos = math.sin(math.radians(dec)), math.cos(math.radians(dec))
        self._reach = math.radians(radius) + _ROUNDING
        self._sine_squared = math.sin(min(self._reach, math.pi / 2)) ** 2

    def separation(self, ra: float, dec: float) -> float:
        """Return the degrees between the centre and a position."""
        x, y, z = self._turned(ra, dec)
        return math.degrees(math.atan2(math.hypot(x, y), z))

    def meets_polygon(self, corners: Sequence[float]) -> bool:
        """Return True if the cone and a convex polygon have a point in common.

        ``corners`` are ra, dec, ra, dec, … around the polygon, in either direction. The polygon is smaller
        than half of the sphere.
        """
        vectors = list(map(self._turned, corners[::2], corners[1::2]))
        if _is_around_axis(vectors):
            return True
        start = vectors[-1]
        for end in vectors:
            if self._meets_edge(start, end):
                return True
            start = end
        return False

    def _meets_edge(self, start: _Vector, end: _Vector) -> bool:
        """Return True if the cone and an arc of less than 180 degrees have a point in common."""
        (x1, y1, z1), (x2, y2, z2) = start, end
        nx, ny, nz = y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2
        if nx * y1 < ny * x1 or x2 * ny < y2 * nx:
            # An end of the arc is its nearest point.
            nearest = start if z1 > z2 else end
            return math.atan2(math.hypot(nearest[0], nearest[1]), nearest[2]) <= self._reach
        return nz * nz <= self._sine_squared * (nx * nx + ny * ny + nz * nz)

    def _turned(self, ra: float, dec: float) -> _Vector:
        """Return the unit vector of a position, in axes of which the third leads to the centre."""
        dec, angle = math.radians(dec), math.radians(ra) - self._ra
        sine, cosine = math.sin(dec), math.cos(dec)
        along = cosine * math.cos(angle)
        return (
            cosine * math.sin(angle),
            sine * self._cos - along * self._sin,
            sine * self._sin + along * self._cos,
        )


def flat_scales(ra: float, dec: float, reach: float) -> tuple[float, float] | None:
    """Return factors a and b for a lower bound of the separation from ra, dec, in degrees.

    Up to ``reach``, separation**2 >= a * (difference of ra)**2 + b * (difference of dec)**2, from the
    haversine formula and sin x >= x (1 - x**2 / 6). Return None where that is of no use: near a pole, where
    ra passes 360, and for a reach of more than 10 degrees.
    """
    if reach > 10 or abs(dec) + reach > 89:
        return None
    least = math.cos(math.radians(dec)) * math.cos(math.radians(abs(dec) + reach))
    half = math.asin(math.sin(math.radians(reach / 2)) / math.sqrt(least))
    if not 2 * math.degrees(half) < ra < 360 - 2 * math.degrees(half):
        return None
    scale = (1 - half * half / 6) ** 2
    return scale * least, scale


def size_class(radius: float | None) -> int:
    """Return the least integer c, at least -14, for which the radius of an image is at most 2**c degrees.

    >>> size_class(0.25), size_class(0.2501), size_class(None)
    (-2, -1, -14)
    """
    if not radius or radius <= 2.0**LEAST_CLASS:
        return LEAST_CLASS
    mantissa, exponent = math.frexp(radius)
    return exponent - 1 if mantissa == 0.5 else exponent


def pixel_of(ra: float, dec: float) -> int:
    """Return the number of the pixel of a position, in the nested scheme at order 29."""
    turns = math.radians(ra) % (2 * math.pi) / (math.pi / 2)
    sine = math.sin(math.radians(dec))
    if abs(sine) <= 2 / 3:
        return _equatorial_pixel(turns, sine)
    quarter = min(3, int(turns))
    # The square root of 3 (1 - |sine|), exact at the poles too.
    distance = _SIDE * math.cos(math.radians(dec)) / math.sqrt((1 + abs(sine)) / 3)
    j_plus = min(_SIDE - 1, int((turns - quarter) * distance))
    j_minus = min(_SIDE - 1, int((1 - turns + quarter) * distance))
    if dec > 0:
        return _pixel(quarter, _SIDE - 1 - j_minus, _SIDE - 1 - j_plus)
    return _pixel(quarter + 8, j_plus, j_minus)


def _equatorial_pixel(turns: float, sine: float) -> int:
    """Return the pixel of a position with |sine of dec| <= 2/3; ``turns`` is ra in units of 90 degrees."""
    along, across = _SIDE * (0.5 + turns), _SIDE * sine * 0.75
    j_plus, j_minus = int(along - across), int(along + across)
    face_plus, face_minus = j_plus >> ORDER, j_minus >> ORDER
    if face_plus == face_minus:
        face = face_plus & 3 | 4
    elif face_plus < face_minus:
        face = face_plus
    else:
        face = face_minus + 8
    return _pixel(face, j_minus & (_SIDE - 1), _SIDE - 1 - (j_plus & (_SIDE - 1)))


def ranges_of_cone(ra: float, dec: float, radius: float, most: int = 32) -> list[tuple[int, int]]:
    """Return ranges of pixels, first and last, that hold every position of a cone.

    The ranges are sorted and apart from each other. There are at most ``most`` of them, which is 12 at least;
    together they hold some of the sky around the cone too.
    """
    centre, reach = _vector(ra, dec), math.radians(radius) + _ROUNDING
    edge: list[_Cell] = [(face, face, 0, 0) for face in range(12)]
    whole: list[tuple[int, int]] = []
    ranges = [(0, (12 << 2 * ORDER) - 1)]
    for order in range(ORDER + 1):
        size, shift = _cell_radius(order), 2 * (ORDER - order)
        inside, edge = _sorted_out(edge, order, _chord(reach - size), _chord(reach + size), centre)
        whole += [_pixels(number, shift) for number in inside]
        found = _merged(whole + [_pixels(cell[0], shift) for cell in edge])
        if len(found) > most:
            break
        ranges = found
        # Half as large cells have about twice as many ranges along the edge.
        if 2 * len(found) > most or size < reach / 16:
            break
        edge = [child for cell in edge for child in _children(*cell)]
    return ranges


def _pixels(number: int, shift: int) -> tuple[int, int]:
    """Return the first and the last pixel of order 29 in a pixel of a lower order."""
    return number << shift, (number + 1 << shift) - 1


def _children(number: int, face: int, x: int, y: int) -> "tuple[_Cell, ...]":
    """Return the four pixels of the next order that make up the cell."""
    number, x, y = 4 * number, 2 * x, 2 * y
    return (
        (number, face, x, y),
        (number + 1, face, x + 1, y),
        (number + 2, face, x, y + 1),
        (number + 3, face, x + 1, y + 1),
    )


def _sorted_out(
    cells: "list[_Cell]", order: int, least: float, most: float, point: _Vector
) -> "tuple[list[int], list[_Cell]]":
    """Return the numbers of cells with a centre within ``least`` of the point, and others within ``most``.

    The distances are squares of chords of the unit sphere; a negative one holds no cell.
    """
    inside, edge = [], []
    for cell in cells:
        x, y, z = _centre(order, *cell[1:])
        distance = (x - point[0]) ** 2 + (y - point[1]) ** 2 + (z - point[2]) ** 2
        if distance <= least:
            inside.append(cell[0])
        elif distance <= most:
            edge.append(cell)
    return inside, edge


def _centre(order: int, face: int, x: int, y: int) -> _Vector:
    """Return the unit vector of the centre of a cell (Górski et al. 2005, section 5.1)."""
    side = 1 << order
    ring = _FACE_RING[face] * side - x - y - 1
    from_pole = min(ring, 4 * side - ring)
    if from_pole < side:
        length = from_pole
        below_pole = from_pole * from_pole / (3 * side * side)
        sine, cosine = 1 - below_pole, math.sqrt(below_pole * (2 - below_pole))
    else:
        length = side
        sine = (2 * side - from_pole) * 2 / (3 * side)
        cosine = math.sqrt((1 - sine) * (1 + sine))
    angle = (_FACE_LONGITUDE[face] * length + x - y) * math.pi / (4 * length)
    return cosine * math.cos(angle), cosine * math.sin(angle), sine if ring == from_pole else -sine


@cache
def _cell_radius(order: int) -> float:
    """Return the radians between the centre and the corners of a cell, at most.

    The largest cells lie where the polar cap begins; the corner towards the pole is the farthest.
    """
    side = 1 << order
    angle, below_pole = math.pi / (4 * side), (1 - 1 / side) ** 2 / 3
    cosine = math.sqrt(5) / 3
    centre = (cosine * math.cos(angle), cosine * math.sin(angle), 2 / 3)
    corner = (math.sqrt(below_pole * (2 - below_pole)), 0.0, 1 - below_pole)
    return 2 * math.asin(math.dist(centre, corner) / 2)


def _chord(angle: float) -> float:
    """Return the square of the chord of an angle in radians; a negative number for a negative angle."""
    return math.copysign(4 * math.sin(min(abs(angle), math.pi) / 2) ** 2, angle)


def _is_around_axis(vectors: list[_Vector]) -> bool:
    """Return True if the third axis leads to a point inside of a convex polygon."""
    x1, y1, _ = vectors[-1]
    last = 0.0
    for x2, y2, _ in vectors:
        # Third coordinate of the normal of the plane of an edge: on one side of all edges it has one sign.
        side = x1 * y2 - y1 * x2
        if side == 0.0 or side * last < 0.0:
            return False
        x1, y1, last = x2, y2, math.copysign(1.0, side)
    # The antipode of a point inside has all edges on one side too.
    return sum([z for _, _, z in vectors]) > 0.0


def _vector(ra: float, dec: float) -> _Vector:
    ra, dec = math.radians(ra), math.radians(dec)
    return math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges sorted, those that touch each other made one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and merged[-1][1] + 1 == first:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged


def _pixel(face: int, x: int, y: int) -> int:
    """Return the number of the pixel at a place of a face: the bits of x and y in turn."""
    return face << 2 * ORDER | _spread(x) | _spread(y) << 1


def _spread(number: int) -> int:
    """Return a number of 32 bits with a zero between each two of its bits."""
    for shift, mask in _SPREAD:
        number = (number | number << shift) & mask
    return number
