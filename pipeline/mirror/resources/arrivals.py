"""Writing of the order of arrival: an entry and the publication it announces are one step for all others.

A reader of the mirror that has seen one fileset must find everything that becomes visible after it further
down. So the entry is on the disk before the fileset gets its name, and nothing else of the product is
published in between, by whatever thread, process or host.
"""

import mmap
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from pipeline.datastore.listing import INDEX
from pipeline.durable import flush, write_whole
from pipeline.errors import ServerUnavailable, machine_faults
from pipeline.mirror.resources.byte_locks import ByteLocks
from pipeline.mirror.state.arrivals_file import (
    HEADER_START,
    REPEAT_HEADER_BYTES,
    TITLE,
    Entry,
    entry_lines,
    md5_of,
    parse_number,
    scan_arrivals,
    scan_entries,
    stored_index_md5,
    write_entries,
)
from pipeline.mirror.state.clock import SAFE_AGE_NS, time_or_zero
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import SCHEMA, read_marker, write_marker
from pipeline.mirror.state.markers import Fileset, fresh_marker

# Two filesets at the end: a reader asks for what is behind the last but one that it has.
_ENDING = 2


@dataclass(frozen=True)
class Arrivals:
    """Order of arrival of the products of one mirror. Safe for use by several threads and processes."""

    layout: Layout
    locks: ByteLocks

    @contextmanager
    def entered(self, fileset: Fileset, index: bytes) -> Iterator[str | None]:
        """Enter the fileset, to be published inside the ``with`` with that ``index.txt``.

        Yield the number of its entry, for its marker. A fileset that is published again in place keeps its
        entry. Without a sound ``arrivals.txt``, or without a listing row, nothing is entered and the number
        is None: the next ``settle`` enters the fileset by its marker.
        """
        with self._locked(fileset.product):
            yield self._enter(fileset, index)

    def enter_again(self, product: str, names: Collection[str]) -> None:
        """Move the entries of the filesets to the end: they were not listed for some time.

        Their markers get the new numbers, so that the filesets stay at the end when the file is lost.
        """
        with self._locked(product), suppress(FileNotFoundError), self._opened(product) as file:
            entries = (entry for entry in scan_arrivals(file) if entry)
            last = {name: entry for entry in entries if (name := entry.name.decode()) in names}
            for name, entry in last.items():
                if end := _read_end(file):
                    again = entry._replace(number=end.number + 1)
                    _append(file, end, again)
                    self._mark_again(product, name, _as_marked(again, [entry]))

    def settle(self, product: str) -> bool:
        """Check ``arrivals.txt`` and write it anew where needed. For the holder of the update lock.

        Filesets that are downloaded and have no sound entry are entered by their markers: all of them when
        the file is lost. Entries of filesets that are not held any more are dropped when they prevail.
        Return False, with nothing done, where the product has no sound local listing.
        """
        if not self.layout.listing(product).is_file():
            return False
        with self._locked(product):
            state = self._state(product)
            if state is None or read_marker(self.layout.arrivals_seen(product)) != {
                "schema": SCHEMA,
                **state,
            }:
                # Read before the files are: a change from then on gives them other times.
                is_past = state and self._is_past(product, state)
                try:
                    entries = _Settling(self.layout, product).entries()
                except ServerUnavailable:
                    return False
                with machine_faults(f"writing the order of arrival of product {product}"):
                    if entries is not None:
                        write_whole(self.layout.arrivals(product), write_entries(entries))
                    elif state and is_past:
                        write_marker(self.layout.arrivals_seen(product), state)
        return True

    def _state(self, product: str) -> dict[str, int] | None:
        """Return the state of the files that decide on a sound order of arrival; None without one of them."""
        try:
            arrivals = self.layout.arrivals(product).stat()
            marked = (self.layout.state(product) / MarkerKind.DOWNLOADED).stat()
        except FileNotFoundError:
            return None
        return {
            "bytes": arrivals.st_size,
            "modified": arrivals.st_mtime_ns,
            "downloaded": marked.st_mtime_ns,
        }

    def _is_past(self, product: str, state: dict[str, int]) -> bool:
        """Return True if a change from now on gives another state."""
        now = time_or_zero(self.layout.state(product))
        return now - max(state["modified"], state["downloaded"]) >= SAFE_AGE_NS

    def _mark_again(self, product: str, name: str, arrival: str) -> None:
        path = self.layout.marker(MarkerKind.DOWNLOADED, product, name)
        if marker := read_marker(path):
            write_marker(path, {**marker, "arrival": arrival})

    @contextmanager
    def _locked(self, product: str) -> Iterator[None]:
        with self.locks.held([product], f"order of arrival of product {product}"):
            yield

    def _opened(self, product: str) -> BinaryIO:
        return open(self.layout.arrivals(product), "r+b")

    def _enter(self, fileset: Fileset, index: bytes) -> str | None:
        folder = self.layout.store(fileset.product, fileset.name)
        if fileset.row is None:
            return None
        with suppress(FileNotFoundError), self._opened(fileset.product) as file:
            end = _read_end(file)
            if end is None:
                return None
            entry = Entry.of(fileset.row, end.number + 1, True, index)
            if folder.exists():
                earlier = _entries_of(file, entry.name)
                if earlier and _is_same(earlier[-1], entry) and stored_index_md5(folder) == entry.index_md5:
                    return _as_marked(earlier[-1], earlier[:-1])
                # Without an entry it was visible for a time that is not known.
                entry = entry._replace(is_exact=bool(earlier))
            else:
                earlier = []
            _append(file, end, entry)
            return _as_marked(entry, earlier)
        return None


class _End(NamedTuple):
    """End of ``arrivals.txt``: ``size`` in bytes of the whole lines, last number, header if one is near."""

    size: int
    number: int
    header: bytes


def _read_end(file: BinaryIO) -> _End | None:
    """Return the end of the file; None when the last entry is damaged."""
    begin = max(0, file.seek(0, os.SEEK_END) - 2 * REPEAT_HEADER_BYTES)
    file.seek(begin)
    block = file.read()
    whole = block.rfind(b"\n") + 1
    while (header := block.rfind(b"\n" + HEADER_START, 0, whole) + 1) > 0:
        last = block.rfind(b"\n", 0, whole - 1) + 1
        if last > header:
            lines = [block[header : block.find(b"\n", header) + 1], block[last:whole]]
            entry = next(scan_entries(lines))
            is_near = whole - header < REPEAT_HEADER_BYTES
            return entry and _End(begin + whole, entry.number, entry.header if is_near else b"")
        whole = header  # a header without its row: the entry is unfinished
    return _End(whole, 0, b"") if not begin and block[:whole] == TITLE else None


def _append(file: BinaryIO, end: _End, entry: Entry) -> None:
    """Append the entry durably, in place of an unfinished last line."""
    file.truncate(end.size)
    file.seek(end.size)
    file.write(b"".join(entry_lines(entry, end.header)))
    file.flush()
    flush(file.fileno())


def _entries_of(file: BinaryIO, name: bytes) -> list[Entry]:
    """Return all entries of one name in order, found without reading the others."""
    found = []
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(b"\n" + name + b"|")
        while place >= 0:
            header = content.rfind(b"\n" + HEADER_START, 0, place) + 1
            lines = [content[at : content.find(b"\n", at) + 1] for at in (header, place + 1)]
            found += [entry for entry in scan_entries(lines) if entry]
            place = content.find(b"\n" + name + b"|", place + 1)
    return found


def _is_same(one: Entry, other: Entry) -> bool:
    return (one.registered, one.index_md5) == (other.registered, other.index_md5)


def _as_marked(entry: Entry, earlier: Iterable[Entry]) -> str:
    """Return the number for the marker, which is all that is left when the file is lost.

    A reader that saw the fileset at an earlier place may have missed what came between.
    """
    is_first = all(each.registered != entry.registered for each in earlier)
    return entry._replace(is_exact=entry.is_exact and is_first).arrival


class _Marked(NamedTuple):
    """Downloaded fileset without a sound entry: the time and the number in its marker, and its entry."""

    finished: str
    number: int | None
    entry: Entry


class _Settling:
    """Comparison of ``arrivals.txt`` with the markers, and what it has to be."""

    def __init__(self, layout: Layout, product: str) -> None:
        self._layout = layout
        self._product = product
        self._folder = layout.store_of(product)

    def entries(self) -> list[Entry] | None:
        """Return the entries to be written; None if the file is as it has to be.

        Raises ServerUnavailable when the local listing is damaged.
        """
        marked = self._layout.marked(MarkerKind.DOWNLOADED, self._product)
        is_sound, count, missing = self._layout.arrivals(self._product).is_file(), 0, set(marked)
        for entry in self._scan():
            count += 1
            if entry is None:
                is_sound = False
            else:
                missing.discard(entry.name.decode())
        if is_sound and not missing and count <= 2 * len(marked):
            return None
        there = [entry for entry in self._scan() if entry]
        needed = self._with_marked(there, missing if is_sound else marked)
        if len(needed) > 2 * len(marked):
            needed = self._without_dead(needed)
        return None if is_sound and needed == there else needed

    def _scan(self) -> Iterator[Entry | None]:
        with suppress(FileNotFoundError), open(self._layout.arrivals(self._product), "rb") as file:
            yield from scan_arrivals(file)

    def _with_marked(self, there: list[Entry], names: set[str]) -> list[Entry]:
        """Return the entries with those of the filesets that have none, each at its place if that is known.

        Without any entry, filesets whose markers have no number came before those whose markers have one.
        Among other entries, they may be new to every reader, and are entered last.
        """
        marked = list(self._marked(names, {(entry.name, entry.registered) for entry in there}))
        taken = {entry.number for entry in there}
        placed = [each for each in marked if each.number is not None and each.number not in taken]
        others = [each for each in marked if each.number is None or each.number in taken]
        # Times are text that sorts as time does; an empty text comes before all of them.
        first = "" if there else min((each.finished for each in placed), default="~")
        early = [each for each in others if each.finished < first]
        late = [each.entry for each in others if each.finished >= first]
        known = sorted([*there, *(each.entry for each in placed)], key=lambda entry: entry.number)
        last = known[-1].number if known else _ENDING
        return [
            *self._early(early, known),
            *known,
            *(entry._replace(number=last + at, is_exact=False) for at, entry in enumerate(late, start=1)),
        ]

    def _early(self, early: list[_Marked], known: list[Entry]) -> list[Entry]:
        """Return the entries of filesets whose places are not known, in the order of the local listing.

        The fileset that was marked last came last. A reader that has it as its newest one has seen all, and
        so has one with the two last: their places count as known, so that these readers go on from there.
        """
        withdrawn = self._layout.marked(MarkerKind.WITHDRAWN, self._product)
        listed = [each for each in early if each.entry.name.decode() not in withdrawn]
        count = max(0, _ENDING - len(known))
        ending = sorted(listed, key=lambda each: each.finished)[len(listed) - count :] if count else []
        first = (known[0].number if known else _ENDING + 1) - len(ending)
        return [
            *(each.entry._replace(number=0, is_exact=False) for each in early if each not in ending),
            *(each.entry._replace(number=first + at) for at, each in enumerate(ending)),
        ]

    def _marked(self, names: set[str], entered: set[tuple[bytes, bytes]]) -> Iterator[_Marked]:
        """Yield those of the downloaded filesets that have no entry, in the order of the local listing."""
        if not names:
            return
        for row in LocalListing(self._layout, self._product).rows():
            if row.name in names and (row.name.encode(), row.registered.encode()) not in entered:
                fileset = Fileset.of(self._product, row)
                marker = fresh_marker(self._layout, MarkerKind.DOWNLOADED, fileset)
                index = self._index(row.name)
                if marker and index is not None:
                    number, is_exact = parse_number(str(marker.get("arrival")).encode()) or (None, True)
                    entry = Entry.of(row, number or 0, is_exact, index)
                    yield _Marked(str(marker.get("finished")), number, entry)

    def _without_dead(self, entries: list[Entry]) -> list[Entry]:
        """Return the entries without those of filesets, and of registrations, that ``store/`` does not hold.

        The first entry of a fileset stays: a reader that has it may have seen nothing after it.
        """
        places: defaultdict[str, list[int]] = defaultdict(list)
        for at, entry in enumerate(entries):
            places[entry.name.decode()].append(at)
        stored = {path.name for path in self._folder.iterdir()} if self._folder.is_dir() else set()
        kept: set[int] = set()
        for name in places.keys() & stored:
            kept.update(self._held(name, places[name], entries))
        return [entry for at, entry in enumerate(entries) if at in kept]

    def _held(self, name: str, places: list[int], entries: list[Entry]) -> set[int]:
        """Return those of a fileset's places that decide where it stands and what its readers have seen."""
        index = self._index(name) if len(places) > 1 else None
        holding = [at for at in places if index is not None and entries[at].index_md5 == md5_of(index)]
        last = holding[-1] if holding else places[-1]
        first = next(at for at in places if entries[at].registered == entries[last].registered)
        return {places[0], first, last}

    def _index(self, name: str) -> bytes | None:
        try:
            return (self._folder / name / INDEX).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
