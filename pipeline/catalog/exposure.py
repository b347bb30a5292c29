"""View ``exposure``: a row for each exposure that the mirror knows of.

An exposure is known by the rows of ``raw_exp``, by headers of its images, or by the listings of its filesets
alone; a value comes from the first of these that has it.
"""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Double,
    FromClause,
    Select,
    String,
    Subquery,
    and_,
    case,
    column,
    func,
    or_,
    select,
    table,
    union,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from pipeline.catalog.headers import BANDS
from pipeline.catalog.tables import fileset, image

# Stages of one exposure, and the columns with the number of filesets.
_STAGES = {
    **{f"n_{stage}": (stage,) for stage in ("raw", "chip", "chip_bg", "camera", "fake", "warp", "warp_bg")},
    "n_diff": ("diff", "SSdiff"),
}
_OF_EXPOSURES = [stage for stages in _STAGES.values() for stage in stages]
# Stages of which the images together are the field of the camera, no more.
_OF_CAMERA = ("raw", "chip", "chip_bg")
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
    """Return the query of the view."""
    headers, listed = _headers(), _listed()
    sources = (_raw_exp, headers, listed)
    named = (select(each.c.exp_name).where(each.c.exp_name.is_not(None)) for each in sources)
    names = union(*named).subquery("names")
    raw = _raw_exp.alias("raw")
    # A raw exposure may have come in several filesets.
    newest = (
        select(func.max(_raw_exp.c.row_id)).where(_raw_exp.c.exp_name == names.c.exp_name).scalar_subquery()
    )
    tables = (
        names.outerjoin(raw, raw.c.row_id == newest)
        .outerjoin(headers, headers.c.exp_name == names.c.exp_name)
        .outerjoin(listed, listed.c.exp_name == names.c.exp_name)
    )
    columns = _columns(names, raw, headers, listed)
    return select(*(value.label(name) for name, value in columns.items())).select_from(tables)


def _columns(
    names: FromClause, raw: FromClause, headers: FromClause, listed: FromClause
) -> dict[str, ColumnElement[Any]]:
    filter_name = func.coalesce(raw.c.filter, headers.c.filter, listed.c.filter)
    return {
        "exp_name": names.c.exp_name,
        "source": case(
            (raw.c.row_id.is_not(None), "raw_exp"),
            (or_(headers.c.ra.is_not(None), headers.c.t_min.is_not(None)), "header"),
            else_="listing",
        ),
        "exp_id": raw.c.exp_id,
        "object": func.coalesce(raw.c.object, headers.c.object),
        "ra": func.coalesce(raw.c.ra, headers.c.ra),
        "dec": func.coalesce(raw.c.decl, headers.c.dec),
        "mjd": func.coalesce(_Mjd(raw.c.dateobs), headers.c.t_min),
        "filter": filter_name,
        "band": func.coalesce(headers.c.band, _band(filter_name)),
        "exptime": func.coalesce(raw.c.exp_time, headers.c.exptime),
        "airmass": func.coalesce(raw.c.airmass, headers.c.airmass),
        **{name: func.coalesce(listed.c[name], 0) for name in _STAGES},
    }


def _headers() -> Subquery:
    """Return what the headers of images say, by exposure."""
    centre = [_mean(image.c.ra, wraps=True), _mean(image.c.dec, wraps=False)]
    least = [func.min(image.c[name]).label(name) for name in ("t_min", "filter", "band", "object", "airmass")]
    return (
        select(
            image.c.exp_name,
            centre[0].label("ra"),
            centre[1].label("dec"),
            func.max(image.c.exptime).label("exptime"),
            *least,
        )
        .where(image.c.kind == "image", image.c.stage.in_(_OF_EXPOSURES))
        .group_by(image.c.exp_name)
        .subquery("headers")
    )


def _mean(angle: ColumnElement[Any], *, wraps: bool) -> ColumnElement[float]:
    """Return the mean over the images of the camera, else over all images.

    Angles that wrap are from 0 to 360 degrees; those of one exposure may lie on both sides of 0.
    """

    def mean(values: ColumnElement[Any]) -> ColumnElement[float]:
        plain = func.avg(values)
        if not wraps:
            return plain
        turned = func.avg(case((values > 180, values - 360), else_=values))
        in_range = case((turned < 0, turned + 360), else_=turned)
        return case((func.max(values) - func.min(values) > 180, in_range), else_=plain)

    of_camera = case((image.c.stage.in_(_OF_CAMERA), angle))
    return func.coalesce(mean(of_camera), mean(angle))


def _listed() -> Subquery:
    """Return what the listings say, by exposure."""

    def number(stages: tuple[str, ...]) -> ColumnElement[int]:
        return func.count(case((fileset.c.stage.in_(stages), 1)))

    counts = [number(stages).label(name) for name, stages in _STAGES.items()]
    return (
        select(fileset.c.exp_name, func.min(fileset.c.filter).label("filter"), *counts)
        .where(fileset.c.stage.in_(_OF_EXPOSURES))
        .group_by(fileset.c.exp_name)
        .subquery("listed")
    )


def _band(name: ColumnElement[str]) -> ColumnElement[str]:
    """Return the letter of a filter such as ``r.00000``."""
    letter = func.substr(name, 1, 1)
    is_known = and_(letter.in_(BANDS), or_(func.char_length(name) == 1, func.substr(name, 2, 1) == "."))
    return case((is_known, letter))
