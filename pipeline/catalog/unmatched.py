"""Sentences on a search that finds nothing: which condition no image meets, and what there is instead."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pipeline.catalog.columns import COLUMNS
from pipeline.catalog.criteria import Criteria, Patterns
from pipeline.catalog.find import TEXT_COLUMNS, Search, time_of
from pipeline.catalog.reader import Reader
from pipeline.mirror.state.markers import utc_text
from pipeline.mirror.state.operands import is_pattern
from pipeline.near_names import LEAST_PART, did_you_mean

# The values of a condition; those that are many are not listed.
_SOURCES = {
    "stage": "SELECT DISTINCT stage FROM image",
    "filter": "SELECT DISTINCT filter FROM image",
    "exposure": "SELECT DISTINCT exp_name FROM image",
    "object": "SELECT DISTINCT object FROM image",
    "skycell": "SELECT DISTINCT skycell FROM image",
    "product": "SELECT name FROM product",
    "data_group": "SELECT DISTINCT data_group FROM fileset",
}
_MANY = {"exposure", "skycell"}
_FIRST_AND_LAST = "SELECT (SELECT min(t_min) FROM image), (SELECT max(t_min) FROM image)"
_STAGES = "SELECT DISTINCT stage FROM fileset"
_VALUES_SHOWN = 12


def unmatched(reader: Reader, criteria: Criteria) -> Iterator[str]:
    """Yield a sentence on each condition that no image here meets, with the names or times that there are.

    Raises MachineFault.
    """
    if criteria.at is not None and not _is_met(reader, "ra", at=criteria.at, radius=criteria.radius):
        does = f"is within {criteria.radius:g} degrees of" if criteria.radius else "covers"
        yield f"no image here {does} the position {criteria.at[0]:.6g} {criteria.at[1]:.6g}."
    times = {"after": criteria.after, "before": criteria.before}
    if any(times.values()) and not _is_met(reader, "t_min", **times):
        yield f"no exposure here starts at such a time.{_times_of_exposures(reader)}"
    for name in TEXT_COLUMNS:
        patterns = getattr(criteria, name)
        if not patterns or name == "kind" or _is_met(reader, TEXT_COLUMNS[name].name, **{name: patterns}):
            continue
        got = " or ".join(map(repr, patterns))
        values = [value for (value,) in reader.rows(_SOURCES[name], {}) if value]
        there = "" if name in _MANY else f": there {_are(values)}"
        meant = _wider_pattern(patterns[0], values) or did_you_mean(patterns[0], values)
        elsewhere = _without_images(reader, patterns) if name == "stage" else ""
        yield f"no image here has the {name.replace('_', ' ')} {got}{there}.{elsewhere or meant}"


def _wider_pattern(name: str, values: Sequence[str]) -> str:
    """Return a sentence with a shell pattern by which a part of a name is found, or an empty text.

    >>> _wider_pattern("1566.004", ["skycell.1566.004", "skycell.1566.005"])
    " The pattern '*1566.004' finds 1: skycell.1566.004."
    """
    if len(name) < LEAST_PART or is_pattern(name):
        return ""
    for pattern in (f"{name}*", f"*{name}", f"*{name}*"):
        if found := sorted(value for value in values if fnmatchcase(value, pattern)):
            return f" The pattern {pattern!r} finds {len(found)}: {_some(found)}."
    return ""


def _without_images(reader: Reader, patterns: Patterns) -> str:
    """Return a sentence on a stage of which there are filesets, but no images; or an empty text."""
    stages = [stage for (stage,) in reader.rows(_STAGES, {}) if stage]
    if not any(fnmatchcase(stage, pattern) for stage in stages for pattern in patterns):
        return ""
    return (
        " Filesets of it have other files, such as catalogs: `ipp-mirror sql` finds them in the table member."
    )


def _is_met(reader: Reader, column: str, **condition: Any) -> bool:
    """Return True if an image of any kind meets the condition; ``column`` is one that it is about."""
    only: dict[str, Any] = {"kind": (), **condition}
    rows = Search(reader, Criteria(**only), [COLUMNS[column]]).rows()
    return next(iter(rows), None) is not None


def _times_of_exposures(reader: Reader) -> str:
    """Return a sentence with the start of the first and the last exposure; an empty text without any."""
    ((first, last),) = reader.rows(_FIRST_AND_LAST, {})
    if first is None:
        return ""
    if first == last:
        return f" The only one starts {_shown(first)}."
    return f" The first starts {_shown(first)}, the last {_shown(last)}."


def _shown(mjd: float) -> str:
    time = time_of(mjd)
    return utc_text(time.replace(microsecond=0)) if time else f"at MJD {mjd}"


def _are(values: Sequence[str]) -> str:
    """Return some of the values with their verb."""
    return f"{'is' if len(values) == 1 else 'are'} {_some(values) or 'none'}"


def _some(values: Sequence[str]) -> str:
    return ", ".join(sorted(values)[:_VALUES_SHOWN] + (["…"] if len(values) > _VALUES_SHOWN else []))
