"""A mirror that follows a served store."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from support.command import COMMAND, Ended, ended
from support.trees import tree

# The port of a service that is extinct: nobody listens there.
_NO_SCHEDULER = 1


@dataclass
class Follower:
    """A mirror of the served store, updated as cron does it, or with the ``luigi`` command."""

    folder: Path
    url: str
    source: dict[str, object] = field(default_factory=dict)
    mirror: dict[str, object] = field(default_factory=dict)
    # Each update would wait for the map of the sky and for the page.
    catalog: dict[str, object] = field(default_factory=lambda: {"coverage": False})
    # Publisher's tree that is served; None for a mirror of a mirror.
    served: Path | None = None

    @property
    def root(self) -> Path:
        return self.folder / "mirror"

    @property
    def config(self) -> Path:
        path = self.folder / "mirror.yaml"
        settings = {
            # However slow the machine is, no request is given up.
            "source": {"url": self.url, "retry_pause": 0.02, "timeout": 60} | self.source,
            "mirror": {"root": str(self.root), "page": False} | self.mirror,
            "catalog": self.catalog,
        }
        path.write_text(json.dumps(settings))
        return path

    def command(self, *more: str) -> list[str]:
        """The update as a command line of Luigi."""
        luigi = [str(Path(sys.executable).with_name("luigi")), "--module", "tasks", "UpdateMirror"]
        return [*luigi, "--mirror-config", str(self.config), "--local-scheduler", *more]

    def update(self, *more: str) -> Ended:
        """Run one update with a local scheduler; return its output without the line that says so.

        One that is refused has no such line.

        After one of everything that ends with 0, nothing may be left.
        """
        local = ["--scheduler-port", str(_NO_SCHEDULER)]
        result = ended([str(COMMAND), "update", "--config", str(self.config), *local, *more])
        if result.code == 0 and not more:
            assert self.left() == {}
        lines = result.output.splitlines(keepends=True)
        others = [line for line in lines if not line.startswith("scheduler: local")]
        refused = any(line.startswith("ipp-mirror: ") for line in lines)
        assert len(others) == len(lines) - 1 or refused, result.output
        return Ended(result.code, "".join(others))

    def left(self) -> dict[str, set[str]]:
        """Filesets that are known and wanted, and neither complete nor skipped, of products without select.

        Wanted is what the publisher's own tree lists, whatever the markers of withdrawn filesets say.
        """
        selecting = [each for each in self.mirror.get("products", []) if isinstance(each, dict)]
        names = {product["name"] for product in selecting}
        steps = ("downloaded", "extracted") if self.mirror.get("unpack", True) else ("downloaded",)
        left = {}
        for listing in (self.root / "state").glob("*/listing.txt"):
            product = listing.parent.name
            wanted = _listed(listing) & self._published(product)
            complete = set.intersection(*(self.marked(step, product) for step in steps))
            rest = wanted - complete - self.marked("skipped", product)
            if rest and product not in names:
                left[product] = rest
        return left

    def _published(self, product: str) -> set[str]:
        if self.served is None:
            known = _listed(self.root / "state" / product / "listing.txt")
            return known - self.marked("withdrawn", product)
        listing = self.served / product.removesuffix("~") / "index.txt"
        return _listed(listing) if listing.exists() else set()

    def marked(self, step: str, product: str) -> set[str]:
        """The filesets that have a marker of that step."""
        return {path.stem for path in (self.root / "state" / product / step).glob("*.json")}

    def content(self, folder: str) -> dict[str, bytes]:
        """Every file below one folder of the root."""
        return tree(self.root / folder)


def _listed(listing: Path) -> set[str]:
    lines = listing.read_text("latin-1").splitlines()
    return {line.split("|")[0].strip() for line in lines if line.strip() and line[0] != "#"}
