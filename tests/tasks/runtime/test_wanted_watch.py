"""Watch for filesets that come to be wanted while an update runs."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from support.audit import opened_below

from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.wanted import want_filesets
from tasks.runtime.wanted_watch import WantedWatch


def test_each_fileset_is_found_once_and_an_unchanged_folder_is_not_read(tmp_path: Path):
    layout = Layout(tmp_path)
    want_filesets(layout, "p", ["old"], by="me")
    watch = WantedWatch(layout, seconds=0)
    want_filesets(layout, "p", ["before"], by="me")
    assert watch.poll() == {}, "no product has begun"
    watch.begin("p", {"old"}, tried={"old"}, delayed=set())
    watch.begin("q", set(), tried=set(), delayed=set())
    assert watch.poll() == {"p": {"before"}}
    want_filesets(layout, "p", ["a", "b"], by="me")
    want_filesets(layout, "q", ["a"], by="me")
    assert watch.poll() == {"p": {"a", "b"}, "q": {"a"}}
    assert [watch.poll() for _ in range(5)] == [{}] * 5
    with opened_below(tmp_path) as opened:
        assert watch.poll() == {}
    assert opened == []


def test_it_waits_between_two_looks(tmp_path: Path):
    layout = Layout(tmp_path)
    watch = WantedWatch(layout, seconds=3600)
    watch.begin("p", set(), tried=set(), delayed=set())
    assert watch.poll() == {}
    want_filesets(layout, "p", ["a"], by="me")
    assert watch.poll() == {}


def test_a_fileset_is_tried_once_and_counted_as_selected_once(tmp_path: Path):
    watch = WantedWatch(Layout(tmp_path))
    watch.begin("p", set(), tried={"a"}, delayed={"later", "latest"})
    assert watch.claim("p", {"a", "b"}) == ({"b"}, 1)
    assert watch.claim("p", {"a", "b", "c", "later"}) == ({"c", "later"}, 1)
    assert watch.delayed("p") == {"latest"}
    assert watch.claim("p", {"later"}) == (set(), 0)
    assert watch.claim("q", {"a"}) == ({"a"}, 1)


class Meeting(set[str]):
    """Names, of which two threads take others away at the same time, if they can."""

    barrier = threading.Barrier(2)

    def __sub__(self, others):
        left = set(self).difference(others)
        with suppress(threading.BrokenBarrierError):
            self.barrier.wait(0.2)
        return left


def test_tasks_that_claim_at_the_same_time_share_no_fileset(tmp_path: Path):
    watch = WantedWatch(Layout(tmp_path))
    with ThreadPoolExecutor(2) as threads:
        claims = list(threads.map(lambda names: watch.claim("p", Meeting(names)), ["abc", "bcd"]))
    assert sorted(name for claimed, _ in claims for name in claimed) == ["a", "b", "c", "d"]
    assert sum(new for _, new in claims) == 4


def test_what_is_counted_is_known_by_name(tmp_path: Path):
    watch = WantedWatch(Layout(tmp_path))
    assert (watch.in_progress("p"), watch.counted_as_done("p")) == (set(), set())
    watch.begin("p", set(), tried={"a", "b"}, delayed=set())
    watch.claim("p", {"c", "d"})
    watch.count("p", {"a", "b"}, left={"b"})
    assert (watch.in_progress("p"), watch.counted_as_done("p")) == ({"c", "d"}, {"a"})
    watch.count("p", {"c"}, left=set())
    assert (watch.in_progress("p"), watch.counted_as_done("p")) == ({"d"}, {"a", "c"})
