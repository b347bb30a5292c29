"""A mirror that is served with a product on a disk of its own: which links are followed."""

import shutil
from pathlib import Path

import pytest
from support.arrivals import Holding, row
from support.wire import ask, write_tree

from pipeline.config import Settings
from pipeline.datastore.server import DataStoreApp, serve
from pipeline.mirror.resources.volumes import place_products
from pipeline.mirror.state.layout import Layout
from pipeline.serving import MirrorTree

LISTING = "/p/index.txt"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A mirror with two filesets of product p, which lies on a volume."""
    holding = Holding(Layout(tmp_path / "mirror"))
    (tmp_path / "disk").mkdir()
    mirror = {"root": str(holding.layout.root), "volumes": {"p": str(tmp_path / "disk")}}
    settings = Settings.model_validate({"source": {"url": "http://h"}, "mirror": mirror})
    place_products(holding.layout, settings, ["p"])
    rows = [row("one", 0), row("two", 1)]
    holding.know(*rows)
    holding.arrivals.settle("p")
    for each in rows:
        holding.arrive(each, b"xyz")
    write_tree(holding.layout.root, {"state/p/discovered.json": b"{}"})
    return holding.layout


@pytest.fixture
def server(layout):
    with serve(DataStoreApp(MirrorTree(layout))) as server:
        yield server


def names_listed(server, path=LISTING):
    return [line.split(b"|")[0].strip().decode() for line in ask(server, path).body.split(b"\n")[1:-2]]


def test_a_product_on_a_volume_is_served(layout, server):
    assert names_listed(server) == ["one", "two"]
    assert names_listed(server, "/index.txt") == ["p"]
    assert ask(server, "/p/one/a.fits").body == b"xyz"
    (layout.root / "store/p/two/a.fits").unlink()
    assert names_listed(server) == ["one"]


def test_the_disk_is_replaced_while_the_product_is_served(layout, server, tmp_path):
    assert names_listed(server) == ["one", "two"]
    shutil.copytree(tmp_path / "disk", tmp_path / "larger")
    shutil.rmtree(tmp_path / "disk")
    layout.volume("p").unlink()
    layout.volume("p").symlink_to(tmp_path / "larger/p")
    assert names_listed(server) == ["one", "two"]
    assert ask(server, "/p/one/a.fits").body == b"xyz"


def test_links_on_a_volume_lead_nowhere_outside_the_product(layout, server, tmp_path):
    write_tree(tmp_path, {"disk/secret/f/secret.fits": b"secret", "mirror/store/q/f/secret.fits": b"secret"})
    write_tree(tmp_path, {"disk/p/data/secret.fits": b"secret", "disk/p/mirror.id": b"secret"})
    folder = tmp_path / "disk/p/store/one"
    targets = ("disk/secret/f/secret.fits", "mirror/store/q/f/secret.fits", "disk/p/data/secret.fits")
    for number, target in enumerate(targets):
        (folder / f"out{number}.fits").symlink_to(tmp_path / target)
        assert ask(server, f"/p/one/out{number}.fits").status == 403, target
    (folder / "inside.fits").symlink_to("a.fits")
    assert ask(server, "/p/one/inside.fits").body == b"xyz"
    (tmp_path / "disk/p/store/leak").symlink_to(tmp_path / "disk/secret/f")
    assert ask(server, "/p/leak/index.txt").status == 404
    assert ask(server, "/p/leak/secret.fits").status == 403
    for path in ("/p/../data/secret.fits", "/p/one/../../mirror.id", "/q/../volumes/p/mirror.id"):
        assert ask(server, path).status in {400, 403, 404}, path


@pytest.mark.parametrize("linked", ["by the mirror", "by somebody", "to a disk that does not answer"])
def test_a_product_whose_disk_is_not_there_is_unknown_rather_than_empty(linked, layout, server, tmp_path):
    if linked == "by somebody":
        layout.volume("p").unlink()
        for folder in (layout.store_of("p"), layout.incoming_of("p")):
            folder.unlink()
            folder.symlink_to(tmp_path / "disk/p" / folder.parent.name)
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    if linked == "to a disk that does not answer":
        layout.volume("p").unlink()
        layout.volume("p").symlink_to(f"/{300 * 'x'}")
    assert ask(server, LISTING).status == 404
    assert ask(server, "/p/one/a.fits").status in {403, 404}
    assert ask(server, "/index.txt").status == 200
    assert names_listed(server, "/index.txt") == []


def test_a_link_of_somebody_is_not_followed(layout, server, tmp_path):
    layout.store_of("p").unlink()
    layout.store_of("p").symlink_to(tmp_path / "disk")
    assert ask(server, LISTING).status == 404
    assert names_listed(server, "/index.txt") == []
