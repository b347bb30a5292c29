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
from luigi.parameter import ParameterVisibility

from pipeline.config import Settings
from pipeline.datastore.listing import FilesetRow
from pipeline.errors import MirrorError, SettingsError, machine_faults
from pipeline.mirror.resources.rate_limit import RateLimit
from pipeline.mirror.state.failures import failed_in, failures
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import known_rows
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.markers import Fileset, utc_now
from pipeline.mirror.state.operands import check_mirror_here
from pipeline.mirror.state.pending import renew_snapshots
from pipeline.mirror.state.root_note import check_root
from pipeline.mirror.state.steps import Problem
from pipeline.mirror.steps.verify import (
    end_verification,
    fileset_problems,
    filesets_here,
    make_pending,
    start_verification,
    undone_steps,
    unexpected_files,
    unexpected_markers,
)
from pipeline.units import as_count, parse_rate
from tasks.fileset import FilesetTask, tasks_for
from tasks.mirror_config import settings_file
from tasks.runtime.causes import Failure
from tasks.runtime.current import STARTED, current_run
from tasks.runtime.summary_line import verification_summary
from tasks.runtime.task import HIDDEN, MirrorTask
from tasks.targets import RunMarker

# Added to the name of a verification for its second part, after the repair.
REPAIR = "repair"

log = logging.getLogger(__name__)


class ProblemsFound(MirrorError):
    """Problems found by a verification; each is a line of the log."""


class NothingHere(MirrorError):
    """Mirror in which no fileset is, and nothing was verified."""

    @classmethod
    def at(cls, root: Path) -> "NothingHere":
        """Return the error for the mirror in this folder."""
        return cls(
            f"nothing to verify: no fileset is in the mirror at {root}. "
            "If it should have some, correct mirror.root; `ipp-mirror update` fetches them."
        )


class VerifyMirror(MirrorTask):
    """Verification of the whole mirror; with ``repair``, damaged files are fetched again."""

    subject = "verification"
    summary = staticmethod(verification_summary)

    repair = luigi.BoolParameter(
        default=False, description="fetch and unpack again damaged and missing files"
    )
    rate = luigi.Parameter(default="", description="limit of the rate of reading, such as 50 MB/s")
    started = luigi.Parameter(default=STARTED, description=HIDDEN)

    @property
    def unfinished(self) -> Path:
        """Path of the marker of the unfinished verification."""
        return self.layout.verification

    def check(self, settings: Settings) -> None:
        """Check the rate, and that there is a mirror. Raises SettingsError."""
        rate_limit(self.rate)
        check_root(settings_file(), settings)
        check_mirror_here(Layout(settings.mirror.root))

    def requires(self) -> list["VerifyProduct"]:
        """Return one verification for each product with any state."""
        verification = start_verification(self.unfinished, self.started)
        return [
            VerifyProduct(product=product, repair=self.repair, rate=self.rate, verification=verification)
            for product in self.layout.state_products()
        ]

    def output(self) -> RunMarker:
        """Return the marker of a verification that found no problem."""
        return RunMarker(self.layout.verified, self.started)

    def run(self) -> None:
        """Report files of no fileset, and add up the problems of all products."""
        self._refuse_empty_mirror()
        unexpected = unexpected_files(self.context)
        _log_problems(unexpected)
        found = len(unexpected) + sum(product.found for product in self.requires())
        end_verification(self.unfinished)
        content = {"run": self.started, "finished": utc_now(), "failed": found}
        content |= {"unexpected": _by_path(unexpected)}
        write_marker(self.layout.verified, content)
        if found:
            repairs = "; `ipp-mirror verify --repair` repairs what is damaged or missing"
            hint = "" if self.repair else f"{repairs}, and leaves unexpected files alone"
            raise ProblemsFound(f"{as_count(found, 'problem')} in all{hint}")

    def _refuse_empty_mirror(self) -> None:
        """Raise NothingHere when no product has a fileset."""
        products, steps = self.layout.state_products(), self.context.steps
        if not any(self.layout.count(step.marker, product) for product in products for step in steps):
            end_verification(self.unfinished)
            raise NothingHere.at(self.layout.root)


class VerifyProduct(MirrorTask):
    """Verification of every fileset of one product; complete even when problems were found."""

    product = luigi.Parameter()
    repair = luigi.BoolParameter(default=False, significant=False)
    rate = luigi.Parameter(default="", significant=False, visibility=ParameterVisibility.HIDDEN)
    verification = luigi.Parameter()
    only_waits = True
    shows_all = True
    # Markers of the filesets.
    kind = MarkerKind.VERIFIED
    done_to_filesets = "verified"

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
        self.context.counters.count(here=len(here))
        bad = self._verified(here)
        if self.repair and bad:
            log.info("product %s: repairing %s", self.product, as_count(len(bad), "fileset"))
            self._repair(bad)
            bad = self._verified(bad, after=REPAIR)
        done = f"{as_count(len(here), 'fileset')} {self.done_to_filesets}"
        log.info("product %s: %s, %d with problems", self.product, done, len(bad))
        content = {"run": self.verification, "finished": utc_now(), "problems": len(bad) + len(unexpected)}
        content |= {"unexpected": _by_path(unexpected), "filesets": sorted(row.name for row in bad)}
        write_marker(self.record, content)

    def _unexpected(self, rows: list[FilesetRow]) -> list[Problem]:
        return unexpected_markers(self.layout, self.product, rows, self.context.steps)

    def _here(self, rows: list[FilesetRow]) -> list[FilesetRow]:
        """Return the rows of the filesets to verify."""
        return filesets_here(self.layout, self.product, rows, self.context.steps)

    def _repair(self, rows: list[FilesetRow]) -> None:
        """Fetch and unpack the filesets again. Raises Stopped after a request to stop."""
        current_run().progress.expect(self.product, rows)
        current_run().submit(tasks_for(self.context, self.product, rows))
        names = {row.name for row in rows}
        required = self.context.included_steps.required
        records = [each for each in failures(self.layout, self.product) if each["fileset"] in names]
        failed_names = {record["fileset"] for record in records}
        # A step that was done again makes optional ones after it pending, such as cataloging.
        more = [row for row in rows if row.name not in failed_names]
        current_run().submit(tasks_for(self.context, self.product, more))
        failed = failed_in(records, (step.name for step in required))
        self.context.counters.count(failed=len(failed), optional_failed=len(records) - len(failed))
        current_run().refuse_when_stopping()

    def _verified(self, rows: list[FilesetRow], after: str = "") -> list[FilesetRow]:
        """Verify the filesets; return those with problems, which become pending for a repair."""
        current_run().progress.expect(self.product, rows, to_fetch=False)
        current_run().submit(self._checks(rows, after))
        markers = {row.name: self._marker(row, after) for row in rows}
        bad = [row for row in rows if markers[row.name].get("problems", True)]
        self._count(len(rows) - len(bad), sum(bool(markers[row.name]) for row in bad), after)
        current_run().refuse_when_stopping()
        if self.repair and not after:
            for row in bad:
                self._make_pending(Fileset.of(self.product, row), markers[row.name].get("steps", []))
        return bad

    def _checks(self, rows: list[FilesetRow], after: str) -> Iterator["VerifyFileset"]:
        """Return the tasks that verify the filesets."""
        more = {"verification": self.verification, "rate": self.rate, "after": after}
        return (
            VerifyFileset(product=self.product, fileset=row.name, row=row, position=position, **more)
            for position, row in enumerate(rows)
        )

    def _make_pending(self, fileset: Fileset, steps: list[str]) -> None:
        """Make the included steps with these kinds of markers pending: a repair does no others."""
        make_pending(self.layout, self.context.included_steps, fileset, steps)

    def _count(self, sound: int, damaged: int, after: str) -> None:
        """Count the filesets that were verified, each once: those repaired no more as damaged."""
        if after:
            self.context.counters.count(repaired=sound, damaged=-sound)
        else:
            self.context.counters.count(sound=sound, damaged=damaged)

    def _marker(self, row: FilesetRow, after: str) -> dict[str, Any]:
        """Return the marker that the fileset has now; nothing where this verification wrote none."""
        marker = read_marker(self.layout.marker(self.kind, self.product, row.name)) or {}
        return marker if marker.get("run") == f"{self.verification}{after}" else {}


class VerifyFileset(FilesetTask):
    """Verification of one fileset, all its files read; complete even when problems were found."""

    verification = luigi.Parameter(description="identifier of the verification")
    rate = luigi.Parameter(default="", significant=False, visibility=ParameterVisibility.HIDDEN)
    after = luigi.Parameter(default="", description="step after which the fileset is verified again")
    resources = {"unpackers": 1}  # noqa: RUF012  (Luigi reads a plain attribute)
    kind = MarkerKind.VERIFIED
    doing = "verify"

    def output(self) -> RunMarker:
        """Return the marker with the problems that were found."""
        path = self.layout.marker(self.kind, self.product, self.fileset)
        return RunMarker(path, f"{self.verification}{self.after}")

    def run(self) -> None:
        """Write the marker with the problems, and log them."""
        problems = self.problems()
        if self.after:
            problems += undone_steps(self.context, self.identity, problems)
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
        log.warning("%s", problem, extra={"failure": Failure.of_problem(problem.path, problem.what)})


def _by_path(problems: list[Problem]) -> dict[str, str]:
    return {problem.path: problem.what for problem in problems}
