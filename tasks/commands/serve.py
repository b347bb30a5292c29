"""``ipp-mirror serve``."""

from pathlib import Path

import click

from pipeline.errors import SettingsError
from pipeline.names import escaped
from tasks.commands.options import cannot_listen, config_option, port_option, read_mirror
from tasks.commands.types import Text

_EXAMPLES = """\b
Examples:
  ipp-mirror serve                                  at http://127.0.0.1:8080/ds
  ipp-mirror serve --host 0.0.0.0 --port 8000       to other hosts too
"""


@click.command(epilog=_EXAMPLES)
@config_option
@click.option(
    "--host",
    type=Text(),
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on.",
)
@port_option(8080, "Port to listen on; 0 for a free one.")
@click.option(
    "--hidden",
    multiple=True,
    metavar="PRODUCT",
    help="Product to serve without listing it at the root, as those of source.hidden_products; repeatable.",
)
def serve(config: Path | None, host: str, port: int, hidden: tuple[str, ...]) -> None:
    """Serve the mirror as a Data Store.

    Other mirrors can name its address as their source. The server runs until SIGTERM or SIGINT, also while
    the mirror is updated.
    """
    from pipeline.mirror.resources.volumes import volume_problems
    from pipeline.serving import serve_mirror

    settings, layout = read_mirror(config)
    if not layout.root.is_dir():
        raise SettingsError(
            f"expected a mirror at {layout.root}, found none: nothing to serve. "
            "Create it with: ipp-mirror update"
        )
    for problem in volume_problems(layout, settings):
        click.echo(escaped(problem), err=True)
    try:
        serve_mirror(layout, host=host, port=port, hidden=[*hidden, *settings.source.hidden_products])
    except OSError as error:
        raise cannot_listen(host, port, "--host", error) from None
