"""``python -m tasks.runtime.luigid``: Luigi's luigid, with a ``MirrorScheduler``."""

import sys

import luigi.server
from luigi.cmdline import luigid

from tasks.runtime.luigi_settings import use_defaults
from tasks.runtime.schedulers import MirrorScheduler


def main(arguments: list[str]) -> None:
    """Serve until stopped, with the options of luigid."""
    luigi.server.Scheduler = MirrorScheduler  # type: ignore[misc]
    use_defaults()
    luigid(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
