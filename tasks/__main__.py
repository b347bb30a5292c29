"""What the Makefile calls: ``python -m tasks COMMAND``."""

import argparse
import csv
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import luigi.interface
from luigi.cmdline import luigi_run

from pipeline.config import read_settings
from pipeline.mirror.layout import Layout
from tasks.run import mirror, or_exit


def main(arguments: list[str]) -> None:
    """Run one command; ends with the exit codes of docs/guide.md."""
    parser = argparse.ArgumentParser(prog="python -m tasks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument(
        "--mirror-config", type=Path, help="settings file (default: [mirror] config in luigi.cfg)"
    )
    update_parser = commands.add_parser("update", parents=[config], help="one update of the mirror")
    update_parser.add_argument("--products", default="", help="only these products, as a,b")
    update_parser.add_argument("--workers", type=int, help="filesets in hand at once")
    update_parser.set_defaults(command=update)
    status_parser = commands.add_parser("status", parents=[config], help="how the mirror is")
    status_parser.set_defaults(command=status)
    chosen = parser.parse_args(arguments)
    chosen.command(chosen)


def update(chosen: argparse.Namespace) -> None:
    """One update, by the central scheduler when one answers, by a local one otherwise."""
    asked = ["--module", "tasks", "UpdateMirror"]
    if chosen.mirror_config:
        asked += ["--mirror-config", str(chosen.mirror_config)]
    if chosen.products:
        asked += ["--products", chosen.products]
    if chosen.workers:
        asked += ["--workers", str(chosen.workers)]
    url = _scheduler_url()
    if _answers(url):
        print(f"scheduler: {url}", flush=True)
    else:
        print(f"scheduler: local, as none answers at {url}", flush=True)
        asked.append("--local-scheduler")
    luigi_run(asked)


def status(chosen: argparse.Namespace) -> None:
    """Print the status files as tables."""
    settings = or_exit(lambda: read_settings(chosen.mirror_config or Path(mirror().config)))
    layout = Layout(settings.mirror.root)
    for path in (layout.product_status, layout.download_failures):
        if not path.exists():
            sys.exit(f"{path} is not there yet: no update has ended. Run one with: make update")
        _print_table(path)


def _print_table(path: Path) -> None:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    print(f"\n{path} ({len(rows) - 1} rows)")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (value.ljust(width) for value, width in zip(row, widths, strict=True))
        print("  " + "  ".join(cells).rstrip())


def _scheduler_url() -> str:
    core = luigi.interface.core()
    return core.scheduler_url or f"http://{core.scheduler_host}:{core.scheduler_port}/"


def _answers(url: str) -> bool:
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname or "", address.port or 80), timeout=2):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
