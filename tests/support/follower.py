"""A mirror that follows a served store."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from support.command import Ended, ended
from support.trees import tree


@dataclass
class Follower:
    """A mirror of the served store, updated as a person does it: with the ``luigi`` command."""

    folder: Path
    url: str
    source: dict[str, object] = field(default_factory=dict)
    mirror: dict[str, object] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "mirror"

    @property
    def config(self) -> Path:
        path = self.folder / "mirror.yaml"
        settings = {
            "source": {"url": self.url, "retry_pause": 0.02, "timeout": 5} | self.source,
            "mirror": {"root": str(self.root)} | self.mirror,
        }
        path.write_text(json.dumps(settings))
        return path

    def command(self, *more: str) -> list[str]:
        """The update as a command line."""
        luigi = [str(Path(sys.executable).with_name("luigi")), "--module", "tasks", "UpdateMirror"]
        return [*luigi, "--mirror-config", str(self.config), "--local-scheduler", *more]

    def update(self, *more: str) -> Ended:
        """Run one update."""
        return ended(self.command(*more))

    def marked(self, step: str, product: str) -> set[str]:
        """The filesets that have a marker of that step."""
        return {path.stem for path in (self.root / "state" / product / step).glob("*.json")}

    def content(self, folder: str) -> dict[str, bytes]:
        """Every file below one folder of the root."""
        return tree(self.root / folder)
