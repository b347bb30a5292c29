"""Comparison with upstream: every downloaded fileset with the listing that the server sends now.

    CompareMirror ─ for each product ─ CompareProduct ─ for each fileset ─ CompareFileset   one request
                                       └ with repair, for each that differs ─ ExtractFileset, CompareFileset

A verification of another kind: it reads no file here. Its markers are its own, so that a verification that
was stopped goes on in spite of a comparison, and the other way round.
"""

import logging
import threading
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path

from pipeline.datastore.client import ListingClient
from pipeline.datastore.listing import FilesetRow
from pipeline.errors import EXIT_SERVER_UNAVAILABLE, ServerUnavailable, SettingsError
from pipeline.mirror.resources.rate_limit import RateLimit
from pipeline.mirror.state.layout import MarkerKind
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.markers import Fileset, utc_now
from pipeline.mirror.state.steps import Problem
from pipeline.mirror.steps.compare import comparable, set_aside, upstream_problems
from pipeline.mirror.steps.verify import end_verification, start_verification
from tasks.runtime.errors import Stopped
from tasks.runtime.run import current_run
from tasks.targets import RunMarker
from tasks.verify import ProblemsFound, VerifyFileset, VerifyMirror, VerifyProduct

# Listings that are requested per second at most, whatever the number of connections.
REQUESTS_PER_SECOND = 10
# After so many listings in a row that did not come, the root's is asked for.
UNANSWERED_AT_MOST = 10

log = logging.getLogger(__name__)


class ServerLost(Stopped):
    """Comparison that ended as the server sent no listing any more."""

    exit_code = EXIT_SERVER_UNAVAILABLE


class CompareMirror(VerifyMirror):
    """Comparison of the whole mirror with upstream; with ``repair``, what differs is fetched again."""

    subject = "comparison with upstream"

    def requires(self) -> list[VerifyProduct]:
        """Return one comparison for each product with any state. Raises SettingsError for a rate."""
        if self.rate:
            raise SettingsError(
                f"--rate: expected without --upstream, which reads no file of the mirror, got {self.rate!r}. "
                "Nothing was started."
            )
        comparison = start_verification(self.layout.comparison, self.started)
        return [
            CompareProduct(product=product, repair=self.repair, verification=comparison)
            for product in self.layout.state_products()
        ]

    def output(self) -> RunMarker:
        """Return the marker of a comparison that found no difference."""
        return RunMarker(self.layout.compared, self.started)

    def run(self) -> None:
        """Add up the problems of all products. Raises ProblemsFound."""
        found = sum(each.found for each in self.requires())
        end_verification(self.layout.comparison)
        content = {"run": self.started, "finished": utc_now(), "failed": found}
        write_marker(self.layout.compared, content)
        if found:
            hint = "" if self.repair else "; `ipp-mirror verify --upstream --repair` fetches what differs"
            raise ProblemsFound(f"{found} problems in all{hint}")


class CompareProduct(VerifyProduct):
    """Comparison of every downloaded fileset of one product, except skipped and withdrawn ones."""

    kind = MarkerKind.COMPARED

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

    def _checks(self, rows: list[FilesetRow], after: str) -> Iterator[VerifyFileset]:
        """Return the tasks that compare the filesets, until the server answers no more."""
        return takewhile(
            lambda _: not reachability().is_lost,
            (
                CompareFileset(
                    product=self.product,
                    fileset=row.name,
                    row=row,
                    position=position,
                    verification=self.verification,
                    after=after,
                )
                for position, row in enumerate(rows)
            ),
        )

    def _refuse_to_go_on(self) -> None:
        """Raise Stopped after a request to stop, ServerLost when the server sends no listing any more."""
        super()._refuse_to_go_on()
        reachability().check()

    def _make_pending(self, fileset: Fileset, steps: list[str]) -> None:
        if steps:
            set_aside(self.layout, self.context.steps, fileset)


class CompareFileset(VerifyFileset):
    """Comparison of one fileset, by one request; complete even when its files differ."""

    kind = MarkerKind.COMPARED
    resources = {"connections": 1}  # noqa: RUF012  (Luigi reads a plain attribute)

    def problems(self) -> list[Problem]:
        """Compare the marker with the server's listing.

        Raises ServerUnavailable, ContentMismatch or HostileName: then no marker is written, and the next
        comparison asks again. Raises ServerLost, and requests nothing, after too many failures.
        """
        request_limit().take(1)
        reachability().refuse_when_lost()
        try:
            found = upstream_problems(self.context, self.identity)
        except ServerUnavailable:
            reachability().failed()
            raise
        reachability().succeeded()
        return found


class Reachability:
    """Count of the listings in a row that the server did not send. Safe for use by several threads.

    After ``at_most``, and at the end, the listing of the root decides: a server may have lost filesets, or be
    down.
    """

    def __init__(self, listings: ListingClient, at_most: int = UNANSWERED_AT_MOST) -> None:
        self._listings = listings
        self._at_most = at_most
        self._lock = threading.Lock()
        self._unanswered = 0
        # True once the server is taken for unreachable.
        self.is_lost = False

    def succeeded(self) -> None:
        """Count from the beginning, after a listing that came."""
        with self._lock:
            self._unanswered = 0

    def failed(self) -> None:
        """Count a listing that did not come."""
        # Held while the root is asked for: other failures then wait for the answer.
        with self._lock:
            self._unanswered += 1
            if self._unanswered >= self._at_most:
                self._ask()

    def check(self) -> None:
        """Ask for the root's listing if the last one did not come. Raises ServerLost."""
        with self._lock:
            if self._unanswered:
                self._ask()
        self.refuse_when_lost()

    def refuse_when_lost(self) -> None:
        """Raise ServerLost once the server is taken for unreachable."""
        if self.is_lost:
            raise ServerLost("the server sends no listing; the next comparison goes on from here")

    def _ask(self) -> None:
        self._unanswered = 0
        if not self.is_lost:
            try:
                self._listings.products()
            except ServerUnavailable as error:
                log.error("no listing comes any more: %s The next comparison goes on from here.", error)
                self.is_lost = True


@cache
def reachability() -> Reachability:
    """Return the count that all tasks of this process share."""
    return Reachability(current_run().context.listings)


@cache
def request_limit() -> RateLimit:
    """Return the limit that all requests share."""
    return RateLimit(REQUESTS_PER_SECOND)
