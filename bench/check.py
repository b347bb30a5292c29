"""Check of a run: the files on disk against the served ones."""

import filecmp
import os
from collections.abc import Iterable
from pathlib import Path

from isal import isal_zlib

from bench.payload import PRODUCT, Payload

_SAMPLE = 50
_CHUNK_BYTES = 1 << 20


def check(payload: Payload, folder: Path, *, thorough: bool) -> None:
    """Compare ``store/`` and ``data/`` below ``folder`` with the payload.

    Names and sizes are compared for all files, bytes for every file when ``thorough``, else for some 50 of
    each tree. Raises AssertionError for the first difference.
    """
    served = payload.store / PRODUCT
    mirrored = folder / "store" / PRODUCT
    # Peers leave the listings of products in store/, where a mirror has none.
    expected = {name: size for name, size in _sizes(served).items() if name != "index.txt"}
    _same("store", expected, {name: size for name, size in _sizes(mirrored).items() if name != "index.txt"})
    for name in _chosen(expected, thorough):
        assert filecmp.cmp(served / name, mirrored / name, shallow=False), f"store: {name} has other bytes"
    data = folder / "data"
    _same("data", {name: size for name, (size, _) in payload.unpacked.items()}, _sizes(data))
    for name in _chosen(payload.unpacked, thorough):
        assert _crc32(data / name) == payload.unpacked[name][1], f"data: {name} has other bytes"


def _chosen(names: Iterable[str], thorough: bool) -> list[str]:
    ordered = sorted(names)
    return ordered if thorough else ordered[:: max(1, len(ordered) // _SAMPLE)]


def _same(what: str, expected: dict[str, int], found: dict[str, int]) -> None:
    different = sorted(
        name for name, size in expected.items() | found.items() if found.get(name) != expected.get(name)
    )
    assert not different, (
        f"{what}: {len(different)} files differ or are missing or too many, first {different[0]}"
    )


def _sizes(folder: Path) -> dict[str, int]:
    """Return the sizes (bytes) of all files below the folder."""
    sizes = {}
    for parent, _, names in os.walk(folder):
        paths = [Path(parent, name) for name in names]
        sizes |= {str(path.relative_to(folder)): path.stat().st_size for path in paths}
    return sizes


def _crc32(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc = isal_zlib.crc32(chunk, crc)
    return crc
