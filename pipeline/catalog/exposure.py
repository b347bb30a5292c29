"""View ``exposure``: a row for each exposure that the mirror knows of.

An exposure is known by the rows of ``raw_exp``, by headers of its images, or by the listings of its filesets
alone; a value comes from the first of these that has it.
"""

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Double,
    FromClause,
    Select,
    String,
    and_,
    case,
    column,
    func,
    select,
    table,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from pipeline.catalog.headers import BANDS, band_of
from pipeline.catalog.headers.filters import UNKNOWN_FILTER
from pipeline.catalog.pointing import DEC_IN_RADIANS, DEGREES_IN_RADIAN, RA_IN_RADIANS
from pipeline.catalog.tables import fileset, image

# Stages of one exposure; differences of stacks (SSdiff) are of none.
_STAGES = ("raw", "chip", "chip_bg", "camera", "fake", "warp", "warp_bg", "diff")
# Stages of which the images together are the field of the camera, no more.
_OF_CAMERA = ("raw", "chip", "chip_bg")
_OWN_IMAGES = (image.c.kind == "image", image.c.stage.in_(_STAGES))
_raw_exp = table(
    "raw_exp",
    *map(column, ("row_id", "exp_id", "exp_name", "object")),
    column("filter", String),
    column("dateobs", DateTime),
    *(column(name, Double) for name in ("ra", "decl", "exp_time", "airmass")),
)


class _Mjd(FunctionElement[float]):
    """Modified Julian date of a time (UTC), in days."""

    inherit_cache = True
    type = Double()


@compiles(_Mjd, "sqlite")
def _mjd_in_sqlite(element: _Mjd, compiler: Any, **more: Any) -> str:
    return f"(julianday({compiler.process(element.clauses, **more)}) - 2400000.5)"


@compiles(_Mjd, "postgresql")
def _mjd_in_postgresql(element: _Mjd, compiler: Any, **more: Any) -> str:
    seconds = f"EXTRACT(EPOCH FROM {compiler.process(element.clauses, **more)})"
    return f"(CAST({seconds} AS DOUBLE PRECISION) / 86400 + 40587)"


@compiles(_Mjd, "mysql")
@compiles(_Mjd, "mariadb")
def _mjd_in_mariadb(element: _Mjd, compiler: Any, **more: Any) -> str:
    time = compiler.process(element.clauses, **more)
    return f"(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {time}) / 86400e6 + 40587)"


def exposure() -> Select[Any]:
    """Return the query of the view.

    What headers and listings say is in subqueries of one exposure each, which a query that asks for few
    exposures, or has the values from ``raw_exp``, does not run.
    """
    of_exposures = (fileset.c.exp_name.is_not(None), fileset.c.stage.in_(_STAGES))
    names = select(fileset.c.exp_name).where(*of_exposures).distinct().subquery("names")
    raw = _raw_exp.alias("raw")
    # A raw exposure may have come in several filesets.
    newest = (
        select(func.max(_raw_exp.c.row_id)).where(_raw_exp.c.exp_name == names.c.exp_name).scalar_subquery()
    )
    columns = _columns(names.c.exp_name, raw)
    return select(*(value.label(name) for name, value in columns.items())).select_from(
        names.outerjoin(raw, raw.c.row_id == newest)
    )


def _columns(name: ColumnElement[str], raw: FromClause) -> dict[str, ColumnElement[Any]]:
    # The conditions on images are not in WHERE, where SQLite would prefer their index to that of names.
    def header(
        aggregate: Callable[[Any], ColumnElement[Any]], value: ColumnElement[Any]
    ) -> ColumnElement[Any]:
        own = case((and_(*_OWN_IMAGES), value))
        return select(aggregate(own)).where(image.c.exp_name == name).scalar_subquery()

    def listing(value: ColumnElement[Any], stages: Collection[str]) -> ColumnElement[Any]:
        of_exposure = (fileset.c.exp_name == name, fileset.c.stage.in_(stages))
        return select(value).where(*of_exposure).scalar_subquery()

    in_headers = header(func.count, func.coalesce(image.c.ra, image.c.t_min))
    return {
        "exp_name": name,
        "source": case((raw.c.row_id.is_not(None), "raw_exp"), (in_headers > 0, "header"), else_="listing"),
        "exp_id": raw.c.exp_id,
        "object": func.coalesce(raw.c.object, header(func.min, image.c.object)),
        "ra": func.coalesce(_in_degrees(raw, raw.c.ra), header(_mean_right_ascension, image.c.ra)),
        "dec": func.coalesce(_in_degrees(raw, raw.c.decl), header(_mean, image.c.dec)),
        "mjd": func.coalesce(_Mjd(raw.c.dateobs), header(func.min, image.c.t_min)),
        "filter": func.coalesce(
            raw.c.filter,
            header(func.min, image.c.filter),
            listing(func.min(fileset.c.filter), _STAGES),
        ),
        "band": func.coalesce(
            _band(raw.c.filter),
            header(func.min, image.c.band),
            listing(func.min(_band(fileset.c.filter)), _STAGES),
        ),
        "exptime": func.coalesce(raw.c.exp_time, header(func.max, image.c.exptime)),
        "airmass": func.coalesce(raw.c.airmass, header(func.min, image.c.airmass)),
        **{f"n_{stage}": listing(func.count(), [stage]) for stage in _STAGES},
    }


def _in_degrees(raw: FromClause, angle: ColumnElement[Any]) -> ColumnElement[float]:
    """Return an angle of the pointing, as `pointing.in_degrees` does for rows that were read.

    Beside a NULL the other angle alone decides.
    """
    is_radians = and_(
        func.coalesce(raw.c.ra, 0).between(-RA_IN_RADIANS, RA_IN_RADIANS),
        func.coalesce(raw.c.decl, 0).between(-DEC_IN_RADIANS, DEC_IN_RADIANS),
    )
    return case((is_radians, angle * DEGREES_IN_RADIAN), else_=angle)


def _mean(angle: ColumnElement[Any]) -> ColumnElement[float]:
    """Return the mean over the images of the camera, else over all images."""
    return func.coalesce(func.avg(_of_camera(angle)), func.avg(angle))


def _mean_right_ascension(angle: ColumnElement[Any]) -> ColumnElement[float]:
    """Return the mean of right ascensions in degrees, which may lie on both sides of 0."""

    def mean(values: ColumnElement[Any]) -> ColumnElement[float]:
        turned = func.avg(case((values > 180, values - 360), else_=values))
        in_range = case((turned < 0, turned + 360), else_=turned)
        return case((func.max(values) - func.min(values) > 180, in_range), else_=func.avg(values))

    return func.coalesce(mean(_of_camera(angle)), mean(angle))


def _of_camera(value: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((image.c.stage.in_(_OF_CAMERA), value))


def _band(name: ColumnElement[str]) -> ColumnElement[str]:
    """Return the letter of a filter such as ``r.00000``; of the one that the camera did not know, z."""
    letter = func.substr(name, 1, 1)
    is_known = and_(letter.in_(BANDS), func.substr(name, 2, 1).in_((".", "")))
    return case((is_known, letter), (name == UNKNOWN_FILTER, band_of(UNKNOWN_FILTER)))
