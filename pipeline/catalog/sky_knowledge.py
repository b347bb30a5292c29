"""Knowledge of filesets that are not here, from those of the catalog that are.

A fileset is known by one of the same run (``stage`` and ``stage_id`` of the listing), else by its exposure:
all that is made of an exposure lies in the field of the camera about its pointing. Of a stack the inputs of
differences tell the sky cell, whose place the images of others in it show.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from pipeline.catalog.awaiting import awaiting_cataloging
from pipeline.catalog.pointing import in_degrees
from pipeline.catalog.recorded_state import STATE
from pipeline.catalog.sky import FIELD_RADIUS, Cone
from pipeline.config import Near, Product, Settings
from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.state.failures import failed_in, failures
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.sky_selection import NOTHING_KNOWN, NothingKnown, SkyKnowledge

if TYPE_CHECKING:
    from pipeline.catalog.reader import Reader

# Bounds of the images of a group; the right ascensions of the second pair are from -180 to 180.
_BOUNDS = """
    MIN(i.ra), MAX(i.ra), MIN(CASE WHEN i.ra > 180 THEN i.ra - 360 ELSE i.ra END),
    MAX(CASE WHEN i.ra > 180 THEN i.ra - 360 ELSE i.ra END),
    MIN(i.dec), MAX(i.dec), COALESCE(MAX(i.radius), 0)
    FROM image i WHERE i.pos_source = 'header' AND i.kind = 'image'
"""
_FILESETS = """
    SELECT f.fileset_id, f.stage, f.stage_id, f.exp_name, f.content, f.registered, p.name
    FROM fileset f JOIN product p ON p.product_id = f.product_id ORDER BY f.registered, f.fileset_id
"""
_COMPONENTS = "SELECT DISTINCT m.fileset_id, m.component FROM member m WHERE m.component LIKE :pattern"
_STACKS = "SELECT s.fileset_id, s.skycell_id FROM stack_run s WHERE s.skycell_id IS NOT NULL"
_WARPS = "SELECT w.fileset_id, w.skycell_id FROM warp_skyfile w WHERE w.skycell_id IS NOT NULL"
_INPUTS = "SELECT d.stack1, d.stack2, d.skycell_id FROM diff_input_skyfile d WHERE d.skycell_id IS NOT NULL"
_POINTINGS = "SELECT r.exp_name, r.ra, r.decl FROM raw_exp r WHERE r.ra IS NOT NULL AND r.decl IS NOT NULL"
_SKYCELL = "skycell."

_Run = tuple[str | None, str | None]


class Circle(NamedTuple):
    """Circle on the sky, in degrees."""

    ra: float
    dec: float
    radius: float

    def meets(self, cone: Cone) -> bool:
        """Return True if the circle and the cone have a point in common."""
        return cone.separation(self.ra, self.dec) <= cone.radius + self.radius


class _Fileset(NamedTuple):
    id: int
    run: _Run
    exposure: str | None
    content: str | None
    product: str


class CatalogedFilesets:
    """Filesets in the catalog. Tables are read when a fileset is first asked for."""

    is_enabled = True

    def __init__(self, reader: "Reader", product: str, *, is_whole: bool) -> None:
        self._reader = reader
        self._product = product
        self.is_whole = is_whole
        self.state = [is_whole, *(str(value) for row in reader.rows(STATE, {}) for value in row)]

    def skycells(self, row: FilesetRow) -> Collection[str] | None:
        """Return the sky cells of the same run, or those that the warps of the exposure have."""
        return (
            self._skycells_of_runs.get(_run(row))
            or self._skycells_of_exposures.get(row.column("exp_name") or "")
            or None
        )

    def is_near(self, row: FilesetRow, near: Near) -> bool | None:
        """Return True if a circle about the images of the fileset meets the cone."""
        cone = Cone(near.ra, near.dec, near.radius)
        circles = self._circles(row)
        return any(circle.meets(cone) for circle in circles) if circles else None

    def is_clean(self, row: FilesetRow) -> bool | None:
        """Return True if the same run had been cleaned when it was registered last."""
        content = self._contents.get(_run(row))
        return content == "clean" if content else None

    def _circles(self, row: FilesetRow) -> list[Circle]:
        exposure = row.column("exp_name") or ""
        found = (
            self._circles_of_runs.get(_run(row))
            or self._pointings.get(exposure)
            or self._circles_of_exposures.get(exposure)
        )
        if found:
            return [found]
        places = [self._places.get(name) for name in self._skycells_of_runs.get(_run(row), ())]
        return [place for place in places if place] if all(places) else []

    @cached_property
    def _filesets(self) -> list[_Fileset]:
        """Filesets of all products, those registered last at the end."""
        rows = self._reader.rows(_FILESETS, {})
        return [
            _Fileset(number, (stage, stage_id), exposure, content, product)
            for number, stage, stage_id, exposure, content, _, product in rows
        ]

    @cached_property
    def _contents(self) -> dict[_Run, str | None]:
        return {each.run: each.content for each in self._filesets if all(each.run)}

    @cached_property
    def _bounds(self) -> dict[int, "_Bounds"]:
        rows = self._reader.rows(f"SELECT i.fileset_id, {_BOUNDS} GROUP BY i.fileset_id", {})
        return {number: _Bounds(*bounds) for number, *bounds in rows}

    @cached_property
    def _circles_of_runs(self) -> dict[_Run, Circle]:
        groups: dict[_Run, list[_Bounds]] = defaultdict(list)
        for each in self._filesets:
            if all(each.run) and each.id in self._bounds:
                groups[each.run].append(self._bounds[each.id])
        return {run: _circle(bounds) for run, bounds in groups.items()}

    @cached_property
    def _circles_of_exposures(self) -> dict[str, Circle]:
        """Circles that hold the fields of exposures by what is here of them, be it a part."""
        groups: dict[str, list[_Bounds]] = defaultdict(list)
        for each in self._filesets:
            if each.exposure and each.id in self._bounds:
                groups[each.exposure].append(self._bounds[each.id])
        return {exposure: _whole_field(_circle(bounds)) for exposure, bounds in groups.items()}

    @cached_property
    def _pointings(self) -> dict[str, Circle]:
        rows = self._reader.rows(_POINTINGS, {})
        return {name: Circle(*in_degrees(ra, dec), FIELD_RADIUS) for name, ra, dec in rows if abs(dec) <= 90}

    @cached_property
    def _places(self) -> dict[str, Circle]:
        """Places of sky cells, where the images of a name agree: two tessellations may share it."""
        rows = self._reader.rows(f"SELECT i.skycell, {_BOUNDS} GROUP BY i.skycell", {})
        circles = {name: (_Bounds(*bounds), _circle([_Bounds(*bounds)])) for name, *bounds in rows if name}
        return {
            name: circle for name, (bounds, circle) in circles.items() if circle.radius <= 2 * bounds.radius
        }

    @cached_property
    def _by_id(self) -> dict[int, _Fileset]:
        return {each.id: each for each in self._filesets}

    @cached_property
    def _skycells_of_runs(self) -> dict[_Run, set[str]]:
        found: dict[_Run, set[str]] = defaultdict(set)
        components = self._reader.rows(_COMPONENTS, {"pattern": f"%{_SKYCELL}%"})
        of_components = ((number, name[name.index(_SKYCELL) :]) for number, name in components)
        of_stacks = self._reader.rows(_STACKS, {})
        for number, name in chain(of_components, of_stacks, self._warps):
            if all(self._by_id[number].run):
                found[self._by_id[number].run].add(name)
        for *stacks, name in self._reader.rows(_INPUTS, {}):
            for stack in stacks:
                found["stack", str(stack)].add(name)
        return dict(found)

    @cached_property
    def _skycells_of_exposures(self) -> dict[str, set[str]]:
        """Sky cells of exposures in the product: those of another one may be of another tessellation."""
        found: dict[str, set[str]] = defaultdict(set)
        for number, name in self._warps:
            fileset = self._by_id[number]
            if fileset.exposure and fileset.product == self._product:
                found[fileset.exposure].add(name)
        return dict(found)

    @cached_property
    def _warps(self) -> list[tuple[int, str]]:
        """Sky cells of warps by the documents of these, which name all that the exposure reaches."""
        return [(number, name) for number, name in self._reader.rows(_WARPS, {})]


class _Bounds(NamedTuple):
    """Bounds of the centres of images, and the largest radius of an image, in degrees."""

    west: float
    east: float
    turned_west: float
    turned_east: float
    south: float
    north: float
    radius: float


@contextmanager
def sky_knowledge(settings: Settings, layout: Layout, product: Product) -> Iterator[SkyKnowledge]:
    """Open what is known of the filesets of a product, if its ``select`` asks for that.

    Raises MachineFault when the catalog cannot be read.
    """
    if not product.by_sky or not settings.catalog.enabled:
        yield NOTHING_KNOWN
        return
    from pipeline.catalog.catalog import current_reader

    reader = current_reader(layout, settings)
    if reader is None:
        # The next update makes a catalog of the filesets that are here.
        yield NothingKnown(is_enabled=True, is_whole=not layout.count(MarkerKind.DOWNLOADED, product.name))
        return
    with closing(reader):
        yield CatalogedFilesets(reader, product.name, is_whole=_is_whole(layout, settings, product.name))


def _is_whole(layout: Layout, settings: Settings, product: str) -> bool:
    """Return True unless filesets of the product wait for their first cataloging."""
    missing = awaiting_cataloging(layout, settings, product)
    failed = failed_in(failures(layout, product), ["catalog"]) if missing else []
    return missing <= {record["fileset"] for record in failed}


def _run(row: FilesetRow) -> _Run:
    return row.column("stage"), row.column("stage_id")


def _circle(bounds: Iterable[_Bounds]) -> Circle:
    """Return a circle that holds images."""
    wests, easts, turned_wests, turned_easts, souths, norths, radii = zip(*bounds, strict=True)
    west, east = min(wests), max(easts)
    if max(turned_easts) - min(turned_wests) < east - west:
        west, east = min(turned_wests), max(turned_easts)
    south, north = min(souths), max(norths)
    centre = Cone((west + east) / 2 % 360, (south + north) / 2, 0.0)
    reach = max(centre.separation(ra, dec) for ra in (west, east) for dec in (south, north))
    return Circle(centre.ra, centre.dec, reach + max(radii))


def _whole_field(part: Circle) -> Circle:
    """Return a circle that holds the field of the camera, of which a part lies in the circle ``part``."""
    return part._replace(radius=max(part.radius, 2 * FIELD_RADIUS - part.radius))
