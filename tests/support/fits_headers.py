"""FITS headers and files for tests of the catalog."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from pipeline.catalog.headers.cards import Cards


def header_of(**values: Any) -> fits.Header:
    """Return a header of the keywords; two underscores stand for a dash, one before a letter for a dot."""
    return fits.Header([(name.replace("__", "-"), value) for name, value in values.items()])


def cards_of(header: fits.Header) -> Cards:
    """Return the cards of a header as they are in a file."""
    return Cards(header.tostring(endcard=False, padding=False).encode("latin-1"))


def write_image(path: Path, header: fits.Header, shape: tuple[int, int] = (20, 30)) -> Path:
    """Write an image of ``shape`` (rows, columns) in a primary unit."""
    fits.PrimaryHDU(np.zeros(shape, np.float32), header).writeto(path)
    return path
