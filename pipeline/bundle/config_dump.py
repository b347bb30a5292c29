"""Config dumps: the sender's paths in them as paths of this machine (protocol notes, "Config dumps")."""

import re
from pathlib import Path

from pipeline.bundle import mdc
from pipeline.errors import BundleUnusable

_FILE_SCOPES = {("FILES", "INPUT"), ("FILES", "OUTPUT"), ("FILES.INPUT",), ("FILES.OUTPUT",)}
_VOLUME = re.compile(r"(?:neb://|path://|/data/|file:///data/)[^/]+/+")


def relocated_config_dump(document: bytes, source: str, data: Path) -> bytes:
    """The document with the sender's volumes replaced by ``data`` as an absolute path; the rest stays.

    Changed are the STR values in FILES.INPUT and FILES.OUTPUT, at any depth, that begin with a volume; the
    scopes may be nested or have the dot in their name. ``STDOUT``, ``STDERR`` and whatever names no volume
    stay, and so does a path with ``..`` in it, which would not stay below ``data``. A gzip-compressed
    document stays one.

    A ``.mdc`` without such scopes, or one that cannot be read, is given back as it is: it is one file of
    somebody's bundle, and no reason to withhold the others. Raises BundleUnusable only when
    ``data`` itself cannot be written into a document.
    """
    base = str(data.absolute())
    mdc.Scope().add("DATA", "STR", base)

    def local(path: tuple[str, ...], entry: mdc.Entry, scopes: tuple[mdc.Scope, ...]) -> str | None:
        return _relocated(entry.value, base) if _is_of_files(path) else None

    try:
        return mdc.rewrite(document, source, local)
    except BundleUnusable:
        return document


def _is_of_files(path: tuple[str, ...]) -> bool:
    return path[:2] in _FILE_SCOPES or path[:1] in _FILE_SCOPES


def _relocated(value: str | None, base: str) -> str | None:
    volume = _VOLUME.match(value or "")
    if not volume or ".." in value.split("/"):
        return None
    return f"{base}/{value[volume.end() :]}"
