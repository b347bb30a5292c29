"""What the Makefile calls: ``python -m tasks COMMAND``."""

import argparse
import csv
import getpass
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import luigi.interface
from luigi.cmdline import luigi_run

from pipeline.config import read_settings
from pipeline.errors import EXIT_SETTINGS_OR_BUG
from pipeline.mirror.layout import Layout
from pipeline.mirror.skip import skip_fileset, skipped, unskip_fileset
from tasks.run import mirror, or_exit


def main(arguments: list[str]) -> None:
    """Run one command; ends with the exit codes of docs/guide.md."""
    parser = argparse.ArgumentParser(prog="python -m tasks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument(
        "--mirror-config", type=Path, help="settings file (default: [mirror] config in luigi.cfg)"
    )
    workers = argparse.ArgumentParser(add_help=False)
    workers.add_argument("--workers", type=int, help="filesets in hand at once")
    update_parser = commands.add_parser("update", parents=[config, workers], help="one update of the mirror")
    update_parser.add_argument("--products", default="", help="only these products, as a,b")
    update_parser.set_defaults(command=update)
    assist_parser = commands.add_parser(
        "assist", parents=[config, workers], help="take part in the update that is running, from any host"
    )
    assist_parser.add_argument(
        "--scheduler-host", help="where the update's scheduler is (default: luigi.cfg)"
    )
    assist_parser.add_argument("--scheduler-port", type=int)
    assist_parser.set_defaults(command=assist)
    verify_parser = commands.add_parser(
        "verify", parents=[config, workers], help="check all that is here against listings and markers"
    )
    verify_parser.add_argument("--repair", action="store_true", help="fetch and unpack again what is damaged")
    verify_parser.add_argument("--rate", default="", help="read at most so much, as 50 MB/s")
    verify_parser.set_defaults(command=verify)
    status_parser = commands.add_parser("status", parents=[config], help="how the mirror is")
    status_parser.set_defaults(command=status)
    serve_parser = commands.add_parser("serve", parents=[config], help="serve the mirror to the next site")
    serve_parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    serve_parser.add_argument("--port", type=int, default=8080, help="0: a free one (default: %(default)s)")
    serve_parser.add_argument(
        "--hidden", action="append", default=[], metavar="PRODUCT", help="serve but do not list; repeatable"
    )
    serve_parser.set_defaults(command=serve)
    skip_parser = commands.add_parser("skip", parents=[config], help="give a fileset up")
    skip_parser.add_argument("--reason", required=True, help="why, for whoever asks later")
    skip_parser.set_defaults(command=skip)
    unskip_parser = commands.add_parser("unskip", parents=[config], help="let the next run try it again")
    unskip_parser.set_defaults(command=unskip)
    for fileset_parser in (skip_parser, unskip_parser):
        fileset_parser.add_argument("product")
        fileset_parser.add_argument("fileset")
    chosen = parser.parse_args(arguments)
    chosen.command(chosen)


def update(chosen: argparse.Namespace) -> None:
    """One update of the mirror."""
    _run(chosen, "UpdateMirror", *(["--products", chosen.products] if chosen.products else []))


def assist(chosen: argparse.Namespace) -> None:
    """Take part in the update that is running."""
    arguments = ["--module", "tasks", "UpdateMirror", "--assistant", *_common(chosen)]
    for option in ("scheduler_host", "scheduler_port"):
        if (value := getattr(chosen, option)) is not None:
            arguments += [f"--{option.replace('_', '-')}", str(value)]
    luigi_run(arguments)


def verify(chosen: argparse.Namespace) -> None:
    """One verification of the mirror."""
    repair = ["--repair"] if chosen.repair else []
    _run(chosen, "VerifyMirror", *repair, *(["--rate", chosen.rate] if chosen.rate else []))


def _run(chosen: argparse.Namespace, task: str, *arguments: str) -> None:
    """Run a task, by the central scheduler when one answers, by a local one otherwise."""
    asked = ["--module", "tasks", task, *arguments, *_common(chosen)]
    url = _scheduler_url()
    if _answers(url):
        print(f"scheduler: {url}", flush=True)
    else:
        print(f"scheduler: local, as none answers at {url}", flush=True)
        asked.append("--local-scheduler")
    luigi_run(asked)


def _common(chosen: argparse.Namespace) -> list[str]:
    """The options that all of them have, as Luigi knows them."""
    config = ["--mirror-config", str(chosen.mirror_config)] if chosen.mirror_config else []
    return config + (["--workers", str(chosen.workers)] if chosen.workers else [])


def status(chosen: argparse.Namespace) -> None:
    """Print the status files, and what is skipped, as tables."""
    layout = _layout(chosen)
    for path in (layout.product_status, layout.download_failures):
        if not path.exists():
            _refuse(f"{path} is not there yet: no update has ended. Run one with: make update")
        with open(path, newline="", encoding="utf-8") as file:
            _print_table(str(path), list(csv.reader(file)))
    given_up = [marker for product in layout.state_products() for marker in skipped(layout, product)]
    if given_up:
        columns = ("product", "fileset", "since", "by", "reason")
        _print_table("skipped", [columns, *([marker[column] for column in columns] for marker in given_up)])


def serve(chosen: argparse.Namespace) -> None:
    """Serve what the mirror holds, by the protocol of its own source, until SIGTERM or SIGINT."""
    # Only here: nothing else needs the server.
    from pipeline.serving import serve_mirror

    layout = _layout(chosen)
    if not layout.root.is_dir():
        _refuse(f"{layout.root} is not there yet: nothing to serve. Mirror something with: make update")
    try:
        serve_mirror(layout, host=chosen.host, port=chosen.port, hidden=chosen.hidden)
    except OSError as error:
        _refuse(f"cannot listen on {chosen.host} port {chosen.port}: {error.strerror}; choose another --port")


def skip(chosen: argparse.Namespace) -> None:
    """Give a fileset up; it makes no run fail any more."""
    layout = _layout(chosen)
    if not chosen.reason.strip():
        _refuse("skip: expected a reason (REASON=…), for whoever wonders later. Nothing was skipped.")
    by = getpass.getuser()
    or_exit(lambda: skip_fileset(layout, chosen.product, chosen.fileset, reason=chosen.reason, by=by))
    print(f"{chosen.product}/{chosen.fileset} is skipped until it is registered again, or unskipped.")


def unskip(chosen: argparse.Namespace) -> None:
    """Take a skip back."""
    layout = _layout(chosen)
    or_exit(lambda: unskip_fileset(layout, chosen.product, chosen.fileset))
    print(f"{chosen.product}/{chosen.fileset} is tried by the next run.")


def _refuse(sentence: str) -> NoReturn:
    print(f"ipp-mirror: {sentence}", file=sys.stderr)
    raise SystemExit(EXIT_SETTINGS_OR_BUG)


def _layout(chosen: argparse.Namespace) -> Layout:
    settings = or_exit(lambda: read_settings(chosen.mirror_config or Path(mirror().config)))
    return Layout(settings.mirror.root)


def _print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    print(f"\n{title} ({len(rows) - 1} rows)")
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
