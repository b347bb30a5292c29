"""Renewal of the page by a process of its own: when, how long, and what its failures do."""

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.many_filesets import PRODUCT, row
from support.running import until

from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.local_listing import LocalListing
from tasks.runtime.page_renewal import PagePolicy, PageRenewal

POLICY = PagePolicy(every=0.01, first=0, share=1.0, longest=60, after_run=60, fresh=3600)


@pytest.fixture
def layout(tmp_path) -> Layout:
    layout = Layout(tmp_path / "mirror")
    LocalListing(layout, PRODUCT).replace(map(row, range(3)))
    layout.lock_file.touch()
    return layout


@pytest.fixture
def config(tmp_path, layout) -> Path:
    path = tmp_path / "mirror.yaml"
    mirror = {"root": str(layout.root), "products": [PRODUCT]}
    path.write_text(json.dumps({"source": {"url": "http://127.0.0.1:9/ds"}, "mirror": mirror}))
    return path


def write_page(layout: Layout, seconds_ago: float) -> int:
    """Write a page, and return when it was modified."""
    layout.page.parent.mkdir(exist_ok=True)
    layout.page.write_text("earlier page")
    os.utime(layout.page, (time.time() - seconds_ago,) * 2)
    return layout.page.stat().st_mtime_ns


def renewed(config: Path, layout: Layout, policy: PagePolicy = POLICY, *, news: bool) -> str:
    """Renew the page as after a run; return why that failed."""
    return PageRenewal(config, layout, lambda: True, policy).after_run(threading.Event(), news=news) or ""


def test_the_page_is_renewed_while_the_run_works_and_not_afterwards(config, layout, tmp_path, monkeypatch):
    # A folder of that name where the update is started is not the program.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("raise ImportError")
    with PageRenewal(config, layout, lambda: True, POLICY).while_running():
        until(layout.page.exists, "no page was written")
    written = layout.page.stat().st_mtime_ns
    assert "<h2>Products</h2>" in layout.page.read_text()
    assert not [thread for thread in threading.enumerate() if thread.name == "page"]
    assert layout.page.stat().st_mtime_ns == written


def test_a_page_that_is_absent_is_written_once_the_run_has_numbers(config, layout):
    begun = threading.Event()
    renewal = PageRenewal(config, layout, begun.is_set, replace(POLICY, every=3600))
    with renewal.while_running():
        assert not layout.page.exists()
        begun.set()
        until(layout.page.exists, "no page was written")


def test_a_page_that_is_there_is_renewed_later(config, layout):
    """It is not even asked whether the run has numbers, after which an absent page is written."""
    written = write_page(layout, 10)
    asked = []
    renewal = PageRenewal(config, layout, lambda: not asked.append("numbers"), replace(POLICY, every=3600))
    with renewal.while_running():
        pass
    assert asked == []
    assert layout.page.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("news", "seconds_ago", "is_renewed"),
    [(False, 10, False), (False, 4000, True)],
)
def test_a_run_without_news_leaves_a_page_that_is_young(news, seconds_ago, is_renewed, config, layout):
    written = write_page(layout, seconds_ago)
    # A process without settings ends early: a renewal shows by its message.
    message = renewed(config.with_name("absent.yaml"), layout, news=news)
    assert ("was not renewed" in message) == is_renewed
    assert layout.page.stat().st_mtime_ns == written


def test_a_page_without_the_latest_map_is_renewed(config, layout):
    write_page(layout, 10)
    layout.coverage_pictures[1].touch()
    assert "was not renewed" in renewed(config.with_name("absent.yaml"), layout, news=False)


@pytest.mark.parametrize("cause", ["no mirror", "an error of this machine"])
def test_a_process_that_fails_leaves_the_page_and_says_why(cause, config, layout):
    written = write_page(layout, 4000)
    if cause == "no mirror":
        layout.lock_file.unlink()
        reason = f"no mirror at {layout.root}: "
    else:
        layout.history.mkdir(parents=True)
        reason = f"drawing it: Is a directory at {layout.history}. There is a folder where a file belongs: "
    message = renewed(config, layout, news=True)
    assert message.startswith(f"the page {layout.page} was not renewed: {reason}")
    assert (layout.page.read_text(), layout.page.stat().st_mtime_ns) == ("earlier page", written)


def test_a_process_that_takes_too_long_is_killed(config, layout):
    write_page(layout, 4000)
    message = renewed(config, layout, replace(POLICY, after_run=0.05), news=True)
    assert message == f"the page {layout.page} was not renewed: that took longer than 0 s"
    assert layout.page.read_text() == "earlier page"


def test_a_request_to_stop_ends_the_wait_and_the_process(config, layout):
    write_page(layout, 4000)
    stopping = threading.Event()
    stopping.set()
    assert PageRenewal(config, layout, lambda: True, POLICY).after_run(stopping, news=True) is None
    assert layout.page.read_text() == "earlier page"
