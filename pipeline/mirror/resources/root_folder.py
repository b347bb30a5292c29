"""Root folder of a mirror: made where it is absent, or checked that it can be."""

import errno
import os
import tempfile
from pathlib import Path

from pipeline.errors import SettingsError


def make_root(root: Path, config: Path) -> None:
    """Make the folder and its ``state/``, unless they are there. Raises SettingsError if that cannot be."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / "state").mkdir(exist_ok=True)
        writable = os.access(root / "state", os.W_OK | os.X_OK)
        problem = "" if writable else "no permission to write"
    except FileExistsError:
        problem = os.strerror(errno.ENOTDIR)
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise _unwritable(root, config, problem)


def check_new_root(root: Path, config: Path) -> None:
    """Check that a run could begin a mirror at ``root``, where there is none yet. Raises SettingsError.

    A folder is made in the nearest one that is there, and removed: nothing else tells of all file systems.
    """
    try:
        if (root / "state").is_dir():
            return
        nearest = next(path for path in (root, *root.parents) if os.path.lexists(path))
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        Path(tempfile.mkdtemp(dir=nearest)).rmdir()
    except OSError as error:
        raise _unwritable(root, config, error.strerror or str(error)) from None


def _unwritable(root: Path, config: Path, problem: str) -> SettingsError:
    return SettingsError(
        f"{config}: expected mirror.root to be a folder that can be written, got: {problem} at {root}. "
        "Correct the setting or the permissions; nothing was started."
    )
