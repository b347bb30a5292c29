"""Judgement of a mirror: what a person has to do, and what bears watching."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from textwrap import shorten

from pipeline.catalog.health import behind_text
from pipeline.errors import EXIT_NOT_SCHEDULED, EXIT_SERVER_UNAVAILABLE, cause_in
from pipeline.mirror.state.steps import UNEXPECTED
from pipeline.names import escaped, some
from pipeline.reporting.disks import Disk
from pipeline.reporting.failure_groups import FailureGroup, ListingFailure
from pipeline.reporting.history import KILLED
from pipeline.reporting.report import MirrorReport
from pipeline.units import as_count, as_size

CRITICAL, WARNING, OK = "critical", "warning", "ok"
# Characters of the cause of failures upstream.
_ESSENCE = 120
# Products that one point names.
_NAMED = 3


@dataclass(frozen=True)
class AttentionPolicy:
    """Times since the last update that went through all products, and until a disk is full."""

    old: timedelta = timedelta(days=2)
    too_old: timedelta = timedelta(days=7)
    full_soon: timedelta = timedelta(days=30)
    full_very_soon: timedelta = timedelta(days=7)


@dataclass(frozen=True)
class Attention:
    """One sentence to the operator. ``critical`` needs a person; ``warning`` may pass by itself."""

    severity: str
    message: str


DEFAULT = AttentionPolicy()


def attention(report: MirrorReport, policy: AttentionPolicy = DEFAULT) -> list[Attention]:
    """Return all that is not well, critical points first."""
    now = datetime.fromisoformat(report.time)
    points = [
        *(Attention(CRITICAL, f"no update can begin: {problem}") for problem in report.volumes),
        *_of_runs(report, policy, now),
        *_of_listings(report),
        *(point for group in report.failures for point in _of_failures(group)),
        *_of_verifications(report),
        *(point for disk in report.disks for point in _of_disk(disk, policy, now.date())),
        *(
            Attention(WARNING, f"product {each.product}: {each.note}")
            for each in report.products
            if each.note
        ),
    ]
    if report.catalog_fault:
        points.append(Attention(CRITICAL, report.catalog_fault))
    elif report.catalog_behind and not (report.holder and report.holder.is_alive):
        points.append(Attention(WARNING, behind_text(report.catalog_behind)))
    return sorted(points, key=lambda point: point.severity != CRITICAL)


def severity(points: list[Attention]) -> str:
    """Return the highest severity of the points; ``ok`` without one."""
    return points[0].severity if points else OK


def _of_runs(report: MirrorReport, policy: AttentionPolicy, now: datetime) -> Iterator[Attention]:
    holder, last = report.holder, report.last_update
    if report.paused:
        yield Attention(WARNING, f"{report.paused}; no update begins until `ipp-mirror resume`")
    if holder and not holder.is_alive:
        yield Attention(
            WARNING,
            f"the run of process {holder.pid} on {holder.host}, started {holder.since}, was killed; "
            "the next update goes on from there",
        )
    if last and last.code == KILLED:
        if holder is None:
            yield Attention(
                WARNING, f"the update started {last.start} was killed; the next one goes on from there"
            )
    elif last and last.code >= EXIT_NOT_SCHEDULED:
        ended = f"the last update ended with code {last.code}: {_clause(last.reason)}"
        yield Attention(CRITICAL, f"{ended}; more on it is in {report.root}/log/update_mirror.log")
    elif last and last.code == EXIT_SERVER_UNAVAILABLE and not _is_of_listing(last.reason, report):
        # The reason says what happens next.
        yield Attention(WARNING, f"the last update ended with code {last.code}: {last.reason}")
    is_working = holder is not None and holder.is_alive
    if report.last_success is None:
        if not is_working:
            waits = report.paused or any(each.listing_failure for each in report.products)
            begin = "" if waits else "; begin one with: ipp-mirror update"
            yield Attention(WARNING, f"no update has gone through all products yet{begin}")
        return
    age = now - datetime.fromisoformat(report.last_success)
    if age > policy.old:
        yield Attention(
            CRITICAL if age > policy.too_old and not is_working else WARNING,
            f"no update has gone through all products since {report.last_success}; see that cron runs it, "
            "and that it ends",
        )


def _of_listings(report: MirrorReport) -> Iterator[Attention]:
    """Yield a point for each cause for which listings could not be read."""
    causes: dict[tuple[str, str], dict[str, ListingFailure]] = {}
    for each in report.products:
        if failure := each.listing_failure:
            cause = cause_in(failure.reason, (each.product,))
            causes.setdefault((failure.kind, cause), {})[each.product] = failure
    for failures in causes.values():
        first = next(iter(failures.values()))
        since = min(failure.first_failed for failure in failures.values())
        where = "because of this machine or its settings " if first.here and first.kind != "network" else ""
        # The reason says what happens next.
        yield Attention(
            CRITICAL if where else WARNING,
            f"{_listings_of(list(failures))} could not be read {where}since {since}: {first.reason}",
        )


def _listings_of(products: list[str]) -> str:
    if len(products) == 1:
        return f"product {products[0]}: its listing"
    return f"products {some(products, _NAMED)}: their listings"


def _is_of_listing(reason: str, report: MirrorReport) -> bool:
    """Return True if a run ended for that reason, which the history may cut short, as a listing failed."""
    failures = [each.listing_failure for each in report.products if each.listing_failure]
    return bool(reason) and any(escaped(failure.reason).startswith(reason) for failure in failures)


def _of_failures(group: FailureGroup) -> Iterator[Attention]:
    failed = f"product {group.product}: {as_count(group.filesets, 'fileset')} failed"
    now = f"to try now: ipp-mirror retry {shlex.quote(group.product)}"
    then = now if group.postponed else "the next update tries again"
    if group.optional or group.kind == "network":
        where = f" at step {group.step}" if group.step else ""
        yield Attention(WARNING, f"{failed}{where} ({group.kind}); {then}")
    elif group.here:
        cause = f"because of this machine or its settings: {_clause(group.reason)}"
        yield Attention(CRITICAL, f"{failed} {cause}; {then}")
    elif group.postponed:
        again = f"tried again from {group.next_try} on" if group.next_try else f"{group.postponed} postponed"
        is_one = group.filesets == 1
        them, fileset = ("it", shlex.quote(group.examples[0])) if is_one else ("them", "FILESET")
        yield Attention(
            CRITICAL,
            f"{failed} ({_essence(group.reason)}), {again}; ask upstream, or "
            f"skip {them}: ipp-mirror skip {shlex.quote(group.product)} {fileset} --reason TEXT",
        )
    else:
        yield Attention(WARNING, f"{failed} ({_essence(group.reason)}); the next update tries again")


def _of_verifications(report: MirrorReport) -> Iterator[Attention]:
    unexpected = sum(UNEXPECTED in problem["problem"] for problem in report.problems)
    if damaged := len(report.problems) - unexpected:
        found = as_count(damaged, "problem")
        yield Attention(CRITICAL, f"verifications found {found} to repair: ipp-mirror verify --repair")
    if unexpected:
        found = as_count(unexpected, "unexpected file")
        yield Attention(
            CRITICAL,
            f"verifications found {found}: move or delete what ipp-mirror status --details names, "
            "as --repair leaves it alone",
        )


def _of_disk(disk: Disk, policy: AttentionPolicy, today: date) -> Iterator[Attention]:
    remedy = "make room, select less, or give products disks of their own (mirror.volumes)"
    if disk.min_free >= disk.size:
        stay = f"{as_size(disk.min_free)} are to stay free of {as_size(disk.size)} in all"
        yield Attention(CRITICAL, f"{disk.name} can hold nothing: {stay}; lower min_free in the settings")
    elif disk.free <= disk.min_free:
        free = f"{as_size(disk.free)} free, {as_size(disk.min_free)} are to stay free"
        yield Attention(CRITICAL, f"{disk.name} is full: {free}; {remedy}")
    elif disk.full and (left := date.fromisoformat(disk.full) - today) < policy.full_soon:
        level = CRITICAL if left < policy.full_very_soon else WARNING
        yield Attention(level, f"{disk.name} will be full on {disk.full}; {remedy}")


def _essence(reason: str) -> str:
    """Return what was expected and came, without the file and the address."""
    return shorten(_clause(reason.rpartition(": ")[2]), _ESSENCE, placeholder=" ...")


def _clause(sentence: str) -> str:
    """Return a sentence without the full stop at its end, to go on behind it."""
    return sentence.rstrip().removesuffix(".")
