"""Sentences on a search that finds nothing: which condition no image meets, and what there is instead."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pipeline.catalog.criteria import Criteria, Patterns
from pipeline.catalog.find import TEXT_COLUMNS, Search
from pipeline.catalog.reader import Reader
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
_STAGES = "SELECT DISTINCT stage FROM fileset"
_VALUES_SHOWN = 12


def unmatched(reader: Reader, criteria: Criteria) -> Iterator[str]:
    """Yield a sentence on each condition on names that no image here meets, with the names that there are.

    Raises MachineFault.
    """
    for name in TEXT_COLUMNS:
        patterns = getattr(criteria, name)
        if not patterns or name == "kind" or _is_met(reader, name, patterns):
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


def _is_met(reader: Reader, name: str, patterns: Patterns) -> bool:
    only: dict[str, Any] = {"kind": (), name: patterns}
    rows = Search(reader, Criteria(**only), [TEXT_COLUMNS[name]]).rows()
    return next(iter(rows), None) is not None


def _are(values: Sequence[str]) -> str:
    """Return some of the values with their verb."""
    return f"{'is' if len(values) == 1 else 'are'} {_some(values) or 'none'}"


def _some(values: Sequence[str]) -> str:
    return ", ".join(sorted(values)[:_VALUES_SHOWN] + (["…"] if len(values) > _VALUES_SHOWN else []))
