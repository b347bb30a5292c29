"""Operations of this process on files and folders, by Python's audit events: recorded, or interrupted."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_recordings: list[tuple[Path, list[str]]] = []
_CHANGES = frozenset({"os.mkdir", "os.rmdir", "os.symlink", "os.rename", "os.remove"})
# Changes of folders that are still made, in each `with` of ``interrupted``.
_allowed: list[int] = []


class Interrupted(BaseException):
    """End of the code under test at one instant, as by a kill."""


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


@contextmanager
def interrupted(changes: int) -> Iterator[None]:
    """Let the code make so many changes of folders, and raise Interrupted in place of the next one."""
    _install()
    _allowed.append(changes)
    try:
        yield
    finally:
        _allowed.clear()


@cache
def _install() -> None:
    # An audit hook stays for the life of the process: one serves all recordings.
    sys.addaudithook(_record)


def _record(event: str, arguments: tuple[object, ...]) -> None:
    if _allowed and event in _CHANGES:
        if _allowed[0] == 0:
            raise Interrupted
        _allowed[0] -= 1
    if not _recordings or event not in {"open", "os.scandir", "os.listdir"}:
        return
    path = arguments[0]
    if not isinstance(path, str | bytes | os.PathLike):
        return
    for root, opened in _recordings:
        if (absolute := Path(os.fsdecode(path)).absolute()).is_relative_to(root):
            opened.append(absolute.relative_to(root).as_posix() + "/" * (event != "open"))
