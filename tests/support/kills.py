"""Updates that are killed at one instant: strace kills them at the very call that touches a path."""

from dataclasses import dataclass
from hashlib import md5
from pathlib import Path

from support.follower import Follower
from support.running import started, until


@dataclass(frozen=True)
class Instant:
    """The first call of that kind on that path below the root; nothing of ``kept`` is fetched again after it.

    strace knows a rename by the old name.
    """

    call: str
    path: str
    kept: tuple[str, ...] = ()

    def killing(self, command: list[str], root: Path, trace: Path) -> list[str]:
        """The command, of which the process that makes that call is killed at its entry."""
        inject = f"inject={self.call}:signal=SIGKILL:when=1"
        which = ["-P", str(root / self.path), "-e", f"trace={self.call}", "-e", inject]
        return ["strace", "-f", "-o", str(trace), *which, *command]


def written(path: str, *kept: str) -> Instant:
    """A file that is written whole gets its name."""
    name = md5(Path(path).name.encode()).hexdigest()
    return Instant("rename", str(Path(path).with_name(f".{name}.writing")), kept)


def killed_at(instant: Instant, follower: Follower, log: Path) -> None:
    """Run an update that is killed at that instant, all its processes at once."""
    trace = log.with_suffix(".trace")
    with started(instant.killing(follower.command(), follower.root, trace), log) as update:
        until(lambda: was_killed(trace) or update.ended, "the instant does not come")
        assert was_killed(trace), f"the instant never came: {update.output}"
        update.kill()


def was_killed(trace: Path) -> bool:
    return trace.exists() and "+++ killed by SIGKILL" in trace.read_text()
