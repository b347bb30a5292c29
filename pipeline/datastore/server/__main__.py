"""``python -m pipeline.datastore.server``: serve a publisher's folder as a Data Store."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.datastore.server import DataStoreApp, PublishedTree, run
from pipeline.errors import EXIT_DONE, EXIT_SETTINGS_OR_BUG, SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Return the exit code."""
    parser = build_parser("pipeline.datastore.server", "serve a folder as a Data Store")
    options = parser.parse_args(arguments)
    return serve_or_complain(
        options,
        lambda: run(
            DataStoreApp(PublishedTree(options.store, options.hidden)), host=options.host, port=options.port
        ),
    )


def build_parser(module: str, description: str) -> argparse.ArgumentParser:
    """Return a parser of the options of a server: the folder, the address, hidden products."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument(
        "--store", type=Path, required=True, metavar="FOLDER", help="tree PRODUCT/FILESET/{index.txt,files}"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="0: a free one (default: %(default)s)")
    parser.add_argument(
        "--hidden",
        action="append",
        default=[],
        metavar="PRODUCT",
        help="serve but do not list it; repeatable",
    )
    return parser


def serve_or_complain(options: argparse.Namespace, serve: Callable[[], None]) -> int:
    """Call ``serve``; print the reason when the server cannot start. Return the exit code."""
    try:
        if not options.store.is_dir():
            raise SettingsError(f"Nothing to serve: expected a folder at {options.store}")
        serve()
    except SettingsError as error:
        print(f"{error}. Nothing was started.", file=sys.stderr)
        return EXIT_SETTINGS_OR_BUG
    except OSError as error:
        print(f"Cannot listen on {options.host} port {options.port}: {error.strerror}.", file=sys.stderr)
        return EXIT_SETTINGS_OR_BUG
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
