"""Failures of the filesets of a product by cause, and listings that could not be read."""

from dataclasses import dataclass
from typing import Any

from pipeline.config import Settings
from pipeline.errors import KINDS, KINDS_HERE, cause_in, without_next_try
from pipeline.mirror.state.failures import failures, is_postponed
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.listing_failure import listing_failure
from pipeline.mirror.state.steps import Steps

_EXAMPLES = 3


@dataclass(frozen=True)
class ListingFailure:
    """Listing that could not be read since ``first_failed`` (UTC); ``kind`` as in FailureGroup."""

    kind: str
    here: bool
    reason: str
    first_failed: str
    last_failed: str


@dataclass(frozen=True)
class FailureGroup:
    """Filesets of a product that failed at one step for one cause.

    ``kind`` is one of ``pipeline.errors.KINDS``; ``here`` is True for those of this site. ``reason`` is that
    of the first fileset of ``examples``. ``next_try`` is the earliest (UTC), None for the next run;
    ``postponed`` counts the filesets that failed so often that the next run does not try them.
    ``first_failed`` and ``last_failed`` (UTC) are the first and the last attempt that failed of all of them.
    """

    product: str
    step: str
    kind: str
    here: bool
    optional: bool
    filesets: int
    examples: tuple[str, ...]
    reason: str
    next_try: str | None
    postponed: int
    first_failed: str | None
    last_failed: str | None


def listing_failures(layout: Layout, settings: Settings) -> dict[str, ListingFailure]:
    """Return why listings could not be read, by product, of those that are mirrored. Raises OSError."""
    names = layout.state_products(never_listed=True)
    found = {name: listing_failure_of(layout, name) for name in sorted(names) if settings.is_configured(name)}
    return {name: failure for name, failure in found.items() if failure}


def listing_failure_of(layout: Layout, product: str) -> ListingFailure | None:
    """Return why the listing of the product could not be read by the last discovery. Raises OSError."""
    record = listing_failure(layout, product)
    if record is None:
        return None
    kind = record.get("kind")
    kind = kind if kind in KINDS else "unknown"
    texts = {key: str(record.get(key, "unknown")) for key in ("reason", "first_failed", "last_failed")}
    return ListingFailure(kind, kind in KINDS_HERE, **texts)


def failure_groups(layout: Layout, product: str, steps: Steps) -> list[FailureGroup]:
    """Return the failures of a product by cause, those of this site first. Raises OSError."""
    grouped: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in failures(layout, product):
        first = record["files"][0] if record["files"] else {}
        kind = first.get("kind")
        kind = kind if kind in KINDS else "unknown"
        cause = cause_in(
            str(first.get("reason", "")), (str(first.get("file", "")), record["fileset"], product)
        )
        grouped.setdefault((str(record.get("step", "")), kind, cause), []).append(record)
    required = {step.name for step in steps.required}
    groups = [_group(product, *key[:2], records, required) for key, records in grouped.items()]
    return sorted(groups, key=lambda group: (KINDS.index(group.kind), -group.filesets))


def _group(
    product: str, step: str, kind: str, records: list[dict[str, Any]], required: set[str]
) -> FailureGroup:
    tries = [str(record["next_try"]) for record in records if is_postponed(record)]
    first = records[0]["files"][0] if records[0]["files"] else {}
    # Of the next try, ``next_try`` knows better.
    name, reason = str(first.get("file", "")), without_next_try(str(first.get("reason", "")))
    # An address ends with the name.
    file = f"{name}: " if name and f"/{name}: " not in reason else ""
    return FailureGroup(
        product=product,
        step=step,
        kind=kind,
        here=kind in KINDS_HERE,
        optional=bool(step) and step not in required,
        filesets=len(records),
        examples=tuple(record["fileset"] for record in records[:_EXAMPLES]),
        reason=f"{file}{reason}",
        next_try=min(tries) if len(tries) == len(records) else None,
        postponed=len(tries),
        first_failed=min(_values(records, "first_failed"), default=None),
        last_failed=max(_values(records, "last_failed"), default=None),
    )


def _values(records: list[dict[str, Any]], key: str) -> list[str]:
    return [str(record[key]) for record in records if key in record]
