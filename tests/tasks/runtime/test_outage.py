"""Failures in a row that end a run, and what interrupts the row."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.errors import (
    BundleUnusable,
    ContentMismatch,
    FilesFailed,
    MirrorError,
    NoSpace,
    ServerUnavailable,
)
from tasks.runtime.errors import DiskFull, ServerLost, VolumeFull
from tasks.runtime.outage import OutagePolicy, OutageWatch

SILENT = ServerUnavailable("no answer")
NO_FILES = FilesFailed({"a": SILENT, "b": SILENT})
FULL, WRONG = NoSpace("no space"), ContentMismatch("wrong md5")
VOLUMES = {"a": Path("/disk2"), "b": Path("/disk2"), "c": Path("/disk3")}
POLICY = OutagePolicy(unanswered=3, without_space=2)


@dataclass
class Server:
    """Bytes that came, and whether the listing of a product comes; ``asked`` are the products."""

    received: int = 0
    answers: bool = False
    asked: list[str] = field(default_factory=list)

    def watch(self) -> OutageWatch:
        return OutageWatch(lambda: self.received, self._ask, VOLUMES.get, POLICY)

    def _ask(self, product: str) -> bool:
        self.asked.append(product)
        return self.answers


@pytest.fixture
def server() -> Server:
    return Server()


def results(watch: OutageWatch, *errors: MirrorError) -> list[type | None]:
    reasons = [watch.failed(error, "p", asked=True) for error in errors]
    return [reason and type(reason) for reason in reasons]


@pytest.mark.parametrize("error", [SILENT, NO_FILES])
def test_a_server_that_does_not_answer_ends_the_run_once(error, server: Server):
    watch = server.watch()
    assert results(watch, *[error] * 5) == [None, None, ServerLost, None, None]
    assert server.asked == (["p"] if error is SILENT else [])
    assert not watch.others_failed


@pytest.mark.parametrize("answers", [True, False])
def test_a_server_without_the_listings_of_filesets_is_asked_for_that_of_the_product(answers, server: Server):
    server.answers = answers
    ends = [None, None, None if answers else ServerLost]
    assert results(server.watch(), NO_FILES, SILENT, NO_FILES) == ends
    assert server.asked == ["p"]


def test_listings_say_nothing_of_a_server_that_sends_no_files(server: Server):
    server.answers = True
    assert results(server.watch(), *[NO_FILES] * 3) == [None, None, ServerLost]


def test_after_a_good_listing_the_row_begins_again(server: Server):
    server.answers = True
    watch = server.watch()
    assert results(watch, *[SILENT] * 8) == [None] * 8
    assert server.asked == ["p", "p"]
    server.answers = False
    assert results(watch, SILENT) == [ServerLost]


@pytest.mark.parametrize("what", ["success", "bytes", "an answer", "another file"])
def test_a_server_that_answers_interrupts_the_row(what, server: Server):
    watch = server.watch()
    for _ in range(4):
        assert results(watch, SILENT, SILENT) == [None, None]
        if what == "success":
            watch.succeeded("p", asked=True)
        elif what == "bytes":
            server.received += 1
        elif what == "an answer":
            watch.failed(WRONG, "p", asked=True)
        else:
            watch.failed(FilesFailed({"a": SILENT, "b": WRONG}), "p", asked=True)
    assert watch.others_failed is (what in {"an answer", "another file"})


@pytest.mark.parametrize("error", [None, BundleUnusable("not a bundle")])
def test_a_step_that_asks_no_server_does_not_interrupt_the_row(error, server: Server):
    watch = server.watch()
    assert results(watch, SILENT, SILENT) == [None, None]
    if error:
        assert watch.failed(error, "p", asked=False) is None
    else:
        watch.succeeded("p", asked=False)
    assert results(watch, SILENT) == [ServerLost]


@pytest.mark.parametrize("error", [FULL, FilesFailed({"a": FULL, "b": SILENT})])
def test_a_disk_without_space_ends_the_run_once(error, server: Server):
    assert results(server.watch(), *[error] * 4) == [None, DiskFull, None, None]


def test_only_success_interrupts_a_row_of_filesets_without_space(server: Server):
    watch = server.watch()
    for _ in range(3):
        assert results(watch, FULL) == [None]
        watch.succeeded("p", asked=True)
    assert results(watch, FULL, WRONG, BundleUnusable("not a bundle"), FULL) == [None, None, None, DiskFull]


def test_a_volume_without_space_ends_the_work_on_its_products_alone(server: Server):
    watch = server.watch()
    failed = [watch.failed(FULL, product, asked=True) for product in ("a", "c", "p", "b", "a")]
    assert [failure and type(failure) for failure in failed] == [None, None, None, VolumeFull, None]
    assert str(failed[3]).startswith(
        "/disk2: there was no disk space for 2 filesets in a row, the last time: "
    )
    assert [watch.is_full(product) for product in "abcp"] == [True, True, False, False]
    watch.succeeded("c", asked=True)
    assert watch.failed(FULL, "c", asked=True) is None
    assert results(watch, FULL) == [DiskFull]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SILENT, SILENT),
        (FULL, FULL),
        (FilesFailed({"a": SILENT, "b": SILENT}), SILENT),
        (FilesFailed({"a": SILENT, "b": FULL}), FULL),
    ],
)
def test_the_reason_says_nothing_of_a_run_that_is_at_work_nor_of_one_fileset(error, reason, server: Server):
    """It is in the history when the run has ended."""
    watch = server.watch()
    ends = [str(end) for _ in range(3) if (end := watch.failed(error, "p", asked=True))]
    assert [end.rpartition("last time: ")[2] for end in ends] == [str(reason)]


def test_the_codes():
    assert [error("").exit_code for error in (ServerLost, DiskFull, VolumeFull)] == [20, 30, 30]
