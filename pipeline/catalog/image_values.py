"""Values of the columns of images: from their headers, from dbinfo, from the listing."""

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.bundle import mdc
from pipeline.bundle.dbinfo import RUN_TABLES
from pipeline.catalog.gather import Gathered, HeldFile
from pipeline.catalog.headers import ImageHeader, band_of, base_of, kind_of
from pipeline.catalog.pipeline_tables import Rows
from pipeline.catalog.sky import pixel_of, size_class
from pipeline.catalog.values import integer_value, listed_value, short_text, string_value


class ImageValues:
    """Columns of the images of one fileset: by their headers, else by dbinfo, else by the listing."""

    def __init__(self, gathered: Gathered) -> None:
        self._columns = gathered.fileset.columns
        self._run = gathered.run_row
        self._rows = _rows_by_component(gathered.pipeline_rows)
        self._stage = short_text(gathered.stage)

    def of(self, held: HeldFile, header: ImageHeader) -> dict[str, Any]:
        """Return the columns of one image."""
        footprint, row = header.footprint, self._rows.get(held.component or "")
        name = header.filter or listed_value(self._columns.get("filter"))
        scale = footprint.pixel_scale if footprint else None
        return {
            "extension": header.extension,
            "path": held.path,
            "base": base_of(held.path),
            "kind": kind_of(held.name),
            "stage": self._stage,
            "exp_name": short_text(
                listed_value(self._columns.get("exp_name")) or string_value(self._run, "exp_name")
            ),
            "object": short_text(header.object or string_value(self._run, "object")),
            "filter": short_text(name),
            "band": header.band or band_of(name),
            "component": short_text(held.component),
            "skycell": short_text(_skycell(held.component) or string_value(self._run, "skycell_id")),
            "naxis1": header.naxis1,
            "naxis2": header.naxis2,
            "t_min": header.t_min,
            "t_max": header.t_max,
            "exptime": header.exptime,
            "airmass": header.airmass,
            "fwhm": header.fwhm or _fwhm(row, scale),
            "quality": integer_value(row, "quality"),
            "pixel_scale": scale,
            "note": header.note,
            **position(
                (footprint.ra, footprint.dec, footprint.radius, footprint.corners) if footprint else None,
                "header",
            ),
        }


def position(
    place: tuple[float, float, float, Iterable[tuple[float, float]]] | None, source: str
) -> dict[str, Any]:
    """Return the columns of a position: ``place`` is ra, dec, radius (degrees) and the corners, if any."""
    if place is None:
        names = ("ra", "dec", "radius", "healpix", "size_class", "footprint", "pos_source")
        return dict.fromkeys(names)
    ra, dec, radius, corners = place
    return {
        "ra": ra,
        "dec": dec,
        "radius": radius,
        "healpix": pixel_of(ra, dec),
        "size_class": size_class(radius),
        "footprint": " ".join(f"{angle:.7f}" for corner in corners for angle in corner) or None,
        "pos_source": source,
    }


def _rows_by_component(found: Sequence[Rows]) -> dict[str, mdc.Scope]:
    """Return the first row of each component that dbinfo has."""
    keys = {name: tables for tables in RUN_TABLES for name in tables.rows}
    rows: dict[str, mdc.Scope] = {}
    for each in found:
        tables = keys.get(each.table)
        if tables is None:
            continue
        for row in each.rows:
            named = string_value(row, tables.component_key) if tables.component_key else tables.component
            rows.setdefault(named or "", row)
    return rows


def _skycell(component: str | None) -> str | None:
    """Return the sky cell in the name of a component: ``skycell.1566.004``, also behind a warp's id."""
    at = component.find("skycell.") if component else -1
    return component[at:] if component and at >= 0 else None


def _fwhm(row: mdc.Scope | None, pixel_scale: float | None) -> float | None:
    """Return the mean width of stars in arcseconds, which dbinfo has in pixels."""
    if row is None or pixel_scale is None:
        return None
    widths = [row.get(name) for name in ("fwhm_major", "fwhm_minor")]
    numbers = [width for width in widths if isinstance(width, float) and 0 < width < float("inf")]
    return pixel_scale * sum(numbers) / len(numbers) if numbers else None
