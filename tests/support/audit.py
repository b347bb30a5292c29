"""Files and folders that this process opens, recorded by Python's audit events."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_recordings: list[tuple[Path, list[str]]] = []


@contextmanager
def opened_below(root: Path) -> Iterator[list[str]]:
    """Record what is opened or scanned below ``root`` while the ``with`` lasts: paths relative to it.

    The path of a folder that is scanned ends in a slash.
    """
    _install()
    recording: tuple[Path, list[str]] = (root, [])
    _recordings.append(recording)
    try:
        yield recording[1]
    finally:
        _recordings.remove(recording)


@cache
def _install() -> None:
    # An audit hook stays for the life of the process: one serves all recordings.
    sys.addaudithook(_record)


def _record(event: str, arguments: tuple[object, ...]) -> None:
    if not _recordings or event not in {"open", "os.scandir", "os.listdir"}:
        return
    path = arguments[0]
    if not isinstance(path, str | bytes | os.PathLike):
        return
    for root, opened in _recordings:
        if (absolute := Path(os.fsdecode(path)).absolute()).is_relative_to(root):
            opened.append(absolute.relative_to(root).as_posix() + "/" * (event != "open"))
