"""File systems of a mirror: folders below its root may be links to other disks, or mounts of them."""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.durable import can_flush_folders
from pipeline.errors import SettingsError
from pipeline.mirror.state.layout import Layout

log = logging.getLogger(__name__)
# File systems in Linux's list of mounts, without ``fuse.``, that several hosts use at once.
_SHARED_KINDS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "gfs2", "ocfs2"),
        *("glusterfs", "sshfs", "orangefs", "virtiofs"),
    }
)


def nearest_folder(folder: Path) -> Path:
    """Return the folder (an absolute path), or that of its parents in which it will be made."""
    return next(existing for existing in (folder, *folder.parents) if existing.is_dir())


def is_reachable(folder: Path) -> bool:
    """Return True for a folder; False too where its disk does not answer, or this user may not look."""
    return os.path.isdir(folder)  # noqa: PTH112  (Path.is_dir would raise OSError)


def check_file_systems(layout: Layout) -> None:
    """Check that a fileset can be renamed from ``incoming/`` to ``store/``, in each product that is here.

    Nothing is written for the check. Raises SettingsError.
    """
    for product in ("", *sorted(_products(layout))):
        store, incoming = layout.store_root / product, layout.root / "incoming" / product
        if (layout.volumes / product).is_symlink() and not incoming.is_symlink():
            # The holder of the lock makes the link anew.
            continue
        if _mount(store) != _mount(incoming):
            raise SettingsError(
                f"{store} and {incoming} lie on two file systems, or on two mounts, between which a complete "
                "fileset cannot be renamed. Make both of them links to folders of one mounted disk, or mount "
                f"the disk at {layout.root}; data/, info/, state/, status/ and log/ may lie on other disks. "
                "Nothing was started."
            )


def log_missing_flush(layout: Layout) -> None:
    """Log each file system of the mirror that cannot flush folders: what a power cut may cost there."""
    folders = (layout.lock_file.parent, layout.store_root, *layout.data_folders())
    by_device = {nearest.stat().st_dev: nearest for nearest in map(nearest_folder, folders)}
    for folder in by_device.values():
        # What else is wrong with the folder is reported by the step that meets it.
        with suppress(OSError):
            if not can_flush_folders(folder):
                log.debug(
                    "%s: this file system cannot flush folders. A power cut may take files that were "
                    "complete: run `ipp-mirror verify --repair` after one.",
                    folder,
                )


def is_shared(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Return True if the file lies on a file system that several hosts may have mounted.

    ``mounts`` is the kernel's list of mounts (proc(5)). Where there is none, the answer is False.
    """
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    kinds = {line.partition(" - ")[2].split(" ")[0] for line in lines if line.split(" ")[2] == number}
    return any(kind.removeprefix("fuse.") in _SHARED_KINDS for kind in kinds)


def _products(layout: Layout) -> Iterator[str]:
    """Yield the names of the folders of products in ``store/``: each may be a link or a mount."""
    with suppress(OSError), os.scandir(layout.store_root) as entries:
        yield from (entry.name for entry in entries if entry.is_dir())


def _mount(folder: Path) -> tuple[int, str]:
    """Return device and mount of the nearest folder that exists; the kernel renames within one mount only.

    Mounts of one device (bind mounts) are told apart by the mount id in Linux's ``/proc``.
    """
    descriptor = os.open(nearest_folder(folder), os.O_PATH)
    try:
        device, mount = os.fstat(descriptor).st_dev, ""
        with suppress(OSError):
            lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii").splitlines()
            mount = next((line for line in lines if line.startswith("mnt_id:")), "")
        return device, mount
    finally:
        os.close(descriptor)
