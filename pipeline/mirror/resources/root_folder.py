"""Root folder of a mirror: made where it is absent, or checked that it can be."""

import errno
import os
import pwd
import tempfile
from pathlib import Path

from pipeline.errors import SettingsError


def make_root(root: Path, config: Path) -> None:
    """Make the folder and its ``state/``, unless they are there. Raises SettingsError if that cannot be."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / "state").mkdir(exist_ok=True)
        writable = os.access(root / "state", os.W_OK | os.X_OK)
        problem = "" if writable else f"no permission to write ({_owner(root / 'state')})"
    except FileExistsError:
        problem = os.strerror(errno.ENOTDIR)
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise _unwritable(root, config, problem)


def _owner(folder: Path) -> str:
    """Return whose the folder is, beside the user of this process where that is another one."""
    owner, user = folder.stat().st_uid, os.geteuid()
    if owner == user:
        return f"it belongs to this user, {_name(user)}"
    return f"it belongs to user {_name(owner)}, this is user {_name(user)}"


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


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
