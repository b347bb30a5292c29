"""Settings of a new mirror, as text: the commented file ``mirror.yaml`` of this package, filled in."""

import re
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import yaml

from pipeline.datastore.listing import ProductRow
from pipeline.names import escaped, is_usable


def new_settings(
    url: str,
    root: Path,
    products: Sequence[str] | None = None,
    listed: Sequence[ProductRow] = (),
) -> str:
    """Return the settings of a mirror of the Data Store at ``url`` as commented YAML.

    ``listed`` are the products of the root listing: each is an entry with a comment on what it is, those that
    are not among ``products`` are commented out. Products that are not listed are hidden ones. ``products``
    None stands for all that are listed. The values are not checked.
    """
    names = [row.name for row in listed]
    chosen = products or [name for name in names if is_usable(name)]
    hidden = [name for name in chosen if listed and name not in names]
    text = files("pipeline").joinpath("mirror.yaml").read_text("utf-8")
    text = _filled(text, r"  url: .*\n", f"  url: {_scalar(url)}\n")
    text = _filled(text, r"  root: .*\n", f"  root: {_scalar(str(root))}\n")
    text = _filled(text, r"  hidden_products: .*\n", f"  hidden_products: [{_sequence(hidden)}]\n")
    lines = "".join(f"    {line}\n" for line in _product_lines(chosen, listed))
    return _filled(text, r"  products:\n(    - .*\n)+", f"  {'' if chosen else '# '}products:\n{lines}")


def _product_lines(chosen: Sequence[str], listed: Sequence[ProductRow]) -> Iterator[str]:
    for row in listed:
        if is_usable(row.name):
            newest = f"newest {row.most_recent} of {row.registered}" if row.most_recent else "no filesets"
            yield escaped(f"# {row.description} ({row.type}), {newest}")
            yield f"{'' if row.name in chosen else '# '}- {_scalar(row.name)}"
    known = {row.name for row in listed}
    for name in chosen:
        if name not in known:
            if listed:
                yield "# Not listed at the root."
            yield f"- {_scalar(name)}"


def _filled(text: str, pattern: str, lines: str) -> str:
    """Return the text with the lines that match replaced. Raises ValueError when there are none."""
    filled, count = re.subn(rf"(?m)^{pattern}", _as_is(lines), text, count=1)
    if not count:
        raise ValueError(f"expected a line {pattern!r} in the template of the settings")
    return filled


def _as_is(lines: str) -> Callable[[re.Match[str]], str]:
    return lambda _: lines


def _sequence(values: Sequence[str]) -> str:
    return ", ".join(_scalar(value) for value in values)


def _scalar(value: str) -> str:
    """Return the text as a YAML scalar on one line, quoted where YAML would read something else."""
    return yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True).strip()[1:-1]
