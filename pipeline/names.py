"""Checks of names from outside, before they become paths (protocol notes, "Names") or are shown.

Product, fileset, file and component names are single path segments of the protocol's characters:
letters, digits and ``- + _ . : space``. ``destdir`` and component folders are relative paths of
such segments. Everything else is hostile, and so are paths that no file system takes with certainty.
"""

import re
from collections.abc import Sequence

from pipeline.errors import HostileName

MAX_SEGMENT_BYTES = 255
# Three such paths below the root are within PATH_MAX (4096), and not too deep for recursive functions.
MAX_PATH_BYTES = 1024
MAX_PATH_SEGMENTS = 64
# End of the hidden names under which files are unpacked.
TEMPORARY_SUFFIX = ".unpacking"
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


def some(names: Sequence[str], most: int) -> str:
    """Return at most so many names as text, and how many there are beyond these.

    >>> some(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def beginning(text: str, most: int) -> str:
    """Return the text, of a longer one the beginning, in at most so many characters.

    >>> beginning("connection", 7), beginning("refused", 7)
    ('connec…', 'refused')
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def escaped(text: str, but: str = "") -> str:
    """Return the text with escapes for what is not printable, except the characters in ``but``.

    Names and reasons from outside may hold codes that a terminal obeys, line ends that begin a row or a
    record of their own, and marks that reverse the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in but
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def is_usable(name: str) -> bool:
    """Return True if the name is valid as one path segment."""
    try:
        checked_segment(name, "name")
    except HostileName:
        return False
    return True


def checked_relative_path(path: str, what: str) -> str:
    """Return ``path`` without ``./`` and trailing slashes: a path that leads out of no folder.

    Raises HostileName for an absolute path, an empty one, ``..``, a segment that is not allowed, a path
    beyond the limits, and one of temporary files.
    """
    return "/".join(checked_segment(segment, what) for segment in _segments(path, what))


def checked_member_path(path: str, what: str) -> str:
    """Return the name of an archive member without ``./``: printable text that leads out of no folder.

    Raises HostileName for an absolute path, ``..``, control characters, undecodable bytes, a segment of
    more than 255 bytes, a path beyond the limits, and one of temporary files.
    """
    segments = _segments(path, what)
    if ".." in segments:
        raise HostileName(f"{what}: expected a relative path that stays in its folder, got {path[:300]!r}")
    for segment in segments:
        if not segment.isprintable() or len(_encoded(segment)) > MAX_SEGMENT_BYTES:
            raise HostileName(f"{what}: expected printable names of at most 255 bytes, got {path[:300]!r}")
    return "/".join(segments)


def _segments(path: str, what: str) -> list[str]:
    """Return the segments of a relative path, without those that mean nothing.

    Raises HostileName for an absolute path, an empty one, one beyond the limits, and for the name of a
    temporary file, which would be mistaken for that of another file.
    """
    segments = [segment for segment in path.split("/") if segment not in {"", "."}]
    if path.startswith("/") or not segments:
        raise HostileName(f"{what}: expected a relative path, got {path[:300]!r}")
    if len(segments) > MAX_PATH_SEGMENTS or len(_encoded(path)) > MAX_PATH_BYTES:
        raise HostileName(
            f"{what}: expected a path of at most {MAX_PATH_BYTES} bytes and {MAX_PATH_SEGMENTS} segments, "
            f"got {len(_encoded(path))} bytes and {len(segments)} segments: {path[:40]!r}…"
        )
    for segment in segments:
        if segment.startswith(".") and segment.lower().endswith(TEMPORARY_SUFFIX):
            raise HostileName(
                f"{what}: expected no name of a temporary file of this program, got {segment!r}"
            )
    return segments


def _encoded(path: str) -> bytes:
    return path.encode(errors="replace")
