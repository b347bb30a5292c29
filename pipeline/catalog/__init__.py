"""Database of what the mirror holds: filesets, files, images, and the rows of their documents.

>>> from pipeline.catalog import open_catalog
>>> catalog = open_catalog("/panstarrs/data/MIRROR")                                       # doctest: +SKIP
>>> warps = catalog.find(at="10:42:44.3 +41:16:09", stage="warp", filter="r")              # doctest: +SKIP
"""

from pipeline.catalog.catalog import Catalog, open_catalog

__all__ = ["Catalog", "open_catalog"]
