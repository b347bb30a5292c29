"""Comparison with upstream: every downloaded fileset with the listing that the server sends now.

    CompareMirror ─ for each product ─ CompareProduct ─ for each fileset ─ CompareFileset   one request
                                       └ with repair, for each that differs ─ ExtractFileset, CompareFileset

A verification of another kind: it reads no file here. Its markers are its own, so that a verification that
was stopped goes on in spite of a comparison, and the other way round.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pipeline.config import Settings
from pipeline.datastore.listing import FilesetRow
from pipeline.errors import MirrorError, SettingsError
from pipeline.mirror.resources.rate_limit import RateLimit
from pipeline.mirror.state.layout import MarkerKind
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.markers import Fileset, utc_now
from pipeline.mirror.state.steps import Problem
from pipeline.mirror.steps.compare import comparable, upstream_problems
from pipeline.mirror.steps.verify import end_verification, start_verification
from pipeline.units import as_count
from tasks.runtime.current import current_run
from tasks.runtime.summary_line import comparison_summary
from tasks.targets import RunMarker
from tasks.verify import ProblemsFound, VerifyFileset, VerifyMirror, VerifyProduct

# Listings that are requested per second at most, whatever the number of connections.
REQUESTS_PER_SECOND = 10


class CompareMirror(VerifyMirror):
    """Comparison of the whole mirror with upstream; with ``repair``, what differs is fetched again."""

    subject = "comparison with upstream"
    summary = staticmethod(comparison_summary)

    @property
    def unfinished(self) -> Path:
        """Path of the marker of the unfinished comparison."""
        return self.layout.comparison

    def check(self, settings: Settings) -> None:
        """Check that there is a mirror, and no rate. Raises SettingsError."""
        if self.rate:
            raise SettingsError(
                f"--rate: expected without --upstream, which reads no file of the mirror, got {self.rate!r}. "
                "Nothing was started."
            )
        super().check(settings)

    def requires(self) -> list[VerifyProduct]:
        """Return one comparison for each product with any state."""
        comparison = start_verification(self.unfinished, self.started)
        return [
            CompareProduct(product=product, repair=self.repair, verification=comparison)
            for product in self.layout.state_products()
        ]

    def output(self) -> RunMarker:
        """Return the marker of a comparison that found no difference."""
        return RunMarker(self.layout.compared, self.started)

    def run(self) -> None:
        """Add up the problems of all products. Raises ProblemsFound, or NothingHere for an empty mirror."""
        self._refuse_empty_mirror()
        found = sum(each.found for each in self.requires())
        end_verification(self.unfinished)
        content = {"run": self.started, "finished": utc_now(), "failed": found}
        write_marker(self.layout.compared, content)
        if found:
            hint = "" if self.repair else "; `ipp-mirror verify --upstream --repair` fetches what differs"
            raise ProblemsFound(f"{as_count(found, 'problem')} in all{hint}")


class CompareProduct(VerifyProduct):
    """Comparison of every downloaded fileset of one product, except skipped and withdrawn ones."""

    kind = MarkerKind.COMPARED
    done_to_filesets = "compared with upstream"

    @property
    def record(self) -> Path:
        """Path of the marker of the last comparison."""
        return self.layout.product_compared(self.product)

    def _unexpected(self, _rows: list[FilesetRow]) -> list[Problem]:
        return []

    def _here(self, rows: list[FilesetRow]) -> list[FilesetRow]:
        """Return the rows to compare, with those that this comparison set aside before it was stopped."""
        undone = self.layout.marked(self.kind, self.product) - self.layout.marked(
            MarkerKind.DOWNLOADED, self.product
        )
        pending = {row.name for row in rows if row.name in undone and self._marker(row, "").get("steps")}
        return comparable(self.layout, self.product, rows, pending)

    def _verified(self, rows: list[FilesetRow], after: str = "") -> list[FilesetRow]:
        """Compare the filesets; return those with problems, which become pending for a repair.

        Raises ServerUnavailable when listings did not come, and that of the root does not come either.
        """
        different = super()._verified(rows, after)
        if not all(self._marker(row, after) for row in different):
            self.context.listings.products()
        return different

    def _checks(self, rows: list[FilesetRow], after: str) -> Iterator[VerifyFileset]:
        """Return the tasks that compare the filesets."""
        more = {"verification": self.verification, "after": after}
        return (
            CompareFileset(product=self.product, fileset=row.name, row=row, position=position, **more)
            for position, row in enumerate(rows)
        )

    def _make_pending(self, fileset: Fileset, steps: list[str]) -> None:
        if steps:
            self.context.steps.set_aside(self.layout, fileset)


class CompareFileset(VerifyFileset):
    """Comparison of one fileset, by one request; complete even when its files differ."""

    kind = MarkerKind.COMPARED
    resources = {"connections": 1}  # noqa: RUF012  (Luigi reads a plain attribute)
    doing = "compare"

    def problems(self) -> list[Problem]:
        """Compare the marker with the server's listing.

        Raises ServerUnavailable, ContentMismatch or HostileName: then no marker is written, and the next
        comparison asks again.
        """
        request_limit().take(1)
        try:
            found = upstream_problems(self.context, self.identity)
        except MirrorError as error:
            current_run().count_step(self.product, error, asked=True)
            raise
        current_run().count_step(self.product, None, asked=True)
        return found


@cache
def request_limit() -> RateLimit:
    """Return the limit that all requests share."""
    return RateLimit(REQUESTS_PER_SECOND)
