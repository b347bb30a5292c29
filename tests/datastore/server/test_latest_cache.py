"""The cache of what is made from something that changes."""

import threading
import weakref

from pipeline.datastore.server.latest_cache import LatestCache


class Value:
    """Something that can be seen to be freed."""


def test_only_the_latest_version_is_held():
    cache = LatestCache(keys=3)
    values = [weakref.ref(cache.get("a", version, Value)) for version in range(5)]
    assert [value() is not None for value in values] == [False] * 4 + [True]
    assert cache.get("a", 4, Value) is values[-1]()


def test_the_earlier_version_is_freed_before_the_next_is_made():
    cache = LatestCache(keys=3)
    earlier = weakref.ref(cache.get("a", 1, Value))
    assert cache.get("a", 2, earlier) is None


def test_the_keys_that_were_used_last_stay():
    cache = LatestCache(keys=2)
    for key in "abac":
        cache.get(key, 1, lambda key=key: key.upper())
    assert [cache.get(key, 1, lambda: "made again") for key in "acb"] == ["A", "C", "made again"]


def test_threads_that_ask_together_have_it_made_once():
    cache, together, made = LatestCache(keys=1), threading.Barrier(4), []

    def ask():
        together.wait()
        cache.get("a", 1, lambda: made.append(1))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_what_cannot_be_made_is_made_at_the_next_request():
    cache = LatestCache(keys=1)
    try:
        cache.get("a", 1, lambda: [][0])
    except IndexError:
        assert cache.get("a", 1, lambda: "made") == "made"
