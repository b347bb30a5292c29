"""Answers of the catalog on standard output."""

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tasks.commands.options import json_option
from tasks.commands.types import Word
from tasks.runtime.streams import output_error

if TYPE_CHECKING:
    from pipeline.catalog.columns import Column

# Pieces that are written at once; between them a reader that has gone is noticed.
_BLOCK = 500
T = TypeVar("T")


def format_option(*more: str) -> Callable[[Any], Any]:
    """Return a decorator that adds ``--format`` and ``--json``; ``more`` are formats beside the usual ones.

    The parameter of the command is ``output_format``.
    """

    def decorate(function: Any) -> Any:
        @wraps(function)
        def with_format(*arguments: Any, output_format: str, as_json: bool, **others: Any) -> Any:
            if as_json and output_format not in {"table", "json"}:
                raise click.UsageError(f"--json and --format {output_format} exclude each other")
            return function(*arguments, output_format="json" if as_json else output_format, **others)

        return by_name(json_option(with_format))

    by_name = click.option(
        "--format",
        "output_format",
        type=Word(["table", "csv", "json", "votable", *more]),
        default="table",
        show_default=True,
        help="Form of the answer.",
    )
    return decorate


def print_rows(
    output_format: str,
    columns: "list[Column]",
    rows: Iterator[Any],
    left_out: Iterable[tuple[str, ...]] = (),
) -> bool:
    """Print the rows, and return True if there was one. A table without rows is nothing at all.

    A table leaves out columns of ``left_out`` where a terminal is too narrow.
    """
    from pipeline.catalog.formats import TEXT_FORMATS, as_table

    first = list(islice(rows, 1))
    rows = chain(first, rows)
    if output_format != "table":
        print_pieces(TEXT_FORMATS[output_format](columns, rows))
    elif first:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print_pieces(as_table(columns, rows, width, left_out))
    return bool(first)


def print_pieces(pieces: Iterable[str]) -> bool:
    """Print pieces of text until the reader has gone; return True if there was one."""
    pieces = iter(pieces)
    is_any = False
    while block := "".join(islice(pieces, _BLOCK)):
        is_any = True
        click.echo(block, nl=False)
        if output_error():
            break
    return is_any
