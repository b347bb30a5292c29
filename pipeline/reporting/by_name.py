"""Filesets that were asked for by name: where they are, or why they are not fetched, a text for each."""

import os
import shlex
from collections.abc import Collection, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker
from pipeline.mirror.state.pending import incomplete
from pipeline.mirror.state.steps import StepSpec
from pipeline.units import as_count, as_size

# Filesets that are named in a list of all.
_SHOWN = 100


def complete_texts(
    layout: Layout, product: str, names: Collection[str], required: Iterable[StepSpec]
) -> dict[str, str]:
    """Return for each of the filesets that is complete its files, bytes and folder, and what is left out."""
    complete = set(names) - incomplete(layout, product, names, required)
    return {name: _contents(layout, product, name) for name in complete}


def excluded_texts(layout: Layout, product: str, names: Collection[str]) -> dict[str, str]:
    """Return for each of the filesets that no run fetches why that is so."""
    withdrawn = layout.marked_among(MarkerKind.WITHDRAWN, product, names)
    texts = dict.fromkeys(withdrawn, "not fetched, as upstream has withdrawn it")
    for name in layout.marked_among(MarkerKind.SKIPPED, product, names):
        marker = read_marker(layout.marker(MarkerKind.SKIPPED, product, name)) or {}
        texts[name] = (
            f"not fetched, as it is skipped since {marker.get('since')} by {marker.get('by')}: "
            f"{marker.get('reason')}. `ipp-mirror unskip {shlex.join([product, name])}` takes that back"
        )
    return texts


def lines_of(product: str, texts: dict[str, str]) -> Iterator[str]:
    """Yield a line for each of the filesets, sorted by name; of very many, the number of the last ones."""
    for name in sorted(texts)[:_SHOWN]:
        yield f"{product}/{name}: {texts[name]}"
    if len(texts) > _SHOWN:
        yield f"and {as_count(len(texts) - _SHOWN, 'more fileset')} of {product}"


def _contents(layout: Layout, product: str, name: str) -> str:
    """Return files and bytes as they were served, and the folder of the unpacked ones, or of all."""
    served = (read_marker(layout.marker(MarkerKind.DOWNLOADED, product, name)) or {}).get("files", [])
    unpacked = (read_marker(layout.marker(MarkerKind.EXTRACTED, product, name)) or {}).get("files", [])
    size = f"{as_count(len(served), 'file')}, {as_size(sum(file['bytes'] for file in served))}"
    left_out = _left_out(read_marker(layout.marker(MarkerKind.PARTIAL, product, name)) or {})
    if not unpacked:
        return f"{size}, in {layout.store(product, name)}{left_out}"
    folder = os.path.commonpath([PurePosixPath(file["path"]).parent for file in unpacked])
    return f"{size}; {as_count(len(unpacked), 'unpacked file')} below {layout.root / folder}{left_out}"


def _left_out(partial: dict[str, Any]) -> str:
    """Return how the settings leave out something of a fileset with that marker."""
    number = partial.get("left_out")
    files = f"; {as_count(number, 'file')} left out by components and files" if number else ""
    return f"{files}; its bundles unpacked in part, by members" if partial.get("members") else files
