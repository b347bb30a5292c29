"""First tables, as they were in this revision: later ones change them in modules of their own."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

TEXT = {"charset": "utf8mb4", "collation": "utf8mb4_nopad_bin"}
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String(255).with_variant(mysql.VARCHAR(255, **TEXT), "mysql")
PATH = sa.String(700).with_variant(mysql.VARCHAR(700, **TEXT), "mysql")
LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(**TEXT), "mysql")
LONG_BINARY = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "catalog_setting",
        sa.Column("name", NAME, nullable=False),
        sa.Column("value", LONG_TEXT),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "pipeline_column",
        sa.Column("table_name", sa.String(length=63), nullable=False),
        sa.Column("column_name", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("table_name", "column_name"),
    )
    op.create_table(
        "product",
        sa.Column("product_id", KEY, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.PrimaryKeyConstraint("product_id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "fileset",
        sa.Column("fileset_id", KEY, nullable=False),
        sa.Column("product_id", KEY, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("registered", TIME),
        sa.Column("type", LONG_TEXT),
        sa.Column("target_id", LONG_TEXT),
        sa.Column("stage", NAME),
        sa.Column("stage_id", LONG_TEXT),
        sa.Column("exp_name", NAME),
        sa.Column("data_group", LONG_TEXT),
        sa.Column("filter", LONG_TEXT),
        sa.Column("columns", LONG_TEXT),
        sa.Column("content", NAME),
        sa.Column("state", LONG_TEXT),
        sa.Column("arrived", TIME),
        sa.Column("cataloged", TIME),
        sa.Column("note", LONG_TEXT),
        sa.ForeignKeyConstraint(["product_id"], ["product.product_id"]),
        sa.PrimaryKeyConstraint("fileset_id"),
        sa.UniqueConstraint("product_id", "name"),
    )
    op.create_index("fileset_arrived", "fileset", ["arrived"])
    op.create_index("fileset_cataloged", "fileset", ["cataloged"])
    op.create_index("fileset_exp_name", "fileset", ["exp_name"])
    op.create_table(
        "document",
        sa.Column("fileset_id", KEY, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("component", LONG_TEXT),
        sa.Column("text", LONG_BINARY, nullable=False),
        sa.ForeignKeyConstraint(["fileset_id"], ["fileset.fileset_id"]),
    )
    op.create_index("document_fileset", "document", ["fileset_id"])
    op.create_table(
        "file",
        sa.Column("file_id", KEY, nullable=False),
        sa.Column("fileset_id", KEY, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("bytes", sa.BigInteger()),
        sa.Column("md5", sa.String(length=32)),
        sa.Column("type", LONG_TEXT),
        sa.Column("component", LONG_TEXT),
        sa.ForeignKeyConstraint(["fileset_id"], ["fileset.fileset_id"]),
        sa.PrimaryKeyConstraint("file_id"),
    )
    op.create_index("file_fileset", "file", ["fileset_id"])
    op.create_table(
        "member",
        sa.Column("member_id", KEY, nullable=False),
        sa.Column("fileset_id", KEY, nullable=False),
        sa.Column("path", PATH, nullable=False),
        sa.Column("bytes", sa.BigInteger()),
        sa.Column("crc32", sa.BigInteger()),
        sa.Column("component", LONG_TEXT),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("base", PATH, nullable=False),
        sa.ForeignKeyConstraint(["fileset_id"], ["fileset.fileset_id"]),
        sa.PrimaryKeyConstraint("member_id"),
    )
    op.create_index("member_base", "member", ["base"])
    op.create_index("member_fileset", "member", ["fileset_id"])
    op.create_index("member_path", "member", ["path"])
    op.create_table(
        "image",
        sa.Column("image_id", KEY, nullable=False),
        sa.Column("fileset_id", KEY, nullable=False),
        sa.Column("member_id", KEY),
        sa.Column("file_id", KEY),
        sa.Column("extension", sa.Integer(), nullable=False),
        sa.Column("path", PATH, nullable=False),
        sa.Column("base", PATH, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("stage", NAME),
        sa.Column("exp_name", NAME),
        sa.Column("object", NAME),
        sa.Column("filter", NAME),
        sa.Column("band", sa.String(length=1)),
        sa.Column("component", NAME),
        sa.Column("skycell", NAME),
        sa.Column("naxis1", sa.BigInteger()),
        sa.Column("naxis2", sa.BigInteger()),
        sa.Column("t_min", sa.Double()),
        sa.Column("t_max", sa.Double()),
        sa.Column("exptime", sa.Double()),
        sa.Column("airmass", sa.Double()),
        sa.Column("fwhm", sa.Double()),
        sa.Column("quality", sa.BigInteger()),
        sa.Column("ra", sa.Double()),
        sa.Column("dec", sa.Double()),
        sa.Column("radius", sa.Double()),
        sa.Column("pixel_scale", sa.Double()),
        sa.Column("healpix", sa.BigInteger()),
        sa.Column("size_class", sa.SmallInteger()),
        sa.Column("footprint", sa.Text()),
        sa.Column("pos_source", NAME),
        sa.Column("note", LONG_TEXT),
        sa.ForeignKeyConstraint(["file_id"], ["file.file_id"]),
        sa.ForeignKeyConstraint(["fileset_id"], ["fileset.fileset_id"]),
        sa.ForeignKeyConstraint(["member_id"], ["member.member_id"]),
        sa.PrimaryKeyConstraint("image_id"),
    )
    op.create_index("image_exp_name", "image", ["exp_name"])
    op.create_index("image_fileset", "image", ["fileset_id"])
    op.create_index(
        "image_sky",
        "image",
        ["size_class", "healpix", "ra", "dec", "radius", "t_min", "kind", "stage", "band"],
        mysql_length={"kind": 32, "stage": 32, "filter": 64},
    )
    op.create_index("image_skycell", "image", ["skycell"])
    op.create_index(
        "image_stage",
        "image",
        ["stage", "band", "kind", "t_min", "filter"],
        mysql_length={"kind": 32, "stage": 32, "filter": 64},
    )
    op.create_index("image_time", "image", ["t_min"])
