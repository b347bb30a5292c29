"""Files that several filesets hold: in the end each has the bytes of the fileset that was registered last.

Filesets come, are registered again with other files, and are deleted, in a random order.
"""

from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest
from support.follower import Follower
from support.upstream import Upstream

from pipeline.mirror.context import RunContext, open_context
from pipeline.mirror.resources.rate_limit import RateLimit
from pipeline.mirror.state.layout import MarkerKind
from pipeline.mirror.state.markers import Fileset, fresh_marker
from pipeline.mirror.steps.download import download_fileset
from pipeline.mirror.steps.extract import EXTRACT, extract_fileset, remove_unpacked, supersede
from pipeline.mirror.steps.verify import verify_unpacked
from tasks.steps import STEPS

FILESETS = [("p", "o1.chip"), ("p", "o2.chip"), ("q", "o1.chip"), ("q", "o1.warp"), ("q", "o1.diff")]
MEMBERS = ["a.fits", "b.fits", "deep/a.fits", "deep/b.fits"]
FOLDER = "gpc1/MD01"
CHANGES = 25
# A fileset whose file is replaced may have to be unpacked again, and so may the next one.
ROUNDS_AT_MOST = len(FILESETS) + 1


@dataclass
class Model:
    """Published filesets, and the mirror that follows: ``held`` are registrations with their files."""

    upstream: Upstream
    context: RunContext
    random: Random
    held: dict[tuple[str, str], tuple[Fileset, dict[str, bytes]]] = field(default_factory=dict)
    contents: count = field(default_factory=count)

    def change(self) -> None:
        """Register a fileset or delete one, without unpacking the others that become pending."""
        key = self.random.choice(FILESETS)
        if key in self.held and self.random.random() < 0.4:
            self._delete(key)
        else:
            self._register(key)

    def _register(self, key: tuple[str, str]) -> None:
        members = self.random.sample(MEMBERS, self.random.randrange(1, len(MEMBERS) + 1))
        files = {name: b"%d" % (next(self.contents) if self.random.random() < 0.8 else 0) for name in members}
        self.upstream.add_bundles(*key, {"XY01": files})
        fileset = Fileset(*key, self.upstream.products[key[0]][key[1]][1])
        layout = self.context.layout
        if layout.marker(MarkerKind.EXTRACTED, *key).exists():
            supersede(layout, EXTRACT, fileset)
        self.held[key] = (
            fileset,
            {f"{FOLDER}/{key[1].split('.')[0]}.XY01/{name}": files[name] for name in files},
        )
        download_fileset(self.context, fileset, lambda *_: None)

    def _delete(self, key: tuple[str, str]) -> None:
        fileset, _ = self.held.pop(key)
        remove_unpacked(self.context, fileset)
        for kind in (MarkerKind.EXTRACTED, MarkerKind.SUPERSEDED):
            self.context.layout.marker(kind, *key).unlink(missing_ok=True)

    def settle(self) -> None:
        """Unpack what is pending, in any order, until nothing is."""
        for _ in range(ROUNDS_AT_MOST):
            pending = [fileset for fileset, _ in self.held.values() if not self._is_unpacked(fileset)]
            if not pending:
                return
            for fileset in self.random.sample(pending, len(pending)):
                extract_fileset(self.context, fileset, lambda *_: None)
        raise AssertionError("filesets make each other pending for ever")

    def _is_unpacked(self, fileset: Fileset) -> bool:
        return fresh_marker(self.context.layout, MarkerKind.EXTRACTED, fileset) is not None

    def expected(self) -> dict[str, bytes]:
        """The files of ``data/``: those of later filesets over those of earlier ones."""
        files: dict[str, bytes] = {}
        for _, its in sorted(self.held.values(), key=lambda each: each[0].registered):
            files |= its
        return files


@pytest.mark.parametrize("seed", [4, 17])
def test_in_the_end_each_file_is_that_of_the_fileset_registered_last(
    seed, upstream: Upstream, follower: Follower
):
    random = Random(seed)
    with open_context(follower.config, STEPS, lambda _: None) as context:
        model = Model(upstream, context, random)
        for turn in range(CHANGES):
            for _ in range(random.randrange(1, 4)):
                model.change()
            model.settle()
            assert follower.content("data") == model.expected(), f"seed {seed}, turn {turn}"
            for fileset, _ in model.held.values():
                assert list(verify_unpacked(context, fileset, RateLimit(None))) == []
