"""``ipp-mirror adopt``."""

from pathlib import Path

import click

from tasks.commands.options import (
    config_option,
    console_options,
    products_option,
    read_layout,
    workers_option,
)
from tasks.commands.types import AnyPath, Word

_EXAMPLES = """\b
Examples:
  ipp-mirror adopt /panstarrs/data/MIRROR                 give the files there a second name here
  ipp-mirror adopt /panstarrs/data/MIRROR --by rename     … and remove their old names
  ipp-mirror adopt /mnt/old-disk/MIRROR --by copy         from another file system
"""


@click.command(epilog=_EXAMPLES)
@config_option
@click.option(
    "--by",
    type=Word(["link", "rename", "copy"]),
    default="link",
    show_default=True,
    help="How a verified file is taken over. Only `rename` changes FOLDER: it removes the old name "
    "once the fileset is complete here.",
)
@products_option
@workers_option
@console_options
@click.argument("folder", type=AnyPath())
def adopt(
    config: Path | None,
    by: str,
    products: str | None,
    workers: int | None,
    folder: Path,
    console: dict[str, str],
) -> None:
    """Take over a mirror made by update_mirror.py.

    FOLDER has the files in PRODUCT/FILESET. Filesets that it holds are completed here as by an update, but
    each file there that has the listed size and md5 is taken over, not fetched. All other files stay where
    they are. A stopped adoption is resumed by the same command; `ipp-mirror update` fetches what FOLDER
    does not hold.
    """
    from pipeline.mirror.steps.adopt import checked_folder
    from tasks.commands.luigi_command import run_task

    real = checked_folder(folder, read_layout(config).root)
    only = {"products": products} if products else {}
    run_task("AdoptMirror", {"folder": str(real), "by": by, **only}, config, workers, console)
