"""Verification: every fileset on disk compared with its listing and markers, mended where asked.

    VerifyMirror ─ for each product ─ VerifyProduct ─ for each fileset ─ VerifyFileset
                                      └ with repair, for each damaged one ─ ExtractFileset, VerifyFileset

A verification that was stopped goes on where it was: each VerifyFileset leaves a marker that names it.
"""

import logging
from functools import cache
from typing import Any

import luigi

from pipeline.datastore.listing import FilesetRow
from pipeline.errors import MirrorError, SettingsError, machine_faults
from pipeline.mirror.resources.rate_limit import RateLimit
from pipeline.mirror.state.layout import Step
from pipeline.mirror.state.local_listing import known_rows
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.markers import Fileset, utc_now
from pipeline.mirror.steps.verify import (
    Problem,
    Verification,
    begin_verification,
    end_verification,
    filesets_here,
    make_pending,
    unexpected_data,
    unexpected_filesets,
)
from pipeline.units import parse_rate
from tasks.fileset import FilesetTask, missing_steps
from tasks.runtime.run import STARTED, current_run
from tasks.runtime.task import MirrorTask
from tasks.targets import RunMarker

log = logging.getLogger("ipp-mirror")


class NotAsItShouldBe(MirrorError):
    """Verification found problems; each was told on a line of its own."""


class VerifyMirror(MirrorTask):
    """The whole mirror verified. ``rate`` limits the bytes read per second, ``repair`` mends."""

    repair = luigi.BoolParameter(
        default=False, description="fetch and unpack again what is damaged or missing"
    )
    rate = luigi.Parameter(default="", description="read at most so much, as 50 MB/s")
    started = luigi.Parameter(default=STARTED, description="made by the program: tells verifications apart")

    def requires(self) -> list["VerifyProduct"]:
        """One verification for each product of which anything is here."""
        rate_limit(self.rate)
        verification = begin_verification(self.layout, self.started)
        return [
            VerifyProduct(product=product, repair=self.repair, rate=self.rate, verification=verification)
            for product in self.layout.state_products()
        ]

    def output(self) -> RunMarker:
        """Gone through without a problem."""
        return RunMarker(self.layout.verified, self.started)

    def run(self) -> None:
        """After the products: what lies in ``data/`` that no fileset brought, and the sum of it all."""
        strangers = unexpected_data(self.layout)
        _tell(strangers)
        found = len(strangers) + sum(_found(product) for product in self.requires())
        end_verification(self.layout)
        content = {"run": self.started, "finished": utc_now(), "failed": found}
        write_marker(self.layout.verified, content)
        if found:
            hint = "" if self.repair else "; `make verify REPAIR=1` fetches and unpacks again what is damaged"
            raise NotAsItShouldBe(f"{found} problems in all{hint}")


class VerifyProduct(MirrorTask):
    """Every fileset of one product. Done when all were looked at, whatever was found."""

    product = luigi.Parameter()
    repair = luigi.BoolParameter(default=False, significant=False)
    rate = luigi.Parameter(default="", significant=False)
    verification = luigi.Parameter()
    only_waits = True

    def output(self) -> RunMarker:
        """How many problems were found and not mended."""
        return RunMarker(self.layout.product_verified(self.product), self.verification)

    def run(self) -> None:
        """Verify, mend where asked, and verify again what was mended."""
        rows = known_rows(self.layout, self.product)
        strangers = unexpected_filesets(self.layout, self.product, rows)
        _tell(strangers)
        here = filesets_here(self.layout, self.product, rows)
        bad = self._verified(here)
        if self.repair and bad:
            log.info("product %s: mending %d filesets", self.product, len(bad))
            current_run().settle(missing_steps(self.layout, self.product, bad))
            bad = self._verified(bad, after="repair")
        log.info("product %s: %d filesets verified, %d with problems", self.product, len(here), len(bad))
        content = {"run": self.verification, "finished": utc_now(), "problems": len(bad) + len(strangers)}
        write_marker(self.layout.product_verified(self.product), content)

    def _verified(self, rows: list[FilesetRow], after: str = "") -> list[FilesetRow]:
        """Verify the filesets; those with problems, which are pending now where they are to be mended."""
        more = {"verification": self.verification, "rate": self.rate, "after": after}
        self.site.tally.count(pending=len(rows))
        current_run().settle(
            VerifyFileset(
                product=self.product, fileset=row.name, registered=row.registered, position=position, **more
            )
            for position, row in enumerate(rows)
        )
        bad = [row for row in rows if self._marker(row).get("problems", True)]
        if self.repair and not after:
            for row in bad:
                steps = {Step(step) for step in self._marker(row).get("steps", [])}
                make_pending(self.layout, Fileset.of(self.product, row), steps)
        return bad

    def _marker(self, row: FilesetRow) -> dict[str, Any]:
        return read_marker(self.layout.marker(Step.VERIFIED, self.product, row.name)) or {}


class VerifyFileset(FilesetTask):
    """One fileset: ``store/`` and ``data/`` read whole. Done when it was looked at, whatever was found."""

    verification = luigi.Parameter(description="which verification this is a part of")
    rate = luigi.Parameter(default="", significant=False)
    after = luigi.Parameter(default="", description="what it is verified again after")
    resources = {"unpackers": 1}  # noqa: RUF012  (Luigi reads a plain attribute)

    def output(self) -> RunMarker:
        """The problems that were found."""
        path = self.layout.marker(Step.VERIFIED, self.product, self.fileset)
        return RunMarker(path, f"{self.verification}{self.after}")

    def run(self) -> None:
        """Compare and tell."""
        kept = self.site.settings.mirror.keep_bundles
        with machine_faults(f"verifying {self.identity}"):
            problems = Verification(self.layout, self.identity, rate_limit(self.rate), kept).problems()
        _tell(problems)
        write_marker(
            self.layout.marker(Step.VERIFIED, self.product, self.fileset),
            {
                "product": self.product,
                "fileset": self.fileset,
                "registered": self.registered,
                "run": f"{self.verification}{self.after}",
                "finished": utc_now(),
                "problems": [str(problem) for problem in problems],
                "steps": sorted({problem.step for problem in problems if problem.step}),
            },
        )
        self.site.tally.count(verified=1)


@cache
def rate_limit(text: str) -> RateLimit:
    """The one limit that all readers share. Raises SettingsError."""
    try:
        return RateLimit(parse_rate(text) if text else None)
    except ValueError as error:
        raise SettingsError(f"--rate: {error}, got {text!r}. Nothing was started.") from None


def _tell(problems: list[Problem]) -> None:
    for problem in problems:
        log.warning("%s", problem)


def _found(product: VerifyProduct) -> int:
    path = product.layout.product_verified(product.product)
    return (read_marker(path) or {}).get("problems", 0)
