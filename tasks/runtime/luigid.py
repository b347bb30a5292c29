"""``python -m tasks.runtime.luigid``: luigid and its page, with a ``MirrorScheduler``."""

import luigi.server
from luigi.cmdline import luigid

from tasks.runtime.schedulers import MirrorScheduler


def main() -> None:
    """Serve until stopped."""
    luigi.server.Scheduler = MirrorScheduler  # type: ignore[attr-defined]
    luigid()


if __name__ == "__main__":
    main()
