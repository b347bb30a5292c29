"""``python -m tasks.runtime.luigid``: luigid as Luigi has it, with a ``MirrorScheduler`` in it."""

import luigi.server
from luigi.cmdline import luigid

from tasks.runtime.schedulers import MirrorScheduler


def main() -> None:
    """Serve until stopped."""
    luigi.server.Scheduler = MirrorScheduler
    luigid()


if __name__ == "__main__":
    main()
