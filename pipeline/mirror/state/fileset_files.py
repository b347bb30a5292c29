"""Files of a fileset: by its markers, and by its listing in ``store/``."""

from pathlib import Path
from typing import Any

from pipeline.datastore.listing import INDEX, FileRow, read_files
from pipeline.errors import MirrorError
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker


def stored_paths(layout: Layout, product: str, fileset: str) -> list[Path]:
    """Return the files in ``store/``, as they were served and where they are kept. Raises OSError."""
    folder = layout.store(product, fileset)
    names = [file["name"] for file in _files(layout, MarkerKind.DOWNLOADED, product, fileset)]
    return [path for name in names if (path := folder / name).exists()]


def unpacked_paths(layout: Layout, product: str, fileset: str) -> list[Path]:
    """Return the files in ``data/`` that were unpacked from its bundles. Raises OSError."""
    files = _files(layout, MarkerKind.EXTRACTED, product, fileset)
    return [layout.root / file["path"] for file in files]


def listed_files(layout: Layout, product: str, fileset: str) -> list[FileRow] | None:
    """Return the files in the listing of the fileset in ``store/``, None where that cannot be read."""
    index = layout.store(product, fileset) / INDEX
    try:
        return read_files(index.read_bytes(), str(index))
    except (OSError, MirrorError):
        return None


def _files(layout: Layout, kind: str, product: str, fileset: str) -> list[dict[str, Any]]:
    marker = read_marker(layout.marker(kind, product, fileset)) or {"files": []}
    files: list[dict[str, Any]] = marker["files"]
    return files
