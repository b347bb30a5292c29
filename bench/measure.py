"""Measurement of one run of a command, and statistics of several."""

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class Run:
    """Wall and CPU ``seconds`` of a command and all its children; ``peak_bytes`` of the largest of them."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Spread:
    """Median of several values, the least and the greatest of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of one or more values."""
        return cls(statistics.median(values), min(values), max(values))


def run(command: Sequence[str], cwd: Path, log: Path) -> Run:
    """Run the command to its end. Raises RuntimeError, with the last output, when the command fails."""
    # Compiled modules are kept, as they are for every user.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    used = log.with_suffix(".used")
    launch = [sys.executable, "-I", "-S", str(_LAUNCHER), str(used), *command]
    with open(log, "wb") as output:
        subprocess.run(launch, cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT, check=True)
    code, seconds, cpu_seconds, peak_bytes = map(float, used.read_text().split())
    if code:
        tail = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with {code:.0f}:\n{tail}")
    return Run(seconds, cpu_seconds, int(peak_bytes))


def first_and_last_thousand(root: Path, product: str = "*") -> tuple[float, float]:
    """Return the milliseconds for each of the first and of the last thousand filesets of a mirror.

    Of less than two thousand, the halves. ``product`` is a name or a pattern.
    """
    done = sorted(path.stat().st_ctime_ns for path in root.glob(f"state/{product}/extracted/[!.]*.json"))
    count = min(1000, len(done) // 2)
    first, last = done[count - 1] - done[0], done[-1] - done[-count]
    return first / (count - 1) / 1e6, last / (count - 1) / 1e6


def disk_write_seconds(folder: Path, size: int) -> float:
    """Return the seconds to write ``size`` bytes to one file on the disk, flushed at the end."""
    path = folder / "written-by-dd"
    mebibytes = -(-size // (1 << 20))
    command = ["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={mebibytes}", "conv=fdatasync"]
    try:
        return run(command, folder, folder / "dd.log").seconds
    finally:
        path.unlink(missing_ok=True)


def md5_seconds(folder: Path) -> float:
    """Return the seconds that ``md5sum`` takes for all files of the folder, a process for each core."""
    command = f"find . -type f -print0 | xargs -0 -n 200 -P {os.cpu_count()} md5sum > /dev/null"
    return run(["sh", "-c", command], folder, folder.with_name("md5sum.log")).seconds
