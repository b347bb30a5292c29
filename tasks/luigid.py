"""``python -m tasks.luigid``: luigid, with its options and its web page, and a ``MirrorScheduler`` in it."""

import luigi.server
from luigi.cmdline import luigid

from tasks.schedulers import MirrorScheduler


def main() -> None:
    """Serve until stopped."""
    luigi.server.Scheduler = MirrorScheduler
    luigid()


if __name__ == "__main__":
    main()
