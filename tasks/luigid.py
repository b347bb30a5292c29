"""``python -m tasks.luigid``: luigid, with its options and its web page, and a ``MirrorScheduler`` in it."""

import sys

import luigi.server
from luigi.cmdline import luigid

from tasks.schedulers import MirrorScheduler


def main(arguments: list[str]) -> None:
    """Serve until stopped, with the options of luigid."""
    luigi.server.Scheduler = MirrorScheduler
    luigid(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
