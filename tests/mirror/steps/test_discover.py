"""Discovery: how little is opened when a mirror knows many filesets, and which steps become pending."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.audit import opened_below
from support.many_filesets import KNOWN, PRODUCT, row

from pipeline.datastore.client import NotFound
from pipeline.datastore.listing import FilesetRow, LeftOut, ProductRow, write_products
from pipeline.errors import ServerUnavailable
from pipeline.mirror.context import open_context
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.listing_failure import record_listing_failure
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.steps import Steps
from pipeline.mirror.steps.discover import ask_for_rows, discover_product
from pipeline.mirror.steps.download import DOWNLOAD
from pipeline.mirror.steps.extract import EXTRACT

STEPS = Steps((DOWNLOAD, EXTRACT))


class Listings:
    """A server that has some rows after the last one that is known; the root names the newest fileset."""

    url = "http://x"

    def __init__(self, *rows: FilesetRow, newest: dict[str, str | None] | None = None) -> None:
        self.rows = rows
        self.newest = newest or {}

    def products(self) -> list[ProductRow]:
        return [ProductRow(name, newest, "t", "T", "") for name, newest in self.newest.items()]

    def filesets(
        self, product: str, since: str | None = None, left_out: LeftOut | None = None
    ) -> list[FilesetRow]:
        if since is None:
            return list(self.rows)
        assert (product, since) == (PRODUCT, f"fileset.{KNOWN - 2}")
        return [row(KNOWN - 1), *self.rows]


def discover(layout: Layout, listings: Listings, product: str = PRODUCT, whole: bool = False) -> int:
    settings = layout.root / "mirror.yaml"
    settings.write_text(f"source: {{url: {listings.url}}}\nmirror: {{root: {layout.root}}}\n")
    with open_context(settings, STEPS, lambda _: None) as context:
        context = replace(context, listings=listings)
        return discover_product(context, product, "run", whole=whole, left_out=LeftOut())


MD = ProductRow("md-2009", None, "t", "T", "")


class WithoutProduct(Listings):
    """A server that has products, but not the one that is requested."""

    def filesets(self, product: str, *_: object, **__: object) -> list[FilesetRow]:
        raise NotFound(
            f"http://x/{product}/index.txt: expected a listing, got 404. The next run tries again."
        )


class WithoutRoot(WithoutProduct):
    """The same, which does not send the listing of its root."""

    def products(self) -> list[ProductRow]:
        raise ServerUnavailable("http://x/index.txt: expected a listing, got 500.")


@pytest.mark.parametrize("listing", [None, write_products([MD]), b"\xff"], ids=["none", "sound", "damaged"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_product_that_the_server_does_not_have_is_answered_with_the_nearest(listing, whole, tmp_path):
    """By the root listing that is here, else by that of the server. A damaged one is no help."""
    layout = Layout(tmp_path)
    if listing is not None:
        layout.root_listing.parent.mkdir(parents=True)
        layout.root_listing.write_bytes(listing)
    server = WithoutProduct(newest={"md-2009": None, "md-200": None})
    with pytest.raises(NotFound) as raised:
        ask_for_rows(layout, server, "md-200", whole=whole)
    meant = "" if listing == b"\xff" else " Did you mean 'md-2009'?"
    assert str(raised.value) == (
        f"http://x/md-200/index.txt: expected a listing, got 404.{meant} The next run tries again."
    )


@pytest.mark.parametrize("root", [["other"], [PRODUCT], None], ids=["others", "still", "no root"])
def test_a_product_that_upstream_has_removed(root, layout):
    """The message comes only where the root does not list it, with the time of its last listing."""
    server = WithoutRoot() if root is None else WithoutProduct(newest=dict.fromkeys(root))
    said = []
    discover(layout, Listings())
    for _ in range(2):
        with pytest.raises(NotFound) as raised:
            discover(layout, server)
        said.append(str(raised.value))
        write_marker(layout.listing_failure(PRODUCT), {"first_failed": "2026-07-10T12:00:00Z"})
        record_listing_failure(layout, PRODUCT, raised.value)
    is_removed = root == ["other"]
    assert [("Take it out of the settings (mirror.products" in each) for each in said] == [is_removed] * 2
    asked = read_marker(layout.discovered(PRODUCT))["asked"]
    removed = f"got 404: upstream does not have this product any more, and sent its listing last at {asked}."
    assert [removed in each for each in said] == [is_removed] * 2
    assert all(each.endswith(" The next run tries again.") for each in said)


def test_discovery_of_nothing_opens_no_marker_and_scans_no_folder_of_done_filesets(layout):
    path = layout.listing(PRODUCT)
    before = path.stat()
    # Reading more than the end of the listing fails.
    path.write_bytes(path.read_bytes().replace(b"fileset.2|", b"fileset.\xff|"))
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    with opened_below(layout.state(PRODUCT)) as opened:
        assert discover(layout, Listings()) == 0
    # The folder itself is flushed when the marker of the discovery is written.
    assert {name for name in opened if not name.endswith(".writing")} == {
        *("listing.txt", "listing.json", "discovered.json", "arrivals.json"),
        *("withdrawn.snapshot", "withdrawn/", "."),
    }
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_discovery_of_a_few_looks_up_those_alone(layout):
    again = row(7, registered="later")
    new = [row(KNOWN), again, row(KNOWN + 1)]
    with opened_below(layout.state(PRODUCT)) as opened:
        new_rows = discover(layout, Listings(*new))
    assert new_rows == 3
    looked_up = {Path(name).stem for name in opened if "fileset" in name and not name.endswith(".writing")}
    assert looked_up == {each.name for each in new}
    assert [name for name in opened if name.endswith("/")] == ["withdrawn/"]
    expected = [row(number) for number in range(KNOWN) if number != 7] + new
    assert list(LocalListing(layout, PRODUCT).rows()) == expected
    for step in STEPS:
        assert len(list((layout.state(PRODUCT) / step.marker).iterdir())) == KNOWN - 1
    assert layout.marker(MarkerKind.SUPERSEDED, PRODUCT, "fileset.7").exists()


@pytest.mark.parametrize("newest", [{PRODUCT: "fileset.7"}, {}, {"other": None}])
def test_an_empty_listing_that_the_root_does_not_confirm_is_no_answer(newest, layout):
    before = layout.listing(PRODUCT).read_bytes()
    with pytest.raises(ServerUnavailable, match=f"product {PRODUCT}: expected a listing with filesets"):
        discover(layout, Listings(newest=newest), whole=True)
    assert layout.listing(PRODUCT).read_bytes() == before
    assert layout.marked(MarkerKind.WITHDRAWN, PRODUCT) == set()


def test_an_empty_listing_that_the_root_confirms(layout):
    listings = Listings(newest={PRODUCT: None})
    assert discover(layout, listings, whole=True) == 0
    assert len(layout.marked(MarkerKind.WITHDRAWN, PRODUCT)) == KNOWN
    for product in ("hidden", "new"):
        listings = Listings(newest={"new": None})
        assert discover(layout, listings, product) == 0
    with pytest.raises(ServerUnavailable, match="root names 'first'"):
        discover(layout, Listings(newest={"new": "first"}), "new")
