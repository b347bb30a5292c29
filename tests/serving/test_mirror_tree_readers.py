"""Readers of a mirror, over the wire: none misses a fileset, and one that is up to date asks for little."""

import json
import os
import shutil
from pathlib import Path

import pytest
from support.arrivals import PRODUCT, Holding, row

from pipeline.datastore.listing import LeftOut
from pipeline.datastore.server import DataStoreApp, serve
from pipeline.mirror.context import open_context
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.steps.discover import discover_product
from pipeline.serving import MirrorTree
from tasks.steps import STEPS

FIRST = [row(name, second) for second, name in enumerate(["a", "b", "c", "d", "e"])]
LATE = row("late", 0)


class CountingApp(DataStoreApp):
    """Server of a mirror that counts the requests for whole product listings."""

    whole_lists = 0

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            self.whole_lists += scope["query_string"] == b""
        await super().__call__(scope, receive, send)


class Reader:
    """A mirror that reads the listings of the served one, and no files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layout = Layout(root)

    def read(self, mirror: Path) -> tuple[int, int]:
        """Discover once; return the numbers of new rows and of whole lists that were requested."""
        app = CountingApp(MirrorTree(Layout(mirror)))
        settings = self.root.with_suffix(".yaml")
        with serve(app) as server:
            settings.write_text(
                f"source: {{url: {server.url}, attempts: 1}}\nmirror: {{root: {self.root}}}\n"
            )
            with open_context(settings, STEPS, lambda _: None) as context:
                new = discover_product(context, PRODUCT, "run", whole=False, left_out=LeftOut())
        return new, app.whole_lists

    def names(self) -> set[str]:
        listing = LocalListing(self.layout, PRODUCT)
        return {row.name for row in listing.rows()} - self.layout.marked(MarkerKind.WITHDRAWN, PRODUCT)

    def copy(self, root: Path) -> "Reader":
        shutil.copytree(self.root, root)
        return Reader(root)


def nothing(root: Path) -> Path:
    return root


def chmod(root: Path) -> Path:
    for path in sorted(root.rglob("*")):
        path.chmod(0o755)
    return root


def chown(root: Path) -> Path:
    for path in sorted(root.rglob("*"), reverse=True):
        os.chown(path, os.getuid(), os.getgid())
    return root


def copy(root: Path) -> Path:
    """Another disk, times and all lost."""
    shutil.copytree(root, root.with_name("copy"), copy_function=shutil.copyfile)
    return root.with_name("copy")


def lose_order(root: Path) -> Path:
    (root / "state/p/arrivals.txt").unlink()
    return root


def damage_order(root: Path) -> Path:
    path = root / "state/p/arrivals.txt"
    path.write_bytes(path.read_bytes().replace(b"|3|", bytes(3)))
    return root


def make_earlier(root: Path) -> Path:
    """A mirror of a version that kept no order."""
    for second, name in enumerate(["a", "c", "d", "e", "late", "b"]):
        path = root / f"state/p/downloaded/{name}.json"
        marker = json.loads(path.read_bytes())
        del marker["arrival"]
        path.write_text(json.dumps(marker | {"finished": f"2026-11-26T00:00:{second:02}Z"}))
    return lose_order(root)


@pytest.fixture
def holding(tmp_path) -> Holding:
    """A mirror in which one fileset came first, and one came late that was registered before."""
    holding = Holding(Layout(tmp_path / "mirror"))
    holding.know(LATE, *FIRST)
    holding.arrivals.settle(PRODUCT)
    for each in (FIRST[0], FIRST[2]):
        holding.arrive(each)
    return holding


@pytest.mark.long
@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize(
    "disturb",
    [nothing, chmod, chown, copy, lose_order, damage_order, make_earlier],
    ids=lambda each: each.__name__,
)
def test_readers_of_a_disturbed_mirror(disturb, settled, holding, tmp_path):
    """Between the disturbance and the next update, or after that."""
    mirror = holding.layout.root
    up_to_date = Reader(tmp_path / "reader")
    assert up_to_date.read(mirror) == (2, 1)
    behind = up_to_date.copy(tmp_path / "behind")
    for each in (FIRST[3], FIRST[4], LATE, FIRST[1]):
        holding.arrive(each)
        assert up_to_date.read(mirror) == (1, 0)
    root = disturb(mirror)
    disturbed = Holding(Layout(root))
    if not settled and disturb not in {lose_order, damage_order, make_earlier}:
        assert up_to_date.read(root) == (0, 0)
    if not settled:
        assert behind.copy(tmp_path / "at once").read(root)[0] == 4
    disturbed.arrivals.settle(PRODUCT)
    whole_lists = [up_to_date.read(root) for _ in range(3)]
    assert [new for new, _ in whole_lists] == [0, 0, 0]
    assert sum(asked for _, asked in whole_lists) <= 1
    assert behind.read(root)[0] == 4
    disturbed.know(LATE, *FIRST, row("newest", 9))
    disturbed.arrive(row("newest", 9))
    everything = {"a", "b", "c", "d", "e", "late", "newest"}
    for reader in (up_to_date, behind):
        assert reader.read(root) == (1, 0)
        assert reader.names() == everything


def test_a_reader_with_another_order_takes_over_that_of_the_mirror(holding, tmp_path):
    """It asks for the whole list once, not each time."""
    reader = Reader(tmp_path / "reader")
    for each in (FIRST[1], FIRST[3]):
        holding.arrive(each)
    reader.read(holding.layout.root)
    rows = list(LocalListing(reader.layout, PRODUCT).rows())
    LocalListing(reader.layout, PRODUCT).replace([*rows[:2], rows[3], rows[2]])
    assert [reader.read(holding.layout.root) for _ in range(3)] == [(0, 1), (0, 0), (0, 0)]
    assert list(LocalListing(reader.layout, PRODUCT).rows()) == rows


def test_repaired_filesets_do_not_hide_what_came_before_the_repair(holding, tmp_path):
    """Two neighbours lose a file, and are entered again behind a fileset that the reader has not seen."""
    reader = Reader(tmp_path / "reader")
    holding.arrive(FIRST[1])
    reader.read(holding.layout.root)
    up_to_date = reader.copy(tmp_path / "up to date")
    holding.arrive(LATE)
    up_to_date.read(holding.layout.root)
    for each in (FIRST[2], FIRST[1]):
        (holding.layout.store(PRODUCT, each.name) / "a.fits").unlink()
    for each in (FIRST[2], FIRST[1]):
        holding.arrive(each)
    reader.read(holding.layout.root)
    assert reader.names() == {"a", "b", "c", "late"}
    up_to_date.read(holding.layout.root)
    assert up_to_date.names() == {"a", "b", "c", "late"}
    assert [up_to_date.read(holding.layout.root) for _ in range(2)] == [(0, 0), (0, 0)]


def test_what_was_withdrawn_for_a_while_reaches_those_that_came_meanwhile(holding, tmp_path):
    layout = holding.layout
    marker = layout.marker(MarkerKind.WITHDRAWN, PRODUCT, "a")
    for each in FIRST[3:]:
        holding.arrive(each)
    marker.parent.mkdir()
    marker.write_text('{"schema": 1}')
    reader = Reader(tmp_path / "reader")
    reader.read(layout.root)
    assert reader.names() == {"c", "d", "e"}
    holding.arrivals.enter_again(PRODUCT, ["a"])
    marker.unlink()
    assert reader.read(layout.root) == (1, 0)
    assert reader.names() == {"a", "c", "d", "e"}
