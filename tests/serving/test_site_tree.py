"""A site as one Data Store: its mirror, and its own products beside."""

from pathlib import Path

import pytest
from support.arrivals import Holding, row
from support.wire import ask

from pipeline.datastore.server import DataStoreApp, serve
from pipeline.mirror.state.layout import Layout
from pipeline.publishing import Publisher
from pipeline.serving import MirrorTree, OwnTree, SiteTree


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A mirror with product p, which has one fileset."""
    holding = Holding(Layout(tmp_path / "mirror"))
    one = row("one", 0)
    holding.know(one)
    holding.arrivals.settle("p")
    holding.arrive(one, b"x")
    return holding.layout


def serve_site(layout: Layout, *hidden: str):
    tree = SiteTree(MirrorTree(layout, hidden), OwnTree(layout.published, hidden))
    return serve(DataStoreApp(tree))


def names(body: bytes) -> list[str]:
    return [line.split(b"|")[0].strip().decode() for line in body.splitlines()[1:] if line.strip()]


def test_own_products_come_and_go_beside_the_mirrored_ones(layout, tmp_path):
    (tmp_path / "own.txt").write_bytes(b"own")
    publisher = Publisher(layout.published)
    with serve_site(layout) as server:
        assert names(ask(server, "/index.txt").body) == ["p"]
        publisher.add_product("mine", "table", "Own tables")
        publisher.publish("mine", "m.1", [tmp_path / "own.txt"])
        publisher.publish("mine", "m.2", [tmp_path / "own.txt"])
        root = ask(server, "/index.txt").body
        assert names(root) == ["p", "mine"]
        assert [cell.strip() for cell in root.splitlines()[2].split(b"|")[:2]] == [b"mine", b"m.2"]
        assert names(ask(server, "/mine/index.txt").body) == ["m.1", "m.2"]
        assert names(ask(server, "/mine/index.txt?m.1").body) == ["m.2"]
        assert ask(server, "/mine/m.2/own.txt").body == b"own"
        assert b"own.txt" in ask(server, "/mine/m.2/").body
        assert names(ask(server, "/p/index.txt").body) == ["one"]
        publisher.withdraw("mine", "m.2")
        assert names(ask(server, "/mine/index.txt").body) == ["m.1"]
        assert ask(server, "/mine/index.txt?m.2").body == b"\n"
        assert ask(server, "/mine/m.2/index.txt").status == 404
        assert ask(server, "/mine/.lock").status == 404


def test_hidden_own_products_are_served_and_not_listed(layout, tmp_path):
    Publisher(layout.published).add_product("mine", "table", "")
    with serve_site(layout, "mine") as server:
        assert names(ask(server, "/index.txt").body) == ["p"]
        assert ask(server, "/mine/index.txt").status == 200


def test_an_own_product_hides_a_mirrored_one_of_its_name(layout, tmp_path):
    Publisher(layout.published).add_product("p", "table", "")
    with serve_site(layout) as server:
        assert names(ask(server, "/index.txt").body) == ["p"]
        assert names(ask(server, "/p/index.txt").body) == []
        assert ask(server, "/p/one/index.txt").status == 404
