"""Scopes of named values: the content of a Metadata Config document."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.bundle.mdc.values import (
    NULL,
    ROW_WORD,
    VALUE_TYPES,
    Scalar,
    is_one_line,
    is_one_value,
    round_trips,
    same_value,
)
from pipeline.errors import BundleUnusable

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
RESERVED = frozenset({"END", "TYPE"})
"""Words at the beginning of a line that are not names."""

_TYPE_WORDS = frozenset({*VALUE_TYPES, "METADATA", "MULTI"})


class Entry(NamedTuple):
    """Name of a scope, with its value.

    ``type`` is the word in the document (STR also for STRING), METADATA for a nested scope, or the row type
    of a TYPE line. ``value`` is None for NULL, a tuple for a vector, a Scope for the latter two types.
    ``line`` is counted from 1; 0 for an entry that does not come from a document.
    """

    name: str
    type: str
    value: "Scalar | tuple[Scalar, ...] | Scope"
    comment: str = ""
    line: int = 0


_GAP = Entry("", "", None)
"""Place of an entry that ``Scope.forget`` has dropped."""


class Scope:
    """Entries in the order of the document, with access by name.

    ``entries`` is their list (changed by the methods only), ``multi`` the names that may repeat, ``types``
    the row types with the names of their fields. ``warnings`` concern the whole document, and are kept by its
    outermost scope. Two scopes are equal if entries, ``multi`` and ``types`` are; nan equals nan, and lines
    and warnings do not count.
    """

    __slots__ = ("_first", "_later", "entries", "multi", "types", "warnings")
    __iter__ = None

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.multi: set[str] = set()
        self.types: dict[str, tuple[str, ...]] = {}
        self.warnings: list[str] = []
        self._first: dict[str, int] = {}
        self._later: dict[str, list[int]] = {}

    def __repr__(self) -> str:
        return f"<Scope of {len(self.entries)} entries>"

    def __contains__(self, name: str) -> bool:
        return name in self._first

    def __getitem__(self, name: str) -> Any:
        return self.entries[self._first[name]].value

    def get(self, name: str, default: Any = None) -> Any:
        """Return the first value of that name; ``default`` if there is no such name."""
        entry = self.first(name)
        return default if entry is None else entry.value

    def first(self, name: str) -> Entry | None:
        """Return the first entry of that name, None if there is none."""
        at = self._first.get(name)
        return None if at is None else self.entries[at]

    def all(self, name: str) -> list[Any]:
        """Return all values of that name in the order of the document."""
        return [self.entries[at].value for at in self._places(name)]

    def add(self, name: str, type: str, value: Any, comment: str = "", multi: bool = False) -> None:
        """Append a value: a list or tuple becomes a vector, or a row of words if ``type`` is a row type.

        Raises BundleUnusable for a value that no document can hold, and for a repeated name without
        ``multi``.
        """
        if isinstance(value, list):
            value = tuple(value)
        if type in self.types:
            value = _row_of(name, self.types[type], value)
        elif type not in VALUE_TYPES:
            raise BundleUnusable(
                f"{name}: expected a type of value or a row type of this scope, got {type!r}"
            )
        elif not round_trips(VALUE_TYPES[type], value):
            raise BundleUnusable(f"{name}: expected {VALUE_TYPES[type].expected} for {type}, got {value!r}")
        type = VALUE_TYPES[type].name if type in VALUE_TYPES else type
        self._add(Entry(name, type, value, comment), multi)

    def add_scope(self, name: str, multi: bool = False) -> "Scope":
        """Append a nested scope and return it. Raises BundleUnusable as ``add``."""
        scope = Scope()
        self._add(Entry(name, "METADATA", scope), multi)
        return scope

    def add_type(self, name: str, fields: Sequence[str]) -> None:
        """Declare a row type with the names of its fields.

        Raises BundleUnusable for invalid names, a repeated field, or a type declared before with other
        fields.
        """
        fields = tuple(fields)
        if name in _TYPE_WORDS or not NAME.fullmatch(name):
            raise BundleUnusable(f"expected a name for a row type, got {name!r}")
        if not fields or len(set(fields)) != len(fields) or not all(map(is_name, fields)):
            raise BundleUnusable(f"row type {name}: expected names of fields, each once, got {fields[:9]!r}")
        if self.types.setdefault(name, fields) != fields:
            raise BundleUnusable(f"row type {name}: expected the fields as before, got {fields[:9]!r}")

    def append(self, entry: Entry) -> None:
        """Append an entry that a reader has checked."""
        at = len(self.entries)
        if self._first.setdefault(entry.name, at) != at:
            self._later.setdefault(entry.name, []).append(at)
        self.entries.append(entry)

    def replace(self, entry: Entry) -> Entry:
        """Put the entry in the place of the first of its name, and return the replaced one."""
        at = self._first[entry.name]
        replaced, self.entries[at] = self.entries[at], entry
        return replaced

    def forget(self, name: str) -> list[Entry]:
        """Drop all entries of that name, and return them.

        ``entries`` has gaps until ``close_gaps``: to close them every time would take quadratic time.
        """
        places = self._places(name)
        dropped = [self.entries[at] for at in places]
        for at in places:
            self.entries[at] = _GAP
        self._first.pop(name, None)
        self._later.pop(name, None)
        return dropped

    def close_gaps(self) -> None:
        """Remove the gaps that ``forget`` has left in ``entries``."""
        entries = [entry for entry in self.entries if entry is not _GAP]
        self.entries, self._first, self._later = [], {}, {}
        for entry in entries:
            self.append(entry)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scope):
            return NotImplemented
        pending = [(self, other)]
        while pending:
            one, two = pending.pop()
            if (one.multi, one.types, len(one.entries)) != (two.multi, two.types, len(two.entries)):
                return False
            for left, right in zip(one.entries, two.entries, strict=True):
                if (left.name, left.type, left.comment) != (right.name, right.type, right.comment):
                    return False
                if isinstance(left.value, Scope) and isinstance(right.value, Scope):
                    pending.append((left.value, right.value))
                elif not same_value(left.value, right.value):
                    return False
        return True

    def _places(self, name: str) -> Sequence[int]:
        return (self._first[name], *self._later.get(name, ())) if name in self._first else ()

    def _add(self, entry: Entry, multi: bool) -> None:
        if not is_name(entry.name):
            raise BundleUnusable(f"expected a name of letters, digits and '_ . -', got {entry.name!r}")
        if not is_one_line(entry.comment):
            raise BundleUnusable(f"{entry.name}: expected a comment of one line, got {entry.comment!r}")
        if entry.name in self and not multi and entry.name not in self.multi:
            raise BundleUnusable(f"{entry.name}: expected this name once, or added with multi, got it again")
        if multi:
            self.multi.add(entry.name)
        self.append(entry)


def is_name(text: str) -> bool:
    """Return True if ``text`` is valid as the name of an entry."""
    return NAME.fullmatch(text) is not None and text not in RESERVED


def row_scope(fields: Sequence[str], words: Sequence[str], line: int = 0) -> Scope:
    """Return a row as a scope with a STR entry for each field."""
    row = Scope()
    for field, word in zip(fields, words, strict=True):
        row.append(Entry(field, "STR", None if word == NULL else word, "", line))
    return row


def _row_of(name: str, fields: Sequence[str], values: Any) -> Scope:
    if not isinstance(values, tuple) or len(values) != len(fields):
        raise BundleUnusable(f"{name}: expected {len(fields)} values for {fields!r}, got {values!r}")
    for value in values:
        word = value is None or (isinstance(value, str) and value != NULL and ROW_WORD.fullmatch(value))
        if not word or not is_one_value(value or NULL):
            raise BundleUnusable(f"{name}: expected words without blanks and '#', got {value!r}")
    return row_scope(fields, [NULL if value is None else value for value in values])
