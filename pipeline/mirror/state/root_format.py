"""Format number and id of a mirror, in its root folder: ``ROOT/mirror.json``.

A program must not touch a root folder of a higher format than its own, in which files may have another
meaning. A root folder without the file is of format 1. One of an earlier format is taken over by the first
run of this program, which raises the number before it changes anything else. The id is made by the first run
that holds the update lock, and never changes.
"""

import json
import re
import secrets
import shutil
from typing import Any

from pipeline.durable import write_whole
from pipeline.errors import SettingsError, machine_fault
from pipeline.mirror.state.layout import Layout, short_digest

# 2 has the order of arrival and owner records, which a program for format 1 would not keep.
FORMAT = 2
_ID = re.compile(r"[0-9A-Za-z-]{1,64}")


def check_root_format(layout: Layout) -> None:
    """Check that this program may read and write the root folder.

    Raises SettingsError for a format higher than ``FORMAT`` and for a damaged ``mirror.json``,
    MachineFault when the file cannot be read.
    """
    _read(layout)


def record_root_format(layout: Layout) -> None:
    """Write this program's format and, where there is none, a new id. For the holder of the update lock.

    A file with both is left as it is; all other keys are kept. What format 1 alone has is removed.
    Raises as ``check_root_format``, and MachineFault when the format of a mirror with state cannot be raised.
    """
    stated = _read(layout) or {}
    if stated.get("format") == FORMAT and "id" in stated:
        return
    content = json.dumps({"id": secrets.token_hex(8)} | stated | {"format": FORMAT}) + "\n"
    try:
        write_whole(layout.root_format, content.encode())
    except OSError as error:
        # The next run writes it again, so a full disk is no error; but a program for an earlier format must
        # not take a mirror for its own that has files which it does not keep.
        if stated.get("format", 1) < FORMAT and layout.state_products():
            raise machine_fault("raising the format of the mirror", error) from error
    if stated.get("format", 1) < FORMAT:
        # A program for format 1 coordinated its workers here.
        shutil.rmtree(layout.root / "assistants", ignore_errors=True)


def mirror_id(layout: Layout) -> str:
    """Return the id of the mirror; empty before its first run. Raises as ``check_root_format``."""
    return str((_read(layout) or {}).get("id", ""))


def short_id(layout: Layout) -> str:
    """Return 8 hex digits that stand for this mirror where several mirrors meet, as in Luigi's scheduler.

    They are made from the id and the path of the root folder: a copy of a whole mirror has the same id, and
    another path. Raises as ``check_root_format``.
    """
    return short_digest(f"{mirror_id(layout)} {layout.root}")[:8]


def _read(layout: Layout) -> dict[str, Any] | None:
    """Return the content of ``mirror.json``, None where there is none. Raises as ``check_root_format``."""
    path = layout.root_format
    try:
        stated = _valid(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise machine_fault("reading the format of the mirror", error) from error
    if stated is None:
        raise SettingsError(
            f'{path}: expected a JSON object such as {{"format": {FORMAT}}}, the file is damaged. Restore it '
            "from a backup, or delete it if no newer version has worked on this mirror; nothing was started."
        )
    if stated["format"] > FORMAT:
        raise SettingsError(
            f"{path}: the mirror is of format {stated['format']}, this program supports formats up to "
            f"{FORMAT}. Use a newer version of ipp-mirror; nothing was started."
        )
    return stated


def _valid(content: bytes) -> dict[str, Any] | None:
    """Return the object in ``mirror.json``; None where its format or its id is none."""
    try:
        stated: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None
    number = stated.get("format") if isinstance(stated, dict) else None
    if type(number) is not int or number < 1:
        return None
    found = stated.get("id", "absent")
    valid: dict[str, Any] | None = stated if isinstance(found, str) and _ID.fullmatch(found) else None
    return valid
