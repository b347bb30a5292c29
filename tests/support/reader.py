"""A site that follows a mirror by its listings."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.mirror.state.layout import Layout
from pipeline.serving import MirrorTree


@dataclass
class Reader:
    """Site that follows the mirror, and asks for the filesets behind the last but one that it has."""

    root: Path
    products: tuple[str, ...]
    # Registrations by name for each product, in the order in which they are listed.
    has: dict[str, dict[str, str]] = field(default_factory=dict)
    whole_lists: int = 0

    def read(self) -> None:
        """Ask for new filesets; for the whole list where the answer lacks the newest fileset."""
        tree = MirrorTree(Layout(self.root))
        for product in self.products:
            has = self.has.get(product, {})
            *_, since, newest = [None, None, *has]
            rows = _rows(tree.product_listing(product, since)) if since else {}
            if newest is None or rows.get(newest) != has[newest]:
                self.has[product] = _rows(tree.product_listing(product))
                self.whole_lists += 1
            else:
                self.has[product] = {name: has[name] for name in has if name not in rows} | rows


def _rows(listing: bytes | None) -> dict[str, str]:
    """Return the registrations in a listing by name."""
    lines = [line for line in (listing or b"").decode().splitlines() if "|" in line and line[0] != "#"]
    return {name.strip(): registered.strip() for name, registered, *_ in (line.split("|") for line in lines)}
