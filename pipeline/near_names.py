"""Near names: what a misspelt name may stand for."""

from collections.abc import Collection, Iterable
from heapq import nlargest
from itertools import takewhile
from operator import eq

# Of two names, from 0 to 1 (difflib).
_LEAST_LIKENESS = 0.7
# A name that is a part of a longer one says too little below this length.
LEAST_PART = 3
# Of more names, so many are compared that begin and end most like the name: difflib takes 40 µs for each.
_COMPARED = 2000
# No name of a file is longer.
_MOST_CHARACTERS = 255


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the known names that are most like a name, in any case: the nearest first, at most so many.

    >>> nearest("Prodcuts", ["root", "products", "volumes"]), nearest("md", ["md-all", "threepi"])
    (['products'], [])
    >>> nearest("md-all", ["md-all-rel-200907", "threepi-all-200908"])
    ['md-all-rel-200907']
    """
    if len(name) > _MOST_CHARACTERS:
        # The comparison would take seconds.
        return []
    # Imported here: only a mistake needs it.
    from difflib import get_close_matches

    by_folded = {each.casefold(): each for each in known}
    folded = name.casefold()
    close = get_close_matches(folded, _candidates(folded, by_folded), most, _LEAST_LIKENESS)
    close += [each for each in by_folded if each not in close and _is_part(*sorted((each, folded), key=len))]
    return [by_folded[each] for each in close[:most]]


def _candidates(name: str, known: Collection[str]) -> Collection[str]:
    """Return the names that may be like the name: of very many those that begin and end most like it."""
    if len(known) <= _COMPARED:
        return known
    backwards = name[::-1]

    def equal_ends(other: str) -> int:
        return _equal_at_begin(name, other) + _equal_at_begin(backwards, other[::-1])

    return nlargest(_COMPARED, known, key=equal_ends)


def _equal_at_begin(one: str, other: str) -> int:
    return sum(takewhile(bool, map(eq, one, other)))


def _is_part(part: str, whole: str) -> bool:
    return len(part) >= LEAST_PART and part in whole


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest names, after a blank; an empty text if no name is near.

    >>> did_you_mean("updat", ["update", "adopt"])
    " Did you mean 'update'?"
    """
    *others, last = [repr(each) for each in nearest(name, known)] or [""]
    choice = f"{', '.join(others)} or {last}" if others else last
    return f" Did you mean {choice}?" if choice else ""
