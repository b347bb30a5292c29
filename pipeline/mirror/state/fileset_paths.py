"""Paths of the files of a complete fileset, by its markers."""

from pathlib import Path
from typing import Any

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


def _files(layout: Layout, kind: str, product: str, fileset: str) -> list[dict[str, Any]]:
    marker = read_marker(layout.marker(kind, product, fileset)) or {"files": []}
    files: list[dict[str, Any]] = marker["files"]
    return files
