"""Disk with a set rate of writing: a throttled loop device on an image in memory-backed storage.

The disk needs root, loop devices, and the block throttling of cgroup version 1.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_THROTTLE = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")


def missing() -> str | None:
    """Return what the disk needs and this machine lacks; None when nothing is missing."""
    if os.geteuid() != 0:
        return "root"
    return None if os.access(_THROTTLE, os.W_OK) and Path("/dev/loop-control").exists() else str(_THROTTLE)


@contextmanager
def slow_disk(folder: Path, size: int, rate: int) -> Iterator[Path]:
    """Yield a folder on a new ext4 disk of ``size`` bytes that writes ``rate`` bytes/s.

    The image of the disk is in ``folder``.

    Raises CalledProcessError or OSError.
    """
    image, mounted = folder / "slow-disk.img", folder / "slow-disk"
    with ExitStack() as afterwards:
        afterwards.callback(image.unlink, missing_ok=True)
        with open(image, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        device = _output("losetup", "--find", "--show", str(image)).strip()
        afterwards.callback(_output, "losetup", "--detach", device)
        # The whole file system at once: nothing is initialized in the background.
        _output("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)
        mounted.mkdir(exist_ok=True)
        afterwards.callback(mounted.rmdir)
        _output("mount", device, str(mounted))
        afterwards.callback(_output, "umount", str(mounted))
        number = Path(f"/sys/class/block/{Path(device).name}/dev").read_text().strip()
        _THROTTLE.write_text(f"{number} {rate}")
        afterwards.callback(_THROTTLE.write_text, f"{number} 0")
        yield mounted


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
