"""Selection of the filesets of a product by the settings (``select`` in ``mirror.yaml``)."""

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from pipeline.config import HIGHEST_PRIORITY, Product, Select
from pipeline.datastore.listing import FilesetRow, registered_order, registered_time
from pipeline.errors import SettingsError
from pipeline.mirror.state.beginning import Beginning
from pipeline.mirror.state.sky_selection import (
    NOTHING_KNOWN,
    SkyKnowledge,
    matches_sky,
    refuse_undecidable,
    waiting,
)
from pipeline.near_names import did_you_mean, nearest
from pipeline.units import as_count

# A filter is listed with a number of its kind, as in r.00000: its band alone stands for all of them.
BAND_COLUMN = "filter"
_VALUES_SHOWN = 8
PRIORITY_OF_WANTED = HIGHEST_PRIORITY + 1


def is_selected(row: FilesetRow, product: Product, sky: SkyKnowledge = NOTHING_KNOWN) -> bool:
    """Return True if the settings of the product select the fileset, by what ``sky`` knows of it.

    A row without a column that ``select`` names is not selected, nor one without a valid time of registration
    where ``select`` has a time. Raises MachineFault when that knowledge cannot be read.
    """
    return product.select is None or any(_matches(row, select, sky) for select in product.select)


def may_be_selected(row: FilesetRow, product: Product) -> bool:
    """Return False if the row alone shows that the settings do not select the fileset."""
    return product.select is None or any(
        _matches(row, select.model_copy(update={"unknown": True}), NOTHING_KNOWN) for select in product.select
    )


def selected_rows(
    rows: Iterable[FilesetRow],
    product: Product,
    beginning: Beginning,
    wanted: Container[str] = (),
    sky: SkyKnowledge = NOTHING_KNOWN,
) -> Iterator[FilesetRow]:
    """Yield those of the rows, in their order, that are wanted or that the settings select.

    ``beginning`` is that of the product. Raises MachineFault as ``is_selected``.
    """
    for row in rows:
        if row.name in wanted or (
            beginning.precedes(row.name, row.registered) and is_selected(row, product, sky)
        ):
            yield row


def is_expired(row: FilesetRow, product: Product, sky: SkyKnowledge = NOTHING_KNOWN) -> bool:
    """Return True for a fileset that was selected until it was as old as ``keep`` says."""
    selections = [select for select in product.select or () if select.keep is not None]
    return (
        bool(selections)
        and not is_selected(row, product, sky)
        and any(_matches(row, select.model_copy(update={"keep": None}), sky) for select in selections)
    )


def old_filesets(product: Product, registrations: Iterable[tuple[str, str]]) -> set[str]:
    """Return the names of those that are older than the shortest ``keep``: no others can have expired.

    Times are compared as texts, which takes a tenth of the time of reading them.
    """
    spans = [select.keep for select in product.select or () if select.keep is not None]
    if not spans:
        return set()
    begin = f"{datetime.now(UTC) - min(spans):%Y-%m-%dT%H:%M:%SZ}"
    return {name for name, registered in registrations if registered <= begin}


def priorities(
    rows: Iterable[FilesetRow],
    product: Product,
    sky: SkyKnowledge = NOTHING_KNOWN,
    wanted: Container[str] = (),
) -> dict[str, int]:
    """Return for each fileset the highest priority of the selections that match it.

    Filesets in ``wanted`` have a higher one than the settings can give. Raises MachineFault when what is
    known by ``sky`` cannot be read.
    """
    return {
        row.name: PRIORITY_OF_WANTED if row.name in wanted else _priority(row, product, sky) for row in rows
    }


def in_order(
    rows: Sequence[FilesetRow], product: Product, priorities: Mapping[str, int], failed: Container[str]
) -> list[FilesetRow]:
    """Return the rows, in the order of the listing, in that in which they are fetched: by priority first.

    Of one priority, those of the filesets in ``failed`` come last: others are not to wait for what may fail
    again. Then the time of registration counts, and the listing's order for those of one time: a mirror
    lists filesets as they arrived.
    """
    ordered = sorted(rows, key=lambda row: registered_order(row.registered))
    if product.order == "newest":
        ordered.reverse()
    return sorted(ordered, key=lambda row: (-priorities[row.name], row.name in failed))


def _priority(row: FilesetRow, product: Product, sky: SkyKnowledge) -> int:
    selections = (select for select in product.select or () if _matches(row, select, sky))
    found = [product.priority if select.priority is None else select.priority for select in selections]
    return max(found, default=product.priority)


def refuse_unknown_columns(
    product: Product, columns: Callable[[], set[str]], sky: SkyKnowledge = NOTHING_KNOWN
) -> None:
    """Raise SettingsError when ``select`` names a column that is none of the listing's ``columns``.

    The same when it has a condition that neither they nor ``sky`` can decide. A listing without
    rows has no columns, and every name is accepted.
    """
    if product.select is None:
        return
    known = columns()
    if known:
        refuse_undecidable(product, known, sky)
    unknown = set(_columns(product.select)) - known
    if known and unknown:
        meant = did_you_mean(min(unknown), known | Select.model_fields.keys())
        raise SettingsError(
            f"product {product.name}: select: expected columns of its listing "
            f"({', '.join(sorted(known))}), or one of {', '.join(Select.model_fields)}, got "
            f"{', '.join(sorted(unknown))}.{meant} Correct it in the settings; nothing of the product was "
            "fetched."
        )


def empty_selection(
    product: Product, rows: Iterable[FilesetRow], sky: SkyKnowledge = NOTHING_KNOWN, *, each: bool = False
) -> str | None:
    """Return a sentence on a ``select`` that matches 0 of the rows, with the values that they have.

    Return None when one of its selections matches a row, or ``each`` of them, or there is no row. Age does
    not count: a selection with ``keep`` of which all filesets are too old is in order. ``rows`` are read
    until that is decided.
    """
    if product.select is None:
        return None
    selections = [select.model_copy(update={"keep": None}) for select in product.select]
    empty = dict(enumerate(selections))
    # With filesets of which nothing is known, where `unknown: no` leaves them out.
    wider = {
        number: select.model_copy(update={"unknown": True})
        for number, select in empty.items()
        if not select.unknown
    }
    count, unknown, columns = 0, 0, _columns(product.select)
    values: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        empty = {number: select for number, select in empty.items() if not _matches(row, select, sky)}
        if len(empty) < (1 if each else len(selections)):
            return None
        count += 1
        unknown += any(_matches(row, wider[number], sky) for number in empty if number in wider)
        for column in columns:
            values[column].add(row.column(column) or "no value")
    if not count:
        return None
    by_sky = waiting(product, sky) or _none_by_sky(empty.values(), unknown)
    return _on_empty(product, list(empty), count, values, by_sky)


def _none_by_sky(selections: Iterable[Select], unknown: int) -> str:
    """Return a sentence on conditions by the sky that are not known of ``unknown`` filesets."""
    names = ", ".join(dict.fromkeys(name for select in selections for name in select.by_sky))
    if not unknown:
        return f"{names}: none by listing and catalog"
    return f"{names}: not known of {as_count(unknown, 'fileset')}, left out by `unknown: no`"


def _on_empty(
    product: Product, empty: list[int], count: int, values: Mapping[str, set[str]], by_sky: str
) -> str:
    """Return the sentence on the selections with these numbers, counted from 0, of ``count`` filesets.

    ``by_sky`` is that on their conditions by the sky, if they have any.
    """
    selections = product.select or []
    chosen = [selections[number] for number in empty]
    found = [
        f"{column} has {_some(values[column])}{_near(column, chosen, values)}" for column in _columns(chosen)
    ]
    if any(select.by_sky for select in chosen):
        found.append(by_sky)
    numbers = ", ".join(str(number + 1) for number in empty)
    which = "" if len(empty) == len(selections) else f", selection {numbers} of {len(selections)},"
    reason = "; ".join(found) or "none is of that time"
    return f"select{which} matches 0 of {as_count(count, 'fileset')}; {reason}"


def _near(column: str, selections: Iterable[Select], values: Mapping[str, set[str]]) -> str:
    """Return the values of the column that are nearest to patterns which match none, in brackets."""
    known = sorted(values[column])
    patterns = {pattern for select in selections for pattern in select.patterns.get(column, ())}
    others = [each for each in patterns if not any(matches(column, value, each) for value in known)]
    near = dict.fromkeys(value for pattern in sorted(others) for value in nearest(pattern, known))
    return f" (nearest: {', '.join(near)})" if near else ""


def _some(values: set[str]) -> str:
    more = ["…"] if len(values) > _VALUES_SHOWN else []
    return ", ".join([*sorted(values)[:_VALUES_SHOWN], *more])


def _columns(selections: list[Select]) -> list[str]:
    """Return the columns that the selections name, each once."""
    return list(dict.fromkeys(column for select in selections for column in select.patterns))


def _matches(row: FilesetRow, select: Select, sky: SkyKnowledge) -> bool:
    return _matches_time(row, select) and _matches_columns(row, select) and matches_sky(row, select, sky)


def _matches_time(row: FilesetRow, select: Select) -> bool:
    after, before = select.registered_after, select.registered_before
    if after is None and before is None and select.keep is None:
        return True
    registered = registered_time(row.registered)
    if registered is None:
        return False
    is_young = select.keep is None or datetime.now(UTC) - registered < select.keep
    return (after is None or registered >= after) and (before is None or registered < before) and is_young


def _matches_columns(row: FilesetRow, select: Select) -> bool:
    return all(
        (value := row.column(column)) is not None
        and any(matches(column, value, pattern) for pattern in patterns)
        for column, patterns in select.patterns.items()
    )


def matches(column: str, value: str, pattern: str) -> bool:
    """Return True if a value of the column matches the shell pattern; for a filter its band alone may do."""
    if column == BAND_COLUMN and fnmatch.fnmatchcase(value.partition(".")[0], pattern):
        return True
    return fnmatch.fnmatchcase(value, pattern)
