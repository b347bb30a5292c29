"""Differences between a downloaded fileset and the listing that the server sends."""

import hashlib

import pytest
from support.follower import Follower
from support.upstream import File, Upstream

from pipeline.errors import HostileName, ServerUnavailable
from pipeline.mirror.context import open_context
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.markers import Fileset, fresh_marker
from pipeline.mirror.steps.compare import upstream_problems
from pipeline.mirror.steps.download import download_fileset
from pipeline.mirror.steps.extract import extract_fileset
from tasks.steps import STEPS

FILESET = Fileset("p", "plain", "2009-07-29T00:00:01Z")
HEADER = "# fileID|bytes|md5sum|type|component|\n"
T = f"t.fits|70|{hashlib.md5(b'T' * 70).hexdigest()}|fits||\n"
U = "u.fits|7||fits|XY01|\n"
ZEROS = "0" * 32


def problems(follower: Follower) -> list[tuple[str, str, str | None]]:
    with open_context(follower.config, STEPS, lambda _: None) as context:
        return [(each.path, each.what, each.marker) for each in upstream_problems(context, FILESET)]


@pytest.fixture
def listing(upstream: Upstream, follower: Follower):
    """The file with the listing of a fileset that is downloaded."""
    upstream.add("p", "plain", [File("t.fits", b"T" * 70), File("u.fits", b"U" * 7, component="XY01")])
    path = upstream.path("p", "plain", "index.txt")
    path.write_text(HEADER + T + U)
    with open_context(follower.config, STEPS, lambda _: None) as context:
        download_fileset(context, FILESET, lambda *_: None)
    return path


SAME = {
    "the same": HEADER + T + U,
    "another order": HEADER + U + T,
    "padding and a comment": f"# x\n{HEADER}{T.replace('|70', ' |  70')}{U}",
    "capitals": HEADER + T.replace(T.split("|")[2], T.split("|")[2].upper()) + U,
    "no column for the component": "# fileID|bytes|md5sum|type|\n"
    + T.replace("fits||", "fits|")
    + HEADER
    + U,
}
DIFFERENT = {
    "md5": (
        T.replace(T.split("|")[2], ZEROS) + U,
        f"t.fits has md5 {ZEROS} there, md5 {T.split('|')[2]} here",
    ),
    "md5 that was not listed": (
        T + U.replace("||", f"|{ZEROS}|"),
        f"u.fits has md5 {ZEROS} there, md5 none here",
    ),
    "size": (T.replace("|70|", "|0|") + U, "t.fits has size 0 there, size 70 here"),
    "component": (T + U.replace("XY01", ""), "u.fits has component none there, component XY01 here"),
    "a file more": (T + U + "v.fits|1||fits||\n", "v.fits is listed there, not here"),
    "a file less": (U, "t.fits is listed here, not there"),
    "all": (
        "".join(f"{number}|1||fits||\n" for number in range(4)),
        f"{'; '.join(f'{number} is listed there, not here' for number in range(3))}; 3 more differ",
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_no_difference(name, listing, follower):
    listing.write_text(SAME[name])
    assert problems(follower) == []


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_difference_names_the_file_and_both_sides(name, listing, follower):
    rows, what = DIFFERENT[name]
    listing.write_text(HEADER + rows)
    assert problems(follower) == [
        ("store/p/plain", f"upstream lists other files: {what}", MarkerKind.DOWNLOADED)
    ]


def test_a_listing_that_lost_all_its_rows_is_no_answer(listing, follower):
    listing.write_text(HEADER)
    with pytest.raises(ServerUnavailable, match=r"with files \(here: 2 files\), got"):
        problems(follower)


def test_a_name_that_must_not_become_a_path(listing, follower):
    listing.write_text(HEADER + T + U + "../v.fits|1||fits||\n")
    with pytest.raises(HostileName, match="plain"):
        problems(follower)


def test_what_is_set_aside_stays_on_disk_and_recorded(listing, follower, server):
    with open_context(follower.config, STEPS, lambda _: None) as context:
        extract_fileset(context, Fileset("p", "plain", FILESET.registered), lambda *_: None)
        layout: Layout = context.layout
        unpacked = fresh_marker(layout, MarkerKind.EXTRACTED, FILESET)
        STEPS.set_aside(layout, FILESET)
        assert fresh_marker(layout, MarkerKind.SUPERSEDED, FILESET) == unpacked
    assert follower.marked("downloaded", "p") == follower.marked("extracted", "p") == set()
    assert follower.content("store")["p/plain/t.fits"] == b"T" * 70
    server.clear()
    assert [what for _, what, _ in problems(follower)] == [
        "upstream lists other files, which are not fetched yet; the next update tries again"
    ]
    assert not server.requests
