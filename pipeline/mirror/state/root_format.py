"""Format number of a mirror's root folder: ``ROOT/mirror.json``.

A program must not touch a root folder of a higher format than its own, in which files may have another
meaning. A root folder without the file is of format 1.
"""

import contextlib
import json
from typing import Any

from pipeline.durable import write_whole
from pipeline.errors import SettingsError, machine_fault
from pipeline.mirror.state.layout import Layout

FORMAT = 1


def check_root_format(layout: Layout) -> None:
    """Check that this program may read and write the root folder.

    Raises SettingsError for a format higher than ``FORMAT`` and for a damaged ``mirror.json``,
    MachineFault when the file cannot be read.
    """
    path = layout.root_format
    try:
        found = _format_in(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise machine_fault("reading the format of the mirror", error) from error
    if found is None:
        raise SettingsError(
            f'{path}: expected a JSON object such as {{"format": {FORMAT}}}, the file is damaged. Restore it '
            "from a backup, or delete it if no newer version has worked on this mirror; nothing was started."
        )
    if found > FORMAT:
        raise SettingsError(
            f"{path}: the mirror is of format {found}, this program supports formats up to {FORMAT}. "
            "Use a newer version of ipp-mirror; nothing was started."
        )


def record_root_format(layout: Layout) -> None:
    """Write ``mirror.json`` where there is none. For the holder of the update lock.

    An existing file is left as it is, with all other keys in it. Raises as ``check_root_format``.
    """
    check_root_format(layout)
    if not layout.root_format.exists():
        # Without the file the root folder is of format 1 all the same, so a full disk is no error.
        with contextlib.suppress(OSError):
            write_whole(layout.root_format, (json.dumps({"format": FORMAT}) + "\n").encode())


def _format_in(content: bytes) -> int | None:
    """Return the format number that the content of ``mirror.json`` states; None where it states none."""
    try:
        stated: Any = json.loads(content)
    except ValueError:
        return None
    number = stated.get("format") if isinstance(stated, dict) else None
    return number if type(number) is int and number > 0 else None
