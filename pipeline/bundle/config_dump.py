"""Config dumps: paths of the sender replaced by paths of this machine (protocol notes, "Config dumps")."""

import re
from pathlib import Path

from pipeline.bundle import mdc
from pipeline.errors import BundleUnusable

MAX_DUMP_BYTES = 4 << 20
"""Limit of a config dump (inflated). To edit a document takes up to a hundred times its size in memory."""

_FILE_SCOPES = {("FILES", "INPUT"), ("FILES", "OUTPUT"), ("FILES.INPUT",), ("FILES.OUTPUT",)}
_VOLUME = re.compile(r"(?:neb://|path://|/data/|file:///data/)[^/]+/+")


def relocated_config_dump(document: bytes, source: str, data: Path) -> bytes:
    """Return the document with the volumes of the sender replaced by ``data`` as an absolute path.

    Changed are the STR values in FILES.INPUT and FILES.OUTPUT, at any depth, that begin with a volume; the
    scopes may be nested or have the dot in their name. All other bytes stay: ``STDOUT``, ``STDERR``, values
    without a volume, and a path with ``..``, which would lead out of ``data``. The result for a
    gzip-compressed document is compressed too.

    A ``.mdc`` without such scopes, an invalid one, or one beyond ``MAX_DUMP_BYTES`` is returned unchanged:
    one such file is no reason to withhold the other files of the bundle. Raises BundleUnusable only if no
    document can hold ``data``.
    """
    base = str(data.absolute())
    mdc.Scope().add("DATA", "STR", base)

    def local(string: mdc.StringValue) -> str | None:
        return relocated_path(string.value or "", base) if _is_of_files(string.path) else None

    try:
        return mdc.rewrite(document, source, local, MAX_DUMP_BYTES)
    except BundleUnusable:
        return document


def _is_of_files(path: tuple[str, ...]) -> bool:
    return path[:2] in _FILE_SCOPES or path[:1] in _FILE_SCOPES


def relocated_path(value: str, base: str) -> str | None:
    """Return the path with its volume replaced by ``base``; None without a volume, or with ``..`` in it."""
    volume = _VOLUME.match(value)
    if not volume or ".." in value.split("/"):
        return None
    return f"{base}/{value[volume.end() :]}"
