"""Tables of the catalog that do not depend on what the documents hold (docs/catalog-tables.md).

Paths are relative to the root of the mirror, times UTC, angles degrees (ICRS).
"""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql

# SQLite makes a row number of INTEGER alone; MariaDB has indexes on texts of a stated length alone.
Key = BigInteger().with_variant(Integer, "sqlite")
# Characters of a name, and of a path below the root.
LONGEST_NAME = 255
LONGEST_PATH = 700
# Names distinguish case, and blanks at the end.
Name = String(LONGEST_NAME).with_variant(
    mysql.VARCHAR(LONGEST_NAME, charset="utf8mb4", collation="utf8mb4_nopad_bin"), "mysql"
)
Path = String(LONGEST_PATH).with_variant(
    mysql.VARCHAR(LONGEST_PATH, charset="utf8mb4", collation="utf8mb4_nopad_bin"), "mysql"
)
LongText = Text().with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_nopad_bin"), "mysql")
LongBinary = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
# Microseconds are kept by MariaDB on request alone.
Time = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")

# Characters of names in an index of several columns: MariaDB allows 3072 bytes for all of them.
_SHORT = {"kind": 32, "stage": 32, "filter": 64}

metadata = MetaData()


def _of_fileset() -> Column[int]:
    return Column("fileset_id", Key, ForeignKey("fileset.fileset_id"), nullable=False)


# ``id`` and ``generation`` of the database; of the mirror the absolute ``root``, ``access_url`` and
# ``publisher_did``.
catalog_setting = Table(
    "catalog_setting", metadata, Column("name", Name, primary_key=True), Column("value", LongText)
)

product = Table(
    "product",
    metadata,
    Column("product_id", Key, primary_key=True),
    Column("name", Name, nullable=False, unique=True),
)

fileset = Table(
    "fileset",
    metadata,
    Column("fileset_id", Key, primary_key=True),
    Column("product_id", Key, ForeignKey("product.product_id"), nullable=False),
    Column("name", Name, nullable=False),
    Column("registered", Time),
    Column("type", LongText),
    Column("target_id", LongText),
    Column("stage", Name),
    Column("stage_id", LongText),
    Column("exp_name", Name),
    Column("data_group", LongText),
    Column("filter", LongText),
    # The whole row of the listing, as a JSON object of texts.
    Column("columns", LongText),
    # "full", or "clean" for bundles without the large images; NULL where dbinfo does not tell.
    Column("content", Name),
    Column("state", LongText),
    Column("arrived", Time),
    Column("cataloged", Time),
    Column("note", LongText),
    UniqueConstraint("product_id", "name"),
    Index("fileset_exp_name", "exp_name"),
    Index("fileset_arrived", "arrived"),
    Index("fileset_cataloged", "cataloged"),
)

file = Table(
    "file",
    metadata,
    Column("file_id", Key, primary_key=True),
    _of_fileset(),
    Column("name", Name, nullable=False),
    Column("bytes", BigInteger),
    Column("md5", String(32)),
    Column("type", LongText),
    Column("component", LongText),
    Index("file_fileset", "fileset_id"),
)

member = Table(
    "member",
    metadata,
    Column("member_id", Key, primary_key=True),
    _of_fileset(),
    Column("path", Path, nullable=False),
    Column("bytes", BigInteger),
    Column("crc32", BigInteger),
    Column("component", LongText),
    # image, mask, weight, catalog, config or other.
    Column("kind", Name, nullable=False),
    # Path without the suffix that tells the kind: siblings have the same.
    Column("base", Path, nullable=False),
    Index("member_fileset", "fileset_id"),
    Index("member_base", "base"),
    Index("member_path", "path"),
)

image = Table(
    "image",
    metadata,
    Column("image_id", Key, primary_key=True),
    _of_fileset(),
    Column("member_id", Key, ForeignKey("member.member_id")),
    Column("file_id", Key, ForeignKey("file.file_id")),
    # Number of the unit in the FITS file; 0 is the primary one.
    Column("extension", Integer, nullable=False),
    Column("path", Path, nullable=False),
    Column("base", Path, nullable=False),
    # image, mask, weight or other.
    Column("kind", Name, nullable=False),
    Column("stage", Name),
    Column("exp_name", Name),
    Column("object", Name),
    Column("filter", Name),
    # g, r, i, z, y or w.
    Column("band", String(1)),
    Column("component", Name),
    Column("skycell", Name),
    # Pixels.
    Column("naxis1", BigInteger),
    Column("naxis2", BigInteger),
    # MJD (UTC), days; seconds.
    Column("t_min", Double),
    Column("t_max", Double),
    Column("exptime", Double),
    Column("airmass", Double),
    # Arcseconds.
    Column("fwhm", Double),
    Column("quality", BigInteger),
    Column("ra", Double),
    Column("dec", Double),
    # Radius of the circle about the centre that holds the image.
    Column("radius", Double),
    # Arcseconds.
    Column("pixel_scale", Double),
    # Number of the HEALPix cell of the centre: nested, order 29.
    Column("healpix", BigInteger),
    # Least whole number c from -14 on for which the radius is at most 2**c degrees.
    Column("size_class", SmallInteger),
    # Corners as "ra dec ra dec …", counter-clockwise as seen from inside the sphere.
    Column("footprint", Text),
    # header, raw_exp or skycell: the source of the position.
    Column("pos_source", Name),
    Column("note", LongText),
    # The columns behind healpix sort out most images near a cone without reading their rows.
    Index(
        "image_sky",
        *("size_class", "healpix", "ra", "dec", "radius", "t_min", "kind", "stage", "band"),
        mysql_length=_SHORT,
    ),
    Index("image_time", "t_min"),
    # Nearly all images are of kind image: an index that began with it would be used for nothing.
    Index("image_stage", "stage", "band", "kind", "t_min", "filter", mysql_length=_SHORT),
    Index("image_fileset", "fileset_id"),
    Index("image_exp_name", "exp_name"),
    Index("image_skycell", "skycell"),
)

# Columns of the pipeline's tables, with the kind of their values (pipeline_tables.py).
pipeline_column = Table(
    "pipeline_column",
    metadata,
    Column("table_name", String(63), primary_key=True),
    Column("column_name", String(63), primary_key=True),
    Column("kind", String(16), nullable=False),
)

# Raw documents of filesets, compressed by zlib: no database returns every nan, 2**63 or second 60 as it came.
document = Table(
    "document",
    metadata,
    _of_fileset(),
    Column("name", Name, nullable=False),
    Column("component", LongText),
    Column("text", LongBinary, nullable=False),
    Index("document_fileset", "fileset_id"),
)
