"""View ``obscore``: each image as IVOA ObsCore 1.1 describes it (Recommendation of 9 May 2017)."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Select,
    String,
    case,
    cast,
    func,
    literal,
    null,
    select,
)

from pipeline.catalog.tables import catalog_setting, file, fileset, image, member, product

# Images made from several exposures are observations of their own (section 4.4).
_STACKED = ("stack", "stack_summary", "SSdiff", "sky", "skycal", "ff")
_COMBINED = ("diff", *_STACKED)
# Raw images are instrumental data in FITS, level 1; calibrated images are level 2. The standard names
# resampled images and combinations for level 3 ("Calibration level"): warps are level 3, as stacks are.
_CALIB_LEVELS = {
    **dict.fromkeys(("chip", "chip_bg", "camera", "fake"), 2),
    **dict.fromkeys(("warp", "warp_bg", *_COMBINED), 3),
}
# Of images of no known stage, such as postage stamps, no more is certain than that they are FITS.
_LEAST_LEVEL = 1
# Filters of GPC1: effective wavelength, blue and red edge in nanometres (Tonry et al. 2012, ApJ 750, 99,
# table 4; the edges of w are where its response falls to half of its greatest one, table 3).
FILTERS = {
    "g": (481, 414, 551),
    "r": (617, 550, 689),
    "i": (752, 690, 819),
    "z": (866, 818, 922),
    "y": (962, 918, 1001),
    "w": (608, 451, 814),
}
_FACILITY = "Pan-STARRS1"
_INSTRUMENT = "GPC1"
# What a path may hold that a URL may not; the percent sign comes first.
_ESCAPED = ("%", " ", "#", "?", "&", '"', "<", ">", "\\", "^", "`", "{", "|", "}", "[", "]")


def obscore() -> Select[Any]:
    """Return the query of the view: a row for each image that could be read, of the kind ``image``."""
    columns = {**_identity(), **_access(), **_sky(), **_time(), **_spectrum(), **_rest()}
    tables = (
        image.join(fileset, image.c.fileset_id == fileset.c.fileset_id)
        .join(product, fileset.c.product_id == product.c.product_id)
        .outerjoin(member, image.c.member_id == member.c.member_id)
        .outerjoin(file, image.c.file_id == file.c.file_id)
    )
    return (
        select(*(value.label(name) for name, value in columns.items()))
        .select_from(tables)
        .where(image.c.kind == "image", image.c.naxis1.is_not(None))
    )


def _identity() -> dict[str, ColumnElement[Any]]:
    stage = image.c.stage
    run = fileset.c.stage + "." + func.coalesce(fileset.c.stage_id, fileset.c.name)
    exposure = func.coalesce(image.c.exp_name, fileset.c.name)
    unit = case((image.c.extension > 0, "&hdu=" + cast(image.c.extension, String)), else_="")
    return {
        "dataproduct_type": literal("image"),
        "calib_level": case(_CALIB_LEVELS, value=stage, else_=_LEAST_LEVEL),
        "obs_collection": product.c.name,
        "obs_id": case((stage.in_(_COMBINED), run), else_=exposure),
        "obs_publisher_did": _setting("publisher_did") + "?" + _escaped(image.c.path) + unit,
    }


def _access() -> dict[str, ColumnElement[Any]]:
    is_gzip = func.substr(image.c.path, func.char_length(image.c.path) - 2) == ".gz"
    size = func.coalesce(member.c.bytes, file.c.bytes)
    return {
        "access_url": _setting("access_url") + "/" + _escaped(image.c.path),
        "access_format": case((is_gzip, "image/x-fits-gzip"), else_="image/fits"),
        "access_estsize": cast((size + 999) // 1000, BigInteger),
    }


def _sky() -> dict[str, ColumnElement[Any]]:
    numbers = (image.c.ra, image.c.dec, image.c.radius)
    first, second, third = (cast(number, String) for number in numbers)
    circle = "CIRCLE ICRS " + first + " " + second + " " + third
    return {
        "target_name": image.c.object,
        "s_ra": image.c.ra,
        "s_dec": image.c.dec,
        "s_fov": 2 * image.c.radius,
        "s_region": case(
            (image.c.footprint.is_not(None), "POLYGON ICRS " + image.c.footprint),
            (image.c.radius > 0, circle),
        ),
        "s_resolution": image.c.fwhm,
        "s_xel1": image.c.naxis1,
        "s_xel2": image.c.naxis2,
    }


def _time() -> dict[str, ColumnElement[Any]]:
    return {
        "t_min": image.c.t_min,
        # Of several exposures the last one ends later than the first start plus the sum of their times.
        "t_max": case((image.c.stage.in_(_STACKED), null()), else_=image.c.t_max),
        "t_exptime": image.c.exptime,
        "t_resolution": image.c.exptime,
        "t_xel": _one(1),
    }


def _spectrum() -> dict[str, ColumnElement[Any]]:
    def by_filter(values: dict[str, float]) -> ColumnElement[float]:
        return cast(case(values, value=image.c.band), Double)

    return {
        "em_min": by_filter({band: _metres(blue) for band, (_, blue, _) in FILTERS.items()}),
        "em_max": by_filter({band: _metres(red) for band, (_, _, red) in FILTERS.items()}),
        "em_res_power": by_filter(
            {band: round(middle / (red - blue), 1) for band, (middle, blue, red) in FILTERS.items()}
        ),
        "em_xel": _one(1),
    }


def _rest() -> dict[str, ColumnElement[Any]]:
    title: ColumnElement[str] = literal("")
    for word in (image.c.stage, image.c.exp_name, image.c.component, image.c.filter):
        title = title + func.coalesce(word + " ", "")
    return {
        # Counts, to which the zero point in the header belongs.
        "o_ucd": literal("phot.count"),
        "pol_states": cast(null(), String),
        "pol_xel": _one(0),
        "facility_name": literal(_FACILITY),
        "instrument_name": literal(_INSTRUMENT),
        "dataproduct_subtype": image.c.stage,
        "obs_title": func.trim(title),
        "s_pixel_scale": image.c.pixel_scale,
    }


def _metres(nanometres: int) -> float:
    return float(f"{nanometres}e-9")


def _one(number: int) -> ColumnElement[int]:
    return cast(literal(number), BigInteger)


def _setting(name: str) -> ColumnElement[str]:
    value: ColumnElement[str] = (
        select(catalog_setting.c.value).where(catalog_setting.c.name == name).scalar_subquery()
    )
    return value


def _escaped(path: ColumnElement[str]) -> ColumnElement[str]:
    """Return the path as it stands in a URL (RFC 3986); letters beyond ASCII stay (RFC 3987)."""
    for character in _ESCAPED:
        path = func.replace(path, character, f"%{ord(character):02X}")
    return path
