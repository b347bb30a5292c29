"""Verification: every fileset on disk compared with its listing and markers, and repaired on request.

    VerifyMirror ─ for each product ─ VerifyProduct ─ for each fileset ─ VerifyFileset
                                      └ with repair, for each damaged one ─ ExtractFileset, VerifyFileset

A verification that was stopped is resumed: each VerifyFileset leaves a marker that names the verification.
"""

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import luigi

from pipeline.datastore.listing import FilesetRow
from pipeline.errors import MirrorError, SettingsError, machine_faults
from pipeline.mirror.resources.rate_limit import RateLimit
from pipeline.mirror.state.failures import failed_in, failures
from pipeline.mirror.state.layout import MarkerKind
from pipeline.mirror.state.local_listing import known_rows
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.markers import Fileset, utc_now
from pipeline.mirror.state.pending import incomplete, renew_snapshots
from pipeline.mirror.state.steps import Problem
from pipeline.mirror.steps.verify import (
    end_verification,
    fileset_problems,
    filesets_here,
    make_pending,
    start_verification,
    unexpected_files,
    unexpected_markers,
)
from pipeline.units import parse_rate
from tasks.fileset import FilesetTask, tasks_for
from tasks.runtime.run import STARTED, current_run
from tasks.runtime.task import MirrorTask
from tasks.targets import RunMarker

log = logging.getLogger(__name__)


class ProblemsFound(MirrorError):
    """Problems found by a verification; each is logged on a separate line."""


class VerifyMirror(MirrorTask):
    """Verification of the whole mirror; with ``repair``, damaged files are fetched again."""

    subject = "verification"

    repair = luigi.BoolParameter(
        default=False, description="fetch and unpack again damaged and missing files"
    )
    rate = luigi.Parameter(default="", description="limit of the rate of reading, such as 50 MB/s")
    started = luigi.Parameter(default=STARTED, description="identifier, made by the program")

    def requires(self) -> list["VerifyProduct"]:
        """Return one verification for each product with any state."""
        rate_limit(self.rate)
        verification = start_verification(self.layout.verification, self.started)
        return [
            VerifyProduct(product=product, repair=self.repair, rate=self.rate, verification=verification)
            for product in self.layout.state_products()
        ]

    def output(self) -> RunMarker:
        """Return the marker of a verification that found no problem."""
        return RunMarker(self.layout.verified, self.started)

    def run(self) -> None:
        """Report files of no fileset, and add up the problems of all products."""
        unexpected = unexpected_files(self.layout, self.context.steps)
        _log_problems(unexpected)
        found = len(unexpected) + sum(product.found for product in self.requires())
        end_verification(self.layout.verification)
        content = {"run": self.started, "finished": utc_now(), "failed": found}
        write_marker(self.layout.verified, content)
        if found:
            hint = "" if self.repair else "; `ipp-mirror verify --repair` repairs what is damaged or missing"
            raise ProblemsFound(f"{found} problems in all{hint}")


class VerifyProduct(MirrorTask):
    """Verification of every fileset of one product; complete even when problems were found."""

    product = luigi.Parameter()
    repair = luigi.BoolParameter(default=False, significant=False)
    rate = luigi.Parameter(default="", significant=False)
    verification = luigi.Parameter()
    only_waits = True
    # Markers of the filesets.
    kind = MarkerKind.VERIFIED

    @property
    def record(self) -> Path:
        """Path of the marker of the last verification."""
        return self.layout.product_verified(self.product)

    @property
    def found(self) -> int:
        """Number of problems that the last verification left."""
        return int((read_marker(self.record) or {}).get("problems", 0))

    def output(self) -> RunMarker:
        """Return the marker with the number of problems that were not repaired."""
        return RunMarker(self.record, self.verification)

    def run(self) -> None:
        """Verify, repair on request, and verify repaired filesets again."""
        if self.repair:
            self.context.arrivals.settle(self.product)
        renew_snapshots(self.layout, self.product, self.context.steps)
        rows = known_rows(self.layout, self.product)
        unexpected = self._unexpected(rows)
        _log_problems(unexpected)
        here = self._here(rows)
        bad = self._verified(here)
        if self.repair and bad:
            log.info("product %s: repairing %d filesets", self.product, len(bad))
            self._repair(bad)
            bad = self._verified(bad, after="repair")
        log.info("product %s: %d filesets verified, %d with problems", self.product, len(here), len(bad))
        content = {"run": self.verification, "finished": utc_now(), "problems": len(bad) + len(unexpected)}
        write_marker(self.record, content)

    def _unexpected(self, rows: list[FilesetRow]) -> list[Problem]:
        return unexpected_markers(self.layout, self.product, rows, self.context.steps)

    def _here(self, rows: list[FilesetRow]) -> list[FilesetRow]:
        """Return the rows of the filesets to verify."""
        return filesets_here(self.layout, self.product, rows, self.context.steps)

    def _repair(self, rows: list[FilesetRow]) -> None:
        """Fetch and unpack the filesets again. Raises Stopped after a request to stop."""
        current_run().submit(tasks_for(self.context, self.product, rows))
        names = {row.name for row in rows}
        required = self.context.wanted_steps.required
        left = incomplete(self.layout, self.product, names, required)
        records = [each for each in failures(self.layout, self.product) if each["fileset"] in names]
        failed = failed_in(records, (step.name for step in required))
        optional_failed = len(records) - len(failed)
        self.context.counters.count(
            done=len(names) - len(left), failed=len(failed), optional_failed=optional_failed
        )
        current_run().refuse_when_stopping()

    def _verified(self, rows: list[FilesetRow], after: str = "") -> list[FilesetRow]:
        """Verify the filesets; return those with problems, which become pending for a repair."""
        self.context.counters.count(pending=len(rows))
        current_run().submit(self._checks(rows, after))
        current_run().refuse_when_stopping()
        bad = [row for row in rows if self._marker(row, after).get("problems", True)]
        if self.repair and not after:
            for row in bad:
                steps = self._marker(row, after).get("steps", [])
                self._make_pending(Fileset.of(self.product, row), steps)
        return bad

    def _checks(self, rows: list[FilesetRow], after: str) -> Iterator["VerifyFileset"]:
        """Return the tasks that verify the filesets."""
        more = {"verification": self.verification, "rate": self.rate, "after": after}
        return (
            VerifyFileset(product=self.product, fileset=row.name, row=row, position=position, **more)
            for position, row in enumerate(rows)
        )

    def _make_pending(self, fileset: Fileset, steps: list[str]) -> None:
        """Make the steps with these kinds of markers pending."""
        make_pending(self.layout, fileset, steps)

    def _marker(self, row: FilesetRow, after: str) -> dict[str, Any]:
        """Return the marker that the fileset has now; nothing where this verification wrote none."""
        marker = read_marker(self.layout.marker(self.kind, self.product, row.name)) or {}
        return marker if marker.get("run") == f"{self.verification}{after}" else {}


class VerifyFileset(FilesetTask):
    """Verification of one fileset, all its files read; complete even when problems were found."""

    verification = luigi.Parameter(description="identifier of the verification")
    rate = luigi.Parameter(default="", significant=False)
    after = luigi.Parameter(default="", description="step after which the fileset is verified again")
    resources = {"unpackers": 1}  # noqa: RUF012  (Luigi reads a plain attribute)
    kind = MarkerKind.VERIFIED

    def output(self) -> RunMarker:
        """Return the marker with the problems that were found."""
        path = self.layout.marker(self.kind, self.product, self.fileset)
        return RunMarker(path, f"{self.verification}{self.after}")

    def run(self) -> None:
        """Write the marker with the problems, and log them."""
        problems = self.problems()
        _log_problems(problems)
        write_marker(
            self.layout.marker(self.kind, self.product, self.fileset),
            {
                "product": self.product,
                "fileset": self.fileset,
                "registered": self.identity.registered,
                "run": f"{self.verification}{self.after}",
                "finished": utc_now(),
                "problems": [str(problem) for problem in problems],
                "steps": sorted({problem.marker for problem in problems if problem.marker}),
            },
        )
        self.context.counters.count(verified=1)

    def problems(self) -> list[Problem]:
        """Compare the files with the listing and the markers."""
        with machine_faults(f"{self.subject}: verifying its files"):
            return fileset_problems(self.context, self.identity, rate_limit(self.rate))


@cache
def rate_limit(text: str) -> RateLimit:
    """Return the limit that all readers share. Raises SettingsError."""
    try:
        return RateLimit(parse_rate(text) if text else None)
    except ValueError as error:
        raise SettingsError(f"--rate: {error}, got {text!r}. Nothing was started.") from None


def _log_problems(problems: list[Problem]) -> None:
    for problem in problems:
        log.warning("%s", problem)
