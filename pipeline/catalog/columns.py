"""Columns of an answer: their SQL, units, UCDs and descriptions."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.near_names import did_you_mean


class ValueKind(StrEnum):
    """Kind of the values of a column."""

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"
    # Date and time (UTC).
    TIME = "time"
    # Modified Julian date (UTC) in the database, date and time in the answer.
    DAY = "day"
    # Path, relative to the root of the mirror in the database.
    PATH = "path"


@dataclass(frozen=True)
class Column:
    """Column of an answer: ``sql`` is its expression, ``tables`` are those that are joined to ``image``.

    The unit is one of the VOUnits standard, the UCD has words of UCD1+, utype and xtype are those of a
    VOTable. The kind is None where it follows from the values.
    """

    name: str
    kind: ValueKind | None
    unit: str = ""
    ucd: str = ""
    description: str = ""
    sql: str = ""
    tables: tuple[str, ...] = ()
    utype: str = ""
    xtype: str = ""


# Name, kind, unit, UCD and description of the columns of the table ``image``.
_IMAGE = """
path        path    -       meta.id;meta.file            Path of the FITS file
extension   integer -       meta.number                  Number of the unit in the FITS file, 0: primary
kind        text    -       meta.code.class              image, mask, weight or other
stage       text    -       meta.code                    Stage of the pipeline
exp_name    text    -       meta.id;obs                  Name of the exposure; of combined images, their run
object      text    -       meta.id;src                  Name of the target
filter      text    -       meta.id;instr.filter         Name of the filter
band        text    -       instr.bandpass               Letter of the filter: g, r, i, z, y or w
component   text    -       meta.id                      Component of the fileset, such as a chip
skycell     text    -       meta.id;pos                  Sky cell of the tessellation
t_min       real    d       time.start;obs.exposure      Start of the exposure, MJD (UTC)
t_max       real    d       time.end;obs.exposure        Start plus exposure time, MJD (UTC)
exptime     real    s       time.duration;obs.exposure   Exposure time
airmass     real    -       obs.airMass                  Airmass
fwhm        real    arcsec  instr.det.psf                Full width of stars at half of their maximum
quality     integer -       meta.code.qual               Quality flag of the pipeline, 0 for good
ra          real    deg     pos.eq.ra;meta.main          Right ascension of the centre (ICRS)
dec         real    deg     pos.eq.dec;meta.main         Declination of the centre (ICRS)
radius      real    deg     phys.angSize                 Radius about the centre that holds the image
pixel_scale real    arcsec  pos.wcs.scale                Width of a pixel
naxis1      integer pixel   pos.wcs.naxis                Number of columns of pixels
naxis2      integer pixel   pos.wcs.naxis                Number of rows of pixels
footprint   text    deg     pos.outline                  Corners of the image (ICRS): ra dec ra dec ...
pos_source  text    -       meta.code                    Source of the position: header, raw_exp or skycell
note        text    -       meta.note                    Fault of the header of the image
base        path    -       meta.id                      Path without the suffix that tells the kind
healpix     integer -       pos.healpix                  HEALPix pixel of the centre, nested, order 29
size_class  integer -       meta.code                    Least c from -14 on with radius <= 2**c degrees
image_id    integer -       meta.id                      Number of the row in the table image
fileset_id  integer -       meta.id                      Number of the row in the table fileset
member_id   integer -       meta.id                      Number of the row in the table member
file_id     integer -       meta.id                      Number of the row in the table file
"""
_SIBLINGS = {
    "mask": "Path of the mask of the image",
    "weight": "Path of the image of variances",
    "catalog": "Path of the catalog of sources in the image",
}


def _of_image(line: str) -> Column:
    name, kind, unit, ucd, description = line.split(None, 4)
    return Column(name, ValueKind(kind), unit.strip("-"), ucd, description, f"image.{name}")


def _of_fileset(name: str, kind: ValueKind, ucd: str, description: str, column: str = "") -> Column:
    return Column(name, kind, "", ucd, description, f"fileset.{column or name}", ("fileset",))


def _sibling(kind: str) -> Column:
    unpacked = f"SELECT min(path) FROM member WHERE member.base = image.base AND member.kind = '{kind}'"
    # Plain files have no index of bases, but filesets of few images.
    plain = (
        "SELECT min(other.path) FROM image AS other WHERE other.fileset_id = image.fileset_id "
        f"AND other.base = image.base AND other.kind = '{kind}'"
    )
    sql = f"CASE WHEN image.file_id IS NULL THEN ({unpacked}) ELSE ({plain}) END"
    return Column(f"{kind}_path", ValueKind.PATH, "", "meta.id;meta.file", _SIBLINGS[kind], sql)


_OBSERVED = "Start of the exposure (UTC)"
COLUMNS = {
    column.name: column
    for column in (
        *map(_of_image, _IMAGE.strip().splitlines()),
        Column("observed", ValueKind.DAY, "", "time.start;obs.exposure", _OBSERVED, "image.t_min"),
        Column("product", ValueKind.TEXT, "", "meta.id", "Product", "product.name", ("fileset", "product")),
        _of_fileset("fileset", ValueKind.TEXT, "meta.id", "Fileset that the image came in", "name"),
        _of_fileset("data_group", ValueKind.TEXT, "meta.id", "Data group of the fileset"),
        _of_fileset(
            "registered", ValueKind.TIME, "time.release", "Registration of the fileset upstream (UTC)"
        ),
        _of_fileset("arrived", ValueKind.TIME, "time", "Arrival of the fileset in the mirror (UTC)"),
        *map(_sibling, _SIBLINGS),
    )
}
# For people. The path is the last one, since it is long.
SHOWN = ("stage", "exp_name", "filter", "component", "observed", "exptime", "fwhm", "ra", "dec", "path")
# Those of them that a narrow terminal leaves out, the first ones first.
LEFT_OUT = (("exptime",), ("ra", "dec"), ("fwhm",), ("observed",), ("component",), ("filter",))
# For programs: all that describes the image, without the numbers of rows.
WRITTEN = (
    *("path", "extension", "kind", "stage", "exp_name", "object", "filter", "band", "component", "skycell"),
    *("observed", "t_min", "t_max", "exptime", "airmass", "fwhm", "quality", "ra", "dec", "radius"),
    *("pixel_scale", "naxis1", "naxis2", "footprint", "pos_source", "note", "product", "fileset", "arrived"),
)


def columns_listed(text: str) -> list[Column]:
    """Return the columns in a text such as ``path,fwhm``. Raises ValueError as ``columns_named`` does."""
    return columns_named([name.strip() for name in text.split(",")])


def columns_named(names: Sequence[str]) -> list[Column]:
    """Return the columns of these names.

    Raises ValueError for another name, with near ones or all, and for one that is repeated.
    """
    unknown = [name for name in names if name not in COLUMNS]
    if unknown and (meant := did_you_mean(unknown[0], COLUMNS)):
        raise ValueError(f"expected columns of images, got {unknown[0]!r}.{meant}")
    if unknown or not names:
        got = ", ".join(map(repr, unknown)) or "none"
        raise ValueError(f"expected some of the columns {', '.join(COLUMNS)}; got {got}")
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"expected each column once, got {repeated!r} more than once")
    return [COLUMNS[name] for name in names]
