"""Forms of the report on a mirror: text for a terminal of 80 columns, JSON, and one line for Nagios."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import islice

from pipeline.errors import EXIT_DONE, EXIT_FILESET_FAILED
from pipeline.names import escaped
from pipeline.reporting.attention import CRITICAL, OK, WARNING, Attention, severity
from pipeline.reporting.disks import Disk
from pipeline.reporting.failure_groups import FailureGroup, ListingFailure
from pipeline.reporting.history import KILLED, NOUNS, RunRecord
from pipeline.reporting.outlook import outlook, outlook_text
from pipeline.reporting.product_report import ProductReport
from pipeline.reporting.progress import progress_text
from pipeline.reporting.report import MirrorReport, Verification
from pipeline.units import as_count, as_duration, as_size

WIDTH = 80
SCHEMA = 1
# Codes of Nagios, and of all that takes its plugins.
CHECK_CODES = {OK: 0, WARNING: 1, CRITICAL: 2}
CHECK_UNKNOWN = 3
_SHOWN = 10
_COLUMNS = ("known", "selected", "complete", "left", "failed", "skipped", "withdrawn")
_WIDTHS = (8, 9, 9, 8, 7, 8, 10)
_NAME_WIDTH = WIDTH - sum(_WIDTHS)


def as_text(report: MirrorReport, points: list[Attention]) -> str:
    """Return the report as lines of printable text; only a word that is longer exceeds 80 columns."""
    lines = [
        *_wrapped(f"mirror {report.root}", ""),
        f"as of {report.time}",
        *_wrapped(outlook_text(report), ""),
        *_attention(points),
        *_runs(report),
        *_products(report.products),
        *failure_lines(
            "failures here (disk, network, settings)", [each for each in report.failures if each.here]
        ),
        *failure_lines("failures upstream", [each for each in report.failures if each.kind == "upstream"]),
        *failure_lines("other failures", [each for each in report.failures if each.kind == "unknown"]),
        *_skipped(report),
        *_disks(report),
        *_verifications(report),
    ]
    if catalog := catalog_text(report):
        lines += ["", f"catalog: {catalog}"]
    return "".join(f"{escaped(line)}\n" for line in lines)


def as_json(report: MirrorReport, points: list[Attention]) -> str:
    """Return the report as one JSON object (docs/stability.md)."""
    content = {"schema": SCHEMA, "state": severity(points), "attention": [asdict(point) for point in points]}
    return json.dumps(content | asdict(report), indent=1) + "\n"


def as_check(report: MirrorReport, points: list[Attention]) -> str:
    """Return one line for Nagios, with performance data."""
    found = outlook(report)
    said = "; ".join(point.message.removesuffix(".") for point in points) or outlook_text(report)
    line = f"{severity(points).upper()} - {said.replace('|', '/')} | left={found.left} failed={found.failed}"
    return escaped(line) + "\n"


def _attention(points: list[Attention]) -> Iterator[str]:
    if not points:
        yield "state: ok"
    for point in points:
        yield from _wrapped(f"{point.severity}: {point.message}", "")


def _runs(report: MirrorReport) -> Iterator[str]:
    yield ""
    if report.holder and report.holder.is_alive:
        holder = report.holder
        kind = f"{noun}, " if (noun := running_noun(report)) else ""
        yield from _wrapped(f"running: {kind}process {holder.pid} on {holder.host} since {holder.since}", "")
        yield from _wrapped(running_numbers(report), "  ")
    else:
        yield "running: nothing"
    last = report.last_update
    if last is None:
        yield "last update: none has ended"
        return
    reason = f": {last.reason}" if last.reason else ""
    yield from _wrapped(f"last update: ended {last.end} with code {last.code}{reason}", "")
    yield from _wrapped(run_numbers(last), "  ")
    if report.last_success and last.code not in {EXIT_DONE, EXIT_FILESET_FAILED}:
        yield from _wrapped(f"all products were last gone through by {report.last_success}", "  ")


def running_noun(report: MirrorReport) -> str:
    """Return what the run that works is called; nothing where that is not known."""
    return NOUNS.get(report.progress.task, "") if report.progress else ""


def running_numbers(report: MirrorReport) -> str:
    """Return the progress of the run that works, with its age: all else is of ``report.time``.

    Nothing where the progress is not known.
    """
    progress = report.progress
    if progress is None:
        return ""
    age = datetime.fromisoformat(report.time) - datetime.fromisoformat(progress.time)
    ago = f"{as_duration(age.total_seconds())} ago: " if age >= timedelta(seconds=1) else ""
    return f"{ago}{progress_text(progress)}"


def run_numbers(run: RunRecord) -> str:
    """Return what a run brought, and how long it took: of one that was killed, up to its last progress."""
    least = "at least " if run.code == KILLED else ""
    filesets, size = as_count(run.filesets, "fileset"), as_size(run.bytes)
    return f"{least}{filesets}, {size} in {as_duration(run.seconds)}, {run.failures} failed"


def catalog_text(report: MirrorReport) -> str:
    """Return what the catalog lacks; nothing without one that can be used."""
    if report.catalog_behind is None or report.catalog_fault:
        return ""
    if not report.catalog_behind:
        return "has all filesets that are here"
    return f"lacks {as_count(report.catalog_behind, 'fileset')} of those that are here"


def _products(products: tuple[ProductReport, ...]) -> Iterator[str]:
    yield ""
    if not products:
        yield "products: none is known; an update asks the server for them"
        return
    yield _row("product", _COLUMNS)
    for each in products:
        counts = asdict(each.filesets) | {"failed": each.failed}
        yield from _named_row(each.product, [str(counts[column]) for column in _COLUMNS])
    yield ""
    for each in products:
        size = f"{'' if each.bytes_exact else 'about '}{as_size(each.bytes)} here"
        said = ", ".join(filter(None, (size, bytes_left_of(each), _newest(each))))
        yield from _wrapped(f"{each.product}: {'; '.join([said, *notes_of(each)])}", "")


def _newest(product: ProductReport) -> str:
    if product.newest is None:
        return "no fileset complete"
    age = "" if product.newest_age is None else f", {as_age(product.newest_age)} ago"
    return f"newest {product.newest} of {product.newest_registered}{age}"


def bytes_left_of(product: ProductReport) -> str:
    """Return how much is to be fetched; nothing where that is nothing."""
    if not product.bytes_left:
        return "" if product.bytes_left_known else "unknown size left"
    about = "about" if product.bytes_left_known else "roughly"
    return f"{about} {as_size(product.bytes_left)} left"


def notes_of(product: ProductReport) -> list[str]:
    """Return what there is to say of a product beside its numbers."""
    notes = []
    if partial := product.filesets.partial:
        notes.append(f"{partial} whole as selected, without some files or members")
    if expired := product.filesets.expired:
        notes.append(f"{expired} expired")
    if optional := product.failed_optional:
        notes.append(f"{optional} failed in optional steps")
    if failure := product.listing_failure:
        notes.append(f"listing not read since {failure.first_failed}")
    return notes if product.configured else [*notes, "not in the settings"]


def failure_lines(title: str, groups: list[FailureGroup]) -> Iterator[str]:
    """Yield the lines on failures, after an empty one and the title; nothing without a failure."""
    if groups:
        yield ""
        yield f"{title} ({as_count(sum(group.filesets for group in groups), 'fileset')}):"
    for group in groups[:_SHOWN]:
        named = ", ".join(group.examples)
        others = group.filesets - len(group.examples)
        named += f" and {others} more" if others else ""
        step = f", step {group.step}" if group.step else ""
        tried = f"next try {group.next_try}" if group.next_try else "next try in the next update"
        yield from _wrapped(f"{group.product}{step}: {named}; {tried}", "  ")
        yield from _wrapped(group.reason, "    ")
    yield from _rest(len(groups), "cause")


def listing_lines(title: str, failed: Mapping[str, ListingFailure]) -> Iterator[str]:
    """Yield the lines on listings that could not be read, by product, as ``failure_lines`` does."""
    if failed:
        yield ""
        yield f"{title} ({as_count(len(failed), 'product')}):"
    for product, failure in islice(failed.items(), _SHOWN):
        yield from _wrapped(f"{product}: since {failure.first_failed}; next try in the next update", "  ")
        yield from _wrapped(failure.reason, "    ")
    yield from _rest(len(failed), "product")


def _skipped(report: MirrorReport) -> Iterator[str]:
    if report.skipped:
        yield ""
        yield f"skipped ({as_count(len(report.skipped), 'fileset')}):"
    for each in report.skipped[:_SHOWN]:
        said = f"{each['product']}/{each['fileset']} since {each['since']} by {each['by']}: {each['reason']}"
        yield from _wrapped(said, "  ")
    yield from _rest(len(report.skipped), "fileset")


def _disks(report: MirrorReport) -> Iterator[str]:
    yield ""
    for disk in report.disks:
        yield from _wrapped(_disk(disk), "")


def _disk(disk: Disk) -> str:
    kept = f", {as_size(disk.min_free)} to stay free" if disk.min_free else ""
    line = f"{disk.name}: {as_size(disk.free)} of {as_size(disk.size)} free{kept}"
    if disk.growth is None:
        return f"{line}; its growth is known after a day of runs"
    full = f", full on {disk.full}" if disk.full else ""
    return f"{line}; grows by {as_size(disk.growth)} a day{full}"


def _verifications(report: MirrorReport) -> Iterator[str]:
    yield ""
    is_repaired = not report.problems
    yield from _wrapped(f"verification: {_verification(report.verification, is_repaired=is_repaired)}", "")
    if report.comparison.finished or report.comparison.unfinished:
        compared = _verification(report.comparison, is_repaired=is_repaired)
        yield from _wrapped(f"comparison with upstream: {compared}", "")
    if report.problems:
        yield f"problems that verify found ({as_count(len(report.problems), 'problem')}):"
    for each in report.problems[:_SHOWN]:
        yield from _wrapped(each["problem"], "  ")
    yield from _rest(len(report.problems), "problem")


def _verification(verification: Verification, *, is_repaired: bool) -> str:
    """Return how it ended; ``is_repaired`` is True where nothing is left of the problems."""
    if verification.finished is None:
        ended = "none has ended"
    else:
        left = ", none of which is left" if is_repaired and verification.problems else ""
        ended = f"ended {verification.finished}, {as_count(verification.problems, 'problem')} found{left}"
    begun = f"; one that began {verification.unfinished} has not ended" if verification.unfinished else ""
    return ended + begun


def _rest(number: int, noun: str) -> Iterator[str]:
    if number > _SHOWN:
        yield f"  and {as_count(number - _SHOWN, f'more {noun}')}: ipp-mirror status --details"


def _named_row(name: str, cells: Iterable[str]) -> Iterator[str]:
    """Yield a row of the table; a name that is longer than its column has a line of its own."""
    shown = escaped(name)
    if len(shown) <= _NAME_WIDTH:
        yield _row(shown, cells)
    else:
        yield shown
        yield _row("", cells)


def _row(name: str, cells: Iterable[str]) -> str:
    return name.ljust(_NAME_WIDTH) + "".join(
        cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True)
    )


def as_age(seconds: int) -> str:
    """Return a time in seconds as text, in its largest unit."""
    for unit, length in (("year", 31_557_600), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return as_count(seconds // length, unit)
    return "less than a minute"


def _wrapped(text: str, indent: str) -> list[str]:
    """Return the text in lines of at most 80 columns; a longer word, such as a path, stays whole."""
    return textwrap.wrap(
        escaped(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
