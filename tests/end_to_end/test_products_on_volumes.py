"""Products on disks of their own: where their files lie, and what happens without the disk."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from support.catalog import catalog_of, image_bytes, rows
from support.command import ipp_mirror
from support.follower import Follower
from support.running import leftovers, tree_is_true
from support.trees import tree
from support.upstream import File, Upstream, served_filesets

from pipeline.datastore.server import DataStoreApp, serve
from pipeline.mirror.state.layout import Layout
from pipeline.serving import MirrorTree
from tasks.commands import ipp_mirror as ipp_mirror_group

PLACED, OTHER = "threepi-all-200908", "md-all-rel-200907"
UNPACKED = "gpc1/MD01/o1.XY01"


@pytest.fixture
def volume(follower: Follower, other_disk: Path) -> Path:
    """A folder on another disk, which the settings give to one of two products."""
    (other_disk / "ps1").mkdir()
    follower.mirror["volumes"] = {"threepi-*": str(other_disk / "ps1")}
    return other_disk / "ps1"


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    for product in (PLACED, OTHER):
        upstream.add_bundles(product, "o1.chip.1.1.1", {"XY01": {"a.fits": image_bytes()}})
    upstream.add(PLACED, "plain", [File("small.txt", b"s" * 70)])
    return upstream


def files_of(product: str, files: dict[str, bytes]) -> dict[str, bytes]:
    """The files of a product, by their paths in its folder."""
    return {
        path.removeprefix(f"{product}/"): content
        for path, content in files.items()
        if path.startswith(f"{product}/")
    }


def test_a_product_lies_on_its_volume(release, server, follower, volume, tmp_path):
    follower.mirror |= {"on_removed": "delete", "delete_at_most": 1}
    result = follower.update()
    assert result.code == 0, result.output
    served = served_filesets(release)
    assert tree(volume / PLACED / "store") == files_of(PLACED, served)
    assert follower.content(f"store/{OTHER}") == files_of(OTHER, served)
    unpacked = {f"{UNPACKED}/a.fits": image_bytes()}
    assert tree(volume / PLACED / "data") == follower.content("data") == unpacked
    (document,) = follower.content(f"info/{PLACED}/o1.chip.1.1.1").values()
    assert f"{follower.root}/volumes/{PLACED}/data/gpc1/MD01".encode() in document
    with serve(DataStoreApp(MirrorTree(Layout(follower.root)))) as serving:
        (tmp_path / "next").mkdir()
        following = Follower(tmp_path / "next", serving.url)
        assert following.update().code == 0
    assert following.content("store") == served
    # Registered again: what was unpacked is replaced.
    release.add_bundles(PLACED, "o1.chip.1.1.1", {"XY01": {"b.fits": b"B" * 500}})
    result = follower.update()
    assert result.code == 0, result.output
    assert tree(volume / PLACED / "store") == files_of(PLACED, served_filesets(release))
    assert tree(volume / PLACED / "data") == {f"{UNPACKED}/b.fits": b"B" * 500}
    assert follower.content("data") == unpacked
    tree_is_true(follower.root, PLACED, {"o1.chip.1.1.1", "plain"})
    assert leftovers(follower.root) == []
    assert list((volume / PLACED / "incoming").iterdir()) == []
    # What no fileset unpacked is found there too, and what is damaged is repaired.
    (volume / PLACED / "data" / "mine").write_text("mine")
    (volume / PLACED / "data" / UNPACKED / "b.fits").write_bytes(b"C" * 500)
    verified = ipp_mirror("verify", "--repair", "--config", follower.config)
    assert verified.returncode == 30
    assert f"volumes/{PLACED}/data/mine: unexpected: no fileset unpacked it" in verified.stderr
    assert "3 here: 2 sound, 1 repaired" in verified.stdout
    assert tree(volume / PLACED / "data")[f"{UNPACKED}/b.fits"] == b"B" * 500
    # Withdrawn: the folders that become empty are removed, but for that of the product.
    (volume / PLACED / "data" / "mine").unlink()
    release.withdraw(PLACED, "o1.chip.1.1.1")
    assert follower.update().code == 0
    assert list((volume / PLACED / "data").iterdir()) == []
    assert set(tree(volume / PLACED / "store")) == {"plain/index.txt", "plain/small.txt"}


def test_a_volume_that_is_not_mounted(release, server, follower, volume):
    follower.catalog["enabled"] = True
    result = follower.update()
    assert result.code == 0, result.output
    found = CliRunner().invoke(
        ipp_mirror_group, ["find", "--format", "paths", "--config", str(follower.config)]
    )
    paths = [Path(line) for line in found.output.splitlines()]
    assert {path.read_bytes() for path in paths} == {image_bytes()}
    places = (f"volumes/{PLACED}/data/{UNPACKED}", f"data/{UNPACKED}")
    assert set(paths) == {follower.root / place / "a.fits" for place in places}
    components = rows(catalog_of(follower.root), "SELECT DISTINCT component FROM member")
    assert components == [("XY01",)]
    # The holder of the lock makes lost links anew.
    for folder in ("store", "incoming"):
        (follower.root / folder / PLACED).unlink()
    rebuilt = ipp_mirror("catalog", "rebuild", "--config", follower.config)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert rebuilt.stdout.endswith("\n3 filesets cataloged.\n")
    volume.rename(volume.parent / "unmounted")
    server.clear()
    before = follower.content("state")
    result = follower.update()
    assert result.code == 40
    (sentence,) = result.output.splitlines()
    assert f"the volume {volume} is not mounted" in sentence
    assert server.requests == []
    assert follower.content("state") == before
    for command, code in {"status": 30, "plan": 40, "find": None}.items():
        arguments = [command, "--config", str(follower.config)]
        result = CliRunner().invoke(ipp_mirror_group, arguments, standalone_mode=False)
        assert (command, result.return_value) == (command, code), result.output
        assert f"the volume {volume} is not mounted" in " ".join(result.output.split()), command
    (volume.parent / "unmounted").rename(volume)
    assert follower.update().code == 0
    assert all("index.txt" in entry.target for entry in server.requests)


def test_a_volume_that_is_full_holds_up_its_products_alone(upstream, server, follower, volume):
    for number in range(40):
        upstream.add(PLACED, f"placed.{number}", [File("a.txt", b"a" * number)])
        upstream.add(OTHER, f"other.{number}", [File("a.txt", b"a" * number)])
    follower.source["connections"] = 2
    full = {"path": str(volume), "min_free": 10**17}
    placed = {"name": PLACED, "priority": 10}
    follower.mirror |= {"volumes": {PLACED: full}, "products": [placed, OTHER]}
    result = follower.update()
    assert result.code == 30
    assert f"{volume}: there was no disk space for 10 filesets in a row" in result.output
    failed = follower.marked("failed", PLACED)
    assert 10 <= len(failed) < 40
    left = 40 - len(failed)
    assert f"{len(failed)} of 40 pending filesets failed; {left} filesets not tried" in result.output
    assert f"80 selected: 40 extracted, {len(failed)} failed, 0 skipped, {left} left" in result.output
    assert "are to stay free (mirror.volumes.threepi-all-200908.min_free)" in result.output
    assert follower.content(f"store/{OTHER}") == files_of(OTHER, served_filesets(upstream))
    assert tree(volume / PLACED / "store") == {}
