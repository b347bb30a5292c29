"""Content of a notification: a run, its news and its failures; as JSON for hooks, as text for people."""

import hashlib
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.config import Settings
from pipeline.errors import EXIT_ALREADY_RUNNING, EXIT_DONE, EXIT_FILESET_FAILED, EXIT_STOPPED, cause_in
from pipeline.mirror.state.failures import failures
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.steps import Steps
from pipeline.names import escaped, some
from pipeline.reporting.failure_groups import FailureGroup, ListingFailure, failure_groups, listing_failures
from pipeline.reporting.history import NOUNS, RunRecord
from pipeline.reporting.report_forms import failure_lines, listing_lines
from pipeline.reporting.status_files import verification_problems
from pipeline.units import as_count, as_size

SCHEMA = 1
# Codes that say nothing beside the failures.
_NO_NEWS = frozenset({EXIT_DONE, EXIT_ALREADY_RUNNING, EXIT_STOPPED, EXIT_FILESET_FAILED})
_NAMED = 3


@dataclass(frozen=True)
class RunSummary:
    """One run. ``complete`` are the names of the filesets that it completed, by product.

    ``failures``, ``listings`` that could not be read, by product, and ``problems`` (of verifications, as
    text) are all that there are when the run ends. ``digest`` is that of what is wrong.
    """

    root: str
    run: RunRecord
    complete: dict[str, list[str]]
    failures: tuple[FailureGroup, ...]
    listings: dict[str, ListingFailure]
    problems: tuple[str, ...]
    digest: str

    @property
    def is_well(self) -> bool:
        """True if nothing is wrong."""
        return not (self.failures or self.listings or self.problems) and self.run.code in _NO_NEWS


def summary_of(
    layout: Layout, settings: Settings, steps: Steps, run: RunRecord, complete: Mapping[str, Iterable[str]]
) -> RunSummary:
    """Return the summary of a run that ends. Raises OSError."""
    products = layout.state_products()
    problems = tuple(row["problem"] for row in verification_problems(layout, steps))
    wrong: list[Any] = [[*_identity(record)] for name in products for record in failures(layout, name)]
    listings = listing_failures(layout, settings)
    wrong += [[name, each.kind, cause_in(each.reason, [name])] for name, each in listings.items()]
    wrong += sorted(problems)
    if run.code not in _NO_NEWS:
        wrong.append([run.code, cause_in(run.reason, ())])
    return RunSummary(
        root=str(layout.root),
        run=run,
        complete={product: sorted(names) for product, names in sorted(complete.items())},
        failures=tuple(group for name in products for group in failure_groups(layout, name, steps)),
        listings=listings,
        problems=problems,
        digest=hashlib.sha256(json.dumps(wrong).encode()).hexdigest() if wrong else "",
    )


def _identity(record: dict[str, Any]) -> tuple[str, ...]:
    files = [file["file"] for file in record["files"]]
    names = (record["product"], record["fileset"], *files)
    causes = [cause_in(str(file["reason"]), names) for file in record["files"]]
    return record["product"], record["fileset"], record.get("step", ""), *causes


def is_news(layout: Layout, summary: RunSummary) -> bool:
    """Return True for new filesets, and when other things are wrong than at the last message."""
    sent = (read_marker(layout.notified) or {}).get("digest", "")
    return bool(summary.complete) or summary.digest != sent


def note_notified(layout: Layout, summary: RunSummary) -> None:
    """Note what was wrong when a message was sent. Raises OSError."""
    write_marker(layout.notified, {"digest": summary.digest})


def as_json(summary: RunSummary, news: bool) -> str:
    """Return the summary as one JSON object (docs/stability.md)."""
    content = {"schema": SCHEMA, "news": news, "root": summary.root, **asdict(summary.run)}
    content |= {"complete": summary.complete, "problems": summary.problems}
    content |= {"listings": [{"product": name, **asdict(each)} for name, each in summary.listings.items()]}
    return json.dumps(content | {"failed": [asdict(group) for group in summary.failures]}, indent=1) + "\n"


def title(summary: RunSummary) -> str:
    """Return the subject of the message."""
    complete = sum(map(len, summary.complete.values()))
    failed = sum(group.filesets for group in summary.failures)
    parts = [f"{as_count(complete, 'fileset')} complete"] if complete else []
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{as_count(len(summary.listings), 'listing')} not read"] if summary.listings else []
    parts += [as_count(len(summary.problems), "problem")] if summary.problems else []
    if summary.run.code not in _NO_NEWS:
        parts.append(f"ended with code {summary.run.code}")
    said = ", ".join(parts) or "all is well again"
    return escaped(f"ipp-mirror on {socket.gethostname()}, {summary.root}: {said}")


def body(summary: RunSummary) -> str:
    """Return the text of the message."""
    return "".join(f"{escaped(line)}\n" for line in _lines(summary)).lstrip("\n")


def _lines(summary: RunSummary) -> Iterator[str]:
    run = summary.run
    reason = f": {run.reason}" if run.reason else ""
    yield f"{NOUNS.get(run.task, 'run')} from {run.start} to {run.end} ended with code {run.code}{reason}"
    yield f"{as_size(run.bytes)} fetched in {run.seconds:.0f} s"
    if summary.complete:
        yield ""
    for product, names in summary.complete.items():
        yield f"{product}: {as_count(len(names), 'fileset')} complete: {some(names, _NAMED)}"
    yield from failure_lines("failed", list(summary.failures))
    yield from listing_lines("listings that could not be read", summary.listings)
    if summary.problems:
        yield ""
        yield f"{as_count(len(summary.problems), 'problem')} found by verify:"
    yield from (f"  {problem}" for problem in summary.problems[:_NAMED])
    if summary.is_well:
        yield ""
        yield "Nothing is wrong."
