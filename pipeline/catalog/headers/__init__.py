"""FITS headers: the images of a file, where on the sky and when they were taken, and kinds of files by name.

Nothing here knows the mirror or the database; astropy and numpy are imported for rare headers only.
"""

from pipeline.catalog.headers.file_kinds import Kind, base_of, kind_of
from pipeline.catalog.headers.filters import BANDS, band_of
from pipeline.catalog.headers.footprint import Footprint
from pipeline.catalog.headers.image_header import ImageHeader, read_images

__all__ = [
    "BANDS",
    "Footprint",
    "ImageHeader",
    "Kind",
    "band_of",
    "base_of",
    "kind_of",
    "read_images",
]
