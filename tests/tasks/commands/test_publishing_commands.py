"""``ipp-mirror product``, ``publish`` and ``withdraw``."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.follower import Follower
from support.summary_line import numbers

from pipeline.datastore.server import DataStoreApp, serve
from pipeline.errors import SettingsError
from pipeline.mirror.state.layout import Layout
from pipeline.publishing import Publisher
from pipeline.serving import MirrorTree, OwnTree, SiteTree
from tasks.commands import ipp_mirror

PRODUCT = "md-all-rel-200907"


def done(follower: Follower, *arguments: object) -> str:
    """Run a command in this process; return its output."""
    made = CliRunner().invoke(ipp_mirror, [*map(str, arguments), "--config", str(follower.config)])
    assert (made.exit_code, made.stderr) == (0, "")
    return made.stdout


def test_what_is_published_reaches_the_next_site_and_leaves_it(tmp_path: Path):
    """The site has no mirror yet."""
    site = Follower(tmp_path, "http://127.0.0.1:1/ds")
    (tmp_path / "curves.fits").write_bytes(b"curves")
    done(site, "product", "add", "curves", "--type", "table", "--description", "Light curves")
    shown = done(site, "publish", "curves", "c.1", tmp_path / "curves.fits")
    assert shown.startswith("curves/c.1: 1 file, 6 bytes, registered 20")
    shown = done(site, "product", "list")
    assert shown.startswith("curves (table): Light curves; 1 fileset, newest c.1 of 20")
    layout = Layout(site.root)
    Publisher(layout.published).publish("curves", "c.2", [tmp_path / "curves.fits"])
    with serve(DataStoreApp(SiteTree(MirrorTree(layout), OwnTree(layout.published)))) as server:
        (tmp_path / "next").mkdir()
        following = Follower(tmp_path / "next", server.url, mirror={"on_removed": "delete"})
        assert numbers(2, 2, 2) in following.update().output
        assert following.content("store")["curves/c.1/curves.fits"] == b"curves"
        done(site, "withdraw", "curves", "c.1")
        assert following.update().code == 0
        assert following.content("store").keys() == {"curves/c.2/curves.fits", "curves/c.2/index.txt"}
    (row,) = json.loads(done(site, "product", "list", "--json"))["products"]
    assert row.pop("newest_registered").startswith("20")
    assert row == {
        "product": "curves",
        "type": "table",
        "description": "Light curves",
        "filesets": 1,
        "newest": "c.2",
    }
    assert done(site, "withdraw", "--quiet", "curves", "c.2") == ""
    assert json.loads(done(site, "product", "list", "--json"))["products"][0]["newest"] is None
    assert done(site, "publish", "--quiet", "curves", "c.3", tmp_path / "curves.fits") == ""
    Publisher(layout.published).withdraw("curves", "c.3")
    done(site, "product", "remove", "curves")
    assert not (layout.published / "curves").exists()


def test_a_product_of_the_source_is_no_product_of_the_site(tmp_path: Path):
    follower = Follower(tmp_path, "http://127.0.0.1:1/ds", mirror={"products": [PRODUCT]})
    follower.source["hidden_products"] = ["secret"]
    config = str(follower.config)
    for arguments, expected in (
        (
            ["product", "add", PRODUCT],
            "a name of this site's own, got 'md-all-rel-200907', a product of http://",
        ),
        (["product", "add", "secret"], "a name of this site's own, got 'secret', a product of http://127"),
        (["product", "add", "p", "--type", "x"], "a type that readers know (ipp-misc, image, "),
        (
            ["publish", PRODUCT, "mine", config],
            "a product of this site's own (none), got 'md-all-rel-200907'",
        ),
        (
            ["withdraw", PRODUCT, "mine"],
            "a product of this site's own (none), got 'md-all-rel-200907'",
        ),
    ):
        with pytest.raises(SettingsError) as refused:
            ipp_mirror.main([*arguments, "--config", config], standalone_mode=False)
        assert str(refused.value).startswith(f"expected {expected}")
    assert not list(follower.root.rglob("*.txt"))


def test_a_site_without_products_of_its_own_says_so(tmp_path: Path):
    config = Follower(tmp_path, "http://127.0.0.1:1/ds").config
    shown = CliRunner().invoke(ipp_mirror, ["product", "list", "--config", str(config)])
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert shown.stderr == (
        f"no product of this site's own at {tmp_path}/mirror/published. "
        "Add one with: ipp-mirror product add NAME\n"
    )
    as_json = CliRunner().invoke(ipp_mirror, ["product", "list", "--json", "--config", str(config)])
    assert (as_json.exit_code, as_json.stderr) == (0, "")
