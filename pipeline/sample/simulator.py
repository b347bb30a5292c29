"""``python -m pipeline.sample.simulator``: serve a folder tree, or a mirror, as a Data Store."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.datastore.server.app import create_app, run
from pipeline.errors import EXIT_DONE, EXIT_SETTINGS_OR_BUG, SettingsError
from pipeline.sample.faults import NAMED, named


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    asked = _parser().parse_args(arguments)
    folder = asked.store or asked.mirror
    if not folder.is_dir():
        print(f"Nothing to serve: expected a folder at {folder}. Nothing was started.", file=sys.stderr)
        return EXIT_SETTINGS_OR_BUG
    try:
        app = create_app(
            asked.store,
            mirror=asked.mirror,
            hidden=asked.hidden,
            faults=[named(fault) for fault in asked.fault],
            request_log=asked.request_log,
        )
        run(app, host=asked.host, port=asked.port)
    except SettingsError as error:
        print(f"{error}. Nothing was started.", file=sys.stderr)
        return EXIT_SETTINGS_OR_BUG
    except OSError as error:
        print(f"Cannot listen on {asked.host} port {asked.port}: {error.strerror}.", file=sys.stderr)
        return EXIT_SETTINGS_OR_BUG
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.sample.simulator", description=__doc__.split(": ", 1)[1]
    )
    tree = parser.add_mutually_exclusive_group(required=True)
    tree.add_argument("--store", type=Path, metavar="FOLDER", help="tree PRODUCT/FILESET/{index.txt,files}")
    tree.add_argument("--mirror", type=Path, metavar="ROOT", help="root folder of a mirror")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="0: a free one (default: %(default)s)")
    parser.add_argument(
        "--hidden",
        action="append",
        default=[],
        metavar="PRODUCT",
        help="serve it but do not list it; repeatable",
    )
    parser.add_argument("--request-log", type=Path, metavar="FILE", help="append a line for each request")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME[=TARGET]",
        help="misbehave; repeatable; TARGET is listings, files, everything or a pattern like '*/index.txt'; "
        f"NAME is one of {', '.join(NAMED)}",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
