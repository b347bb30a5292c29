"""Checks of names from outside, before they become paths (protocol notes, "Names").

Product, fileset, file and component names are single path segments of the protocol's characters:
letters, digits and ``- + _ . : space``. ``destdir`` and component folders are relative paths of
such segments. Everything else is hostile.
"""

import re

from pipeline.errors import HostileName

MAX_SEGMENT_BYTES = 255
_SEGMENT = re.compile(r"[A-Za-z0-9\-+_.: ]+", re.ASCII)


def checked_segment(name: str, what: str) -> str:
    """Return ``name`` unchanged if it is valid as one path segment.

    ``what`` describes the name in the message (``"file of fileset X"``).
    Raises HostileName, with the name escaped.
    """
    if len(name) > MAX_SEGMENT_BYTES:
        raise HostileName(
            f"{what}: a name has at most {MAX_SEGMENT_BYTES} bytes, this one has {len(name)}: {name[:40]!r}…"
        )
    if name in {".", ".."} or name != name.strip(" ") or not _SEGMENT.fullmatch(name):
        raise HostileName(
            f"{what}: expected letters, digits and '- + _ . : space', not '.' or '..', got {name!r}"
        )
    return name


def is_usable(name: str) -> bool:
    """Return True if the name is valid as one path segment."""
    try:
        checked_segment(name, "name")
    except HostileName:
        return False
    return True


def checked_relative_path(path: str, what: str) -> str:
    """Return ``path`` without ``./`` and trailing slashes: a path that leads out of no folder.

    Raises HostileName for an absolute path, an empty one, ``..`` or a segment that is not allowed.
    """
    segments = [segment for segment in path.split("/") if segment not in {"", "."}]
    if path.startswith("/") or not segments:
        raise HostileName(f"{what}: expected a relative path, got {path!r}")
    return "/".join(checked_segment(segment, what) for segment in segments)


def checked_member_path(path: str, what: str) -> str:
    """Return the name of an archive member without ``./``: printable text that leads out of no folder.

    Raises HostileName for an absolute path, ``..``, control characters, undecodable bytes or a segment
    of more than 255 bytes.
    """
    segments = [segment for segment in path.split("/") if segment not in {"", "."}]
    if path.startswith("/") or ".." in segments or not segments:
        raise HostileName(f"{what}: expected a relative path that stays in its folder, got {path!r}")
    for segment in segments:
        if not segment.isprintable() or len(segment.encode(errors="surrogateescape")) > MAX_SEGMENT_BYTES:
            raise HostileName(f"{what}: expected printable names of at most 255 bytes, got {path[:300]!r}")
    return "/".join(segments)
