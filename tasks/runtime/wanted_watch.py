"""Watch of an update for filesets that an operator asks for while it runs."""

import threading
import time
from pathlib import Path

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.wanted import wanted_filesets

POLL_SECONDS = 1.0
# A folder is read again for so many polls after it has changed: two changes in one tick of the clock of its
# file system leave one time.
_POLLS_AFTER_CHANGE = 3


class WantedWatch:
    """Filesets that an update tries, each once, and those that came to be wanted meanwhile.

    Tasks in several threads use it.
    """

    def __init__(self, layout: Layout, seconds: float = POLL_SECONDS) -> None:
        self._layout = layout
        self._seconds = seconds
        self._next = 0.0
        self._lock = threading.Lock()
        self._tried: dict[str, set[str]] = {}
        # Those that are left for a later run.
        self._delayed: dict[str, set[str]] = {}
        # Those of the tried ones that are counted, as done or not; and those that are counted as done.
        self._counted: dict[str, set[str]] = {}
        self._done: dict[str, set[str]] = {}
        self._folders: dict[str, _Folder] = {}

    def begin(self, product: str, wanted: set[str], tried: set[str], delayed: set[str]) -> None:
        """Watch the product, of which these filesets are wanted already.

        Those that are ``tried``, and those ``delayed`` until a later run, are counted as selected.
        """
        with self._lock:
            self._tried[product] = set(tried)
            self._delayed[product] = set(delayed)
            self._folders[product] = _Folder(self._layout, product, wanted)

    def claim(self, product: str, names: set[str]) -> tuple[set[str], int]:
        """Return those of the filesets that nothing else tries; they count as tried.

        Return also how many of them are not counted as selected.
        """
        with self._lock:
            tried, delayed = self._tried.setdefault(product, set()), self._delayed.setdefault(product, set())
            claimed = names - tried
            new = len(claimed - delayed)
            tried |= claimed
            delayed -= claimed
        return claimed, new

    def count(self, product: str, tried: set[str], left: set[str]) -> None:
        """Note that the filesets that were ``tried`` are counted, as done unless they are ``left``."""
        with self._lock:
            self._counted.setdefault(product, set()).update(tried)
            self._done.setdefault(product, set()).update(tried - left)

    def counted_as_done(self, product: str) -> set[str]:
        """Return the filesets that are counted as done."""
        with self._lock:
            return set(self._done.get(product, ()))

    def in_progress(self, product: str) -> set[str]:
        """Return the filesets that are tried and will be counted by what tries them."""
        with self._lock:
            return self._tried.get(product, set()) - self._counted.get(product, set())

    def delayed(self, product: str) -> set[str]:
        """Return the filesets that are left for a later run, without those that came to be wanted."""
        with self._lock:
            return set(self._delayed[product])

    def poll(self) -> dict[str, set[str]]:
        """Return the filesets that came to be wanted since the last poll, by product; mostly none."""
        if not self._folders or time.monotonic() < self._next:
            return {}
        self._next = time.monotonic() + self._seconds
        found = {product: folder.new() for product, folder in list(self._folders.items())}
        return {product: names for product, names in found.items() if names}


class _Folder:
    """Folder of the markers of one product's wanted filesets."""

    def __init__(self, layout: Layout, product: str, seen: set[str]) -> None:
        self._layout = layout
        self._product = product
        self._path: Path = layout.marker_folder(MarkerKind.WANTED, product)
        self._seen = set(seen)
        self._modified = -1
        self._reads = 0

    def new(self) -> set[str]:
        """Return the filesets that have come to the folder."""
        try:
            modified = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return set()
        if modified != self._modified:
            self._modified, self._reads = modified, _POLLS_AFTER_CHANGE
        if not self._reads:
            return set()
        self._reads -= 1
        new = wanted_filesets(self._layout, self._product) - self._seen
        self._seen |= new
        return new
