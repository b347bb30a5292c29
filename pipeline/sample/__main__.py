"""``python -m pipeline.sample OUT``: write a sample survey release as a store, or extend one."""

import argparse
import sys
import time
from dataclasses import fields
from pathlib import Path

from pipeline.errors import EXIT_DONE, MirrorError
from pipeline.sample.plan import ReleasePlan
from pipeline.sample.release import append_release, write_release

_HELP = {
    "exposures": "new exposures, each through all stages",
    "chips": "detector chips of an exposure, 1 to 60",
    "skycells": "sky cells of an exposure, 1 to 60",
    "image_size": "pixels on a side of every image",
    "stamps": "requests in the postage-stamp product",
    "seed": "of noise, stars and weather",
}


def main(arguments: list[str] | None = None) -> int:
    """Write or extend the store that the command line describes. Return the exit code."""
    chosen = vars(_parser().parse_args(arguments))
    out, append = chosen.pop("out"), chosen.pop("append")
    started = time.monotonic()
    try:
        summary = (append_release if append else write_release)(out, ReleasePlan(**chosen))
    except MirrorError as error:
        print(f"pipeline.sample: {error}", file=sys.stderr)
        return error.exit_code
    seconds = time.monotonic() - started
    print(f"{out}: {summary} in {seconds:.1f} s")
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline.sample", description=__doc__.partition(": ")[2])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the store")
    parser.add_argument("--append", action="store_true", help="extend the store at OUT with later exposures")
    for size in fields(ReleasePlan):
        option = f"--{size.name.replace('_', '-')}"
        parser.add_argument(
            option, type=int, default=size.default, help=f"{_HELP[size.name]} (default {size.default})"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
