"""Filesets that were asked for by name: where they are, or why they are not fetched, as lines."""

import os
import shlex
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePosixPath
from typing import Any

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker
from pipeline.units import as_count, as_size

# Filesets that are named in a list of all.
_SHOWN = 100


def excluded_filesets(layout: Layout, product: str, names: Collection[str]) -> set[str]:
    """Return those of the filesets that no run fetches: withdrawn and skipped ones."""
    kinds = (MarkerKind.WITHDRAWN, MarkerKind.SKIPPED)
    return {name for kind in kinds for name in layout.marked_among(kind, product, names)}


def excluded_text(layout: Layout, product: str, name: str) -> str:
    """Return why no run fetches the fileset."""
    skipped = layout.marker(MarkerKind.SKIPPED, product, name)
    if not skipped.exists():
        return "not fetched, as upstream has withdrawn it"
    marker = read_marker(skipped) or {}
    return (
        f"not fetched, as it is skipped since {marker.get('since')} by {marker.get('by')}: "
        f"{marker.get('reason')}. `ipp-mirror unskip {shlex.join([product, name])}` takes that back"
    )


def complete_text(layout: Layout, product: str, name: str) -> str:
    """Return files and bytes as served, the folder of the unpacked ones or of all, and what is left out."""
    served = (read_marker(layout.marker(MarkerKind.DOWNLOADED, product, name)) or {}).get("files", [])
    unpacked = (read_marker(layout.marker(MarkerKind.EXTRACTED, product, name)) or {}).get("files", [])
    size = f"{as_count(len(served), 'file')}, {as_size(sum(file['bytes'] for file in served))}"
    left_out = _left_out(read_marker(layout.marker(MarkerKind.PARTIAL, product, name)) or {})
    if not unpacked:
        return f"{size}, in {layout.store(product, name)}{left_out}"
    folder = os.path.commonpath([PurePosixPath(file["path"]).parent for file in unpacked])
    return f"{size}; {as_count(len(unpacked), 'unpacked file')} below {layout.root / folder}{left_out}"


def lines_of(product: str, names: Collection[str], text: Callable[[str], str]) -> Iterator[str]:
    """Yield a line with the text of each fileset, sorted by name; of very many, the number of the last ones.

    The texts of those alone are asked for that are shown: most are read from markers.
    """
    for name in sorted(names)[:_SHOWN]:
        yield f"{product}/{name}: {text(name)}"
    if len(names) > _SHOWN:
        yield f"and {as_count(len(names) - _SHOWN, 'more fileset')} of {product}"


def _left_out(partial: dict[str, Any]) -> str:
    """Return how the settings leave out something of a fileset with that marker."""
    number = partial.get("left_out")
    files = f"; {as_count(number, 'file')} left out by components and files" if number else ""
    return f"{files}; its bundles unpacked in part, by members" if partial.get("members") else files
