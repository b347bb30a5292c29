"""Views and coverage as a part of updates."""

import fcntl
import math
import signal
import sys
from pathlib import Path

import pytest
from support.catalog import PRODUCT, add_chips, catalog_of, rows
from support.command import ended
from support.follower import Follower
from support.running import started, until
from support.upstream import Upstream

from pipeline.mirror.state.layout import Layout

COMMAND = str(Path(sys.executable).with_name("ipp-mirror"))
ACCESS = "SELECT access_url, obs_publisher_did, obs_collection, calib_level FROM obscore"


@pytest.fixture
def follower(follower: Follower) -> Follower:
    follower.catalog["enabled"] = True
    return follower


def update(follower: Follower) -> None:
    result = follower.update()
    assert result.code == 0, result.output


def test_views_follow_the_settings_though_nothing_is_new_and_in_a_rebuild(
    follower: Follower, upstream: Upstream
):
    add_chips(upstream, "a.chip.5", 5)
    update(follower)
    ((url, did, *others),) = rows(catalog_of(follower.root), ACCESS)
    assert url.startswith(f"file://{follower.root}/data/")
    path = url.removeprefix(f"file://{follower.root}/")
    assert (did, others) == (f"ivo://ipp-mirror?{path}", [PRODUCT, 2])
    follower.catalog |= {"access_url": "https://example.org/ps1/", "publisher_did": "ivo://example.org/~"}
    update(follower)
    expected = (f"https://example.org/ps1/{path}", f"ivo://example.org/~?{path}", PRODUCT, 2)
    assert rows(catalog_of(follower.root), ACCESS) == [expected]
    result = ended([COMMAND, "catalog", "rebuild", "--config", str(follower.config)])
    assert result.code == 0, result.output
    assert rows(catalog_of(follower.root), ACCESS) == [expected]


def test_the_coverage_is_drawn_after_the_summary_though_nothing_is_new(
    follower: Follower, upstream: Upstream
):
    layout = Layout(follower.root)
    add_chips(upstream, "a.chip.5", 5)
    update(follower)
    assert not layout.coverage.exists()
    follower.catalog["coverage"] = True
    update(follower)
    assert all(path.stat().st_size > 10_000 for path in layout.coverage_pictures)
    (made,) = layout.coverage.iterdir()
    assert made.name.startswith(f"{PRODUCT}.")


def test_a_signal_ends_the_drawing_and_the_mirror_is_free_meanwhile(follower: Follower, upstream: Upstream):
    layout = Layout(follower.root)
    add_chips(upstream, "a.chip.5", 5)
    follower.catalog["coverage"] = True
    layout.coverage.mkdir(parents=True)
    layout.catalog.mkdir(parents=True)
    # Another process draws, and this one waits for it.
    with open(layout.coverage_record.with_suffix(".lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with started(follower.command(), follower.folder / "output") as running:
            until(lambda: layout.catalog_record.exists() and not is_locked(layout), "the end of the update")
            running.send(signal.SIGTERM)
            ended = running.wait()
    assert (ended.code, ended.output.splitlines()[-1][:9]) == (0, "filesets:"), ended.output
    assert list(layout.coverage.iterdir()) == []


def is_locked(layout: Layout) -> bool:
    with open(layout.lock_file, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize("pointing", [(10.5, -5.0), (math.radians(10.5), math.radians(-5.0))])
def test_an_exposure_is_known_by_dbinfo_where_the_listing_names_none(
    pointing: tuple[float, float], follower: Follower, upstream: Upstream
):
    ra, decl = (repr(angle).encode() for angle in pointing)
    row = b"exp_id S64 7\n exp_name STR o1g1o\n ra F64 %s\n decl F64 %s\n filter STR y.00000" % (ra, decl)
    document = b"rawExp MULTI\nrawExp METADATA\n " + row + b"\nEND\n"
    add_chips(upstream, "a.raw.7", 7, document=document)
    update(follower)
    view = "SELECT exp_name, source, round(ra, 9), round(dec, 9), band FROM exposure"
    exposures = rows(catalog_of(follower.root), view)
    assert exposures == [("o1g1o", "raw_exp", 10.5, -5.0, "y")]
