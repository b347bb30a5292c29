"""Cache of what is made from something that changes."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Version = TypeVar("Version")
Value = TypeVar("Value")


class LatestCache(Generic[Key, Version, Value]):
    """Latest version of the value of each key, for the ``keys`` keys that were used last.

    >>> cache: LatestCache[str, int, str] = LatestCache(keys=1)
    >>> cache.get("a", 1, lambda: "one"), cache.get("a", 1, lambda: "again"), cache.get("a", 2, lambda: "two")
    ('one', 'one', 'two')
    """

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._held: dict[Key, tuple[Version, Value]] = {}
        self._lock = threading.Lock()

    def get(self, key: Key, version: Version, make: Callable[[], Value]) -> Value:
        """Return the value of the key in this version, from ``make`` unless it is held already.

        Threads that ask at the same time wait for the one that makes the value.
        """
        with self._lock:
            held = self._held.pop(key, None)
            if held is None or held[0] != version:
                held = None  # the earlier value is freed before the new one is made
                held = (version, make())
            self._held[key] = held
            if len(self._held) > self._keys:
                del self._held[next(iter(self._held))]
            return held[1]
