"""Report on a mirror: exact numbers of mirrors that were changed in several ways."""

import fcntl
import json
import os
import re
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.audit import opened_below
from support.many_filesets import BYTES, KNOWN, PRODUCT, complete_mirror, mark_downloaded, settle

from pipeline.catalog.generations import current_file
from pipeline.catalog.reconcile import reconcile
from pipeline.config import Settings, read_settings
from pipeline.datastore.listing import FilesetRow
from pipeline.errors import ContentMismatch, FilesFailed, MachineFault, MirrorError, ServerUnavailable
from pipeline.mirror.state.failures import BackOff, record_failure
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.listing_failure import record_listing_failure
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.state.skip import skip_fileset
from pipeline.mirror.state.steps import UNEXPECTED
from pipeline.reporting.attention import CRITICAL, OK, WARNING, Attention, attention, severity
from pipeline.reporting.history import FetchRate, RunRecord, append_record
from pipeline.reporting.lock_holder import LockHolder
from pipeline.reporting.matrix import product_matrix
from pipeline.reporting.metrics import metrics_text
from pipeline.reporting.planner import Planner
from pipeline.reporting.progress import RunProgress, write_progress
from pipeline.reporting.report import MirrorReport, mirror_report
from pipeline.reporting.report_forms import as_check, as_json, as_text, run_numbers, running_numbers
from pipeline.reporting.status_files import product_status
from tasks.steps import STEPS

NOW = datetime(2026, 7, 10, 12, tzinfo=UTC)
PROGRESS = RunProgress("2026-07-10T11:59:58Z", "filesets", 3, 10, 0, 5000, 8000, True, 100, 0, 80)
COLUMNS = ("filesetID", "time registered", "type", "stage", "filter")
DONE = ("downloaded", "extracted")


def listed(number: int) -> FilesetRow:
    """A row of the listing: chips in r and warps in i by turns, one each minute."""
    values = (f"fileset.{number}", f"2009-07-29T{number // 60:02}:{number % 60:02}:00Z", "T")
    more = ("chip", "r.00000") if number % 2 == 0 else ("warp", "i.00000")
    return FilesetRow(values[0], values[1], "T", COLUMNS, (*values, *more))


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A mirror that is complete, with a listing of columns and current snapshots."""
    layout = complete_mirror(tmp_path_factory.mktemp("template") / "mirror")
    LocalListing(layout, PRODUCT).replace(listed(number) for number in range(KNOWN))
    layout.lock_file.touch()
    return layout.root


@pytest.fixture
def layout(template, tmp_path) -> Layout:
    shutil.copytree(template, tmp_path / "mirror")
    layout = Layout(tmp_path / "mirror")
    settle(layout)
    append_record(layout, run())
    gone_through(layout, hours=1)
    return layout


def gone_through(layout: Layout, hours: float) -> None:
    """Mark the product as one that an update went through so many hours ago."""
    finished = (NOW - timedelta(hours=hours)).isoformat()
    write_marker(layout.updated(PRODUCT), {"finished": finished, "bytes": KNOWN * BYTES})


def run(code: int = 0, hours: float = 1, **more) -> RunRecord:
    """The record of an update that ended so many hours ago."""
    end = (NOW - timedelta(hours=hours)).isoformat().replace("+00:00", "Z")
    values = {"filesets": 1, "bytes": 10, "seconds": 1.0, "failures": 0, "task": "UpdateMirror", "reason": ""}
    return RunRecord(**({"start": end, "end": end, "code": code} | values | more))


def settings_of(layout: Layout, **product: object) -> Settings:
    path = layout.root.with_name("mirror.yaml")
    mirror = {"root": str(layout.root), "products": [{"name": PRODUCT, **product}]}
    path.write_text(json.dumps({"source": {"url": "http://127.0.0.1:1/ds"}, "mirror": mirror}))
    return read_settings(path)


def report_on(layout: Layout, settings: Settings | None = None) -> MirrorReport:
    return mirror_report(layout, settings or settings_of(layout), STEPS, NOW)


def severity_of(report: MirrorReport) -> str:
    return severity(attention(report))


def counts(report: MirrorReport) -> tuple[int, ...]:
    [product] = report.products
    each = product.filesets
    numbers = (each.known, each.selected, each.complete, each.left, product.failed)
    return (*numbers, each.skipped, each.withdrawn)


def fail(layout: Layout, number: int, error: MirrorError, times: int = 1, step: str = "download") -> None:
    for _ in range(times):
        fileset = Fileset.of(PRODUCT, listed(number))
        record_failure(layout, fileset, step, error, "run", BackOff(every_run=2))


def remove(layout: Layout, number: int, *kinds: str) -> None:
    for kind in kinds:
        layout.marker(kind, PRODUCT, f"fileset.{number}").unlink()


def withdraw(layout: Layout, number: int) -> None:
    write_marker(layout.marker(MarkerKind.WITHDRAWN, PRODUCT, f"fileset.{number}"), {"noticed": "t"})


def skip(layout: Layout, number: int) -> None:
    skip_fileset(layout, PRODUCT, f"fileset.{number}", reason="r", by="me")


def drop_snapshots(layout: Layout) -> None:
    for path in layout.state(PRODUCT).glob("*.snapshot"):
        path.unlink()


def incomplete_and_failed(layout: Layout) -> None:
    remove(layout, 7, *DONE)
    fail(layout, 7, ContentMismatch("wrong md5"))


def skipped_and_withdrawn(layout: Layout) -> None:
    remove(layout, 7, *DONE)
    skip(layout, 7)
    withdraw(layout, 7)


def with_another_row(layout: Layout) -> None:
    LocalListing(layout, PRODUCT).add([listed(KNOWN)])


# Numbers of filesets known, selected, complete, left, failed, skipped, withdrawn.
MUTATIONS = {
    "nothing": (lambda _: None, (300, 300, 300, 0, 0, 0, 0)),
    "no snapshots": (drop_snapshots, (300, 300, 300, 0, 0, 0, 0)),
    "a new row": (with_another_row, (301, 301, 300, 1, 0, 0, 0)),
    "not extracted": (lambda it: remove(it, 7, "extracted"), (300, 300, 299, 1, 0, 0, 0)),
    "not downloaded": (lambda it: remove(it, 7, "downloaded"), (300, 300, 299, 1, 0, 0, 0)),
    "failed": (incomplete_and_failed, (300, 300, 299, 1, 1, 0, 0)),
    "an optional step failed": (
        lambda it: fail(it, 7, ContentMismatch("x"), step="catalog"),
        (300, 300, 300, 0, 0, 0, 0),
    ),
    "skipped, complete": (lambda it: skip(it, 7), (300, 300, 300, 0, 0, 1, 0)),
    "withdrawn, complete": (lambda it: withdraw(it, 7), (300, 299, 300, 0, 0, 0, 1)),
    "skipped and withdrawn": (skipped_and_withdrawn, (300, 299, 299, 0, 0, 1, 1)),
    "no state of the product": (lambda it: shutil.rmtree(it.state(PRODUCT)), (0, 0, 0, 0, 0, 0, 0)),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_numbers_of_a_mirror_that_was_changed(name, layout):
    change, expected = MUTATIONS[name]
    change(layout)
    report = report_on(layout)
    assert counts(report) == expected
    status = product_status(layout, settings_of(layout), STEPS, PRODUCT)
    agreed = ("known", "failed", "skipped")
    assert [status[key] for key in agreed] == [expected[place] for place in (0, 4, 5)]
    if name != "not downloaded":
        assert status["complete"] == expected[2]
    [product] = json.loads(as_json(report, []))["products"]
    assert tuple(product["filesets"].values()) == (*expected[:4], *expected[5:], 0, 0)


@pytest.mark.parametrize(
    ("select", "selected", "left"),
    [
        ({"stage": "chip"}, 150, 1),
        ({"filter": "i", "stage": ["chip", "warp"]}, 150, 2),
        ({"stage": "chip", "registered_after": "2009-07-29T01:00:00Z"}, 120, 0),
        ({"registered_before": "2009-07-29T00:10:00Z"}, 10, 3),
        ({"stage": "stack"}, 0, 0),
    ],
)
def test_a_selection(select, selected, left, layout):
    for number in (4, 5, 7):
        remove(layout, number, *DONE)
    report = report_on(layout, settings_of(layout, select=select))
    assert counts(report) == (300, selected, 297, left, 0, 0, 0)
    notes = [point.message for point in attention(report) if "select matches 0 of 300" in point.message]
    assert len(notes) == (not selected)


def test_a_catalog_that_cannot_be_used_needs_a_person(layout):
    settings = settings_of(layout, select={"near": {"ra": 1, "dec": 2, "radius": 1}})
    enabled = settings.catalog.model_copy(update={"enabled": True})
    settings = settings.model_copy(update={"catalog": enabled})
    reconcile(settings, layout)
    current_file(layout).write_bytes(b"no database" * 100)
    report = report_on(layout, settings)
    fault = (
        f"catalog {current_file(layout)}: file is not a database. The files of the mirror are not concerned; "
    )
    assert report.catalog_fault.startswith(fault)
    points = attention(report)
    assert points[0] == Attention(CRITICAL, report.catalog_fault)
    assert json.loads(as_json(report, points))["catalog_fault"] == report.catalog_fault
    assert "ipp-mirror catalog rebuild" in as_text(report, points)
    # Which filesets are near is not known either.
    assert report.products[0].note == report.catalog_fault


def test_a_product_that_the_settings_do_not_name(layout):
    settings = settings_of(layout)
    other = settings.mirror.model_copy(update={"products": [settings.product("other")]})
    report = report_on(layout, settings.model_copy(update={"mirror": other}))
    products = {each.product: (each.configured, each.filesets.selected) for each in report.products}
    assert products == {PRODUCT: (False, 0), "other": (True, 0)}


def test_a_catalog_that_is_behind(layout):
    settings = settings_of(layout)
    assert report_on(layout, settings).catalog_behind is None
    enabled = settings.catalog.model_copy(update={"enabled": True})
    reconcile(settings.model_copy(update={"catalog": enabled}), layout)
    write_marker(layout.marker(MarkerKind.CATALOGED, PRODUCT, "fileset.7"), {"registered": "t"})
    report = report_on(layout, settings.model_copy(update={"catalog": enabled}))
    assert report.catalog_behind == KNOWN - 1
    [point] = attention(report)
    assert (point.severity, point.message) == (
        WARNING,
        "299 filesets are not in the catalog yet; the next update adds them",
    )
    assert "catalog: lacks 299 filesets of those that are here" in as_text(report, [])
    [point] = attention(replace(report, catalog_behind=1))
    assert point.message == "1 fileset is not in the catalog yet; the next update adds it"


@pytest.mark.parametrize("is_current", [True, False])
def test_bytes_and_newest_fileset(is_current, layout):
    for number in (KNOWN - 1, KNOWN - 2):
        remove(layout, number, "extracted")
    mark_downloaded(layout, 7, size=1000)
    if is_current:
        drop_snapshots(layout)
        settle(layout)
    [product] = report_on(layout).products
    assert (product.bytes, product.bytes_exact) == ((KNOWN - 1) * BYTES + 1000, True)
    assert (product.newest, product.newest_registered) == ("fileset.297", "2009-07-29T04:57:00Z")
    assert product.newest_age == (NOW - datetime(2009, 7, 29, 4, 57, tzinfo=UTC)).total_seconds()


def newest_metric(layout: Layout) -> str:
    status = product_status(layout, settings_of(layout), STEPS, PRODUCT)
    lines = metrics_text(layout, settings_of(layout), STEPS, [status]).splitlines()
    [line] = [line for line in lines if line.startswith("ipp_mirror_newest_registered_timestamp_seconds{")]
    return line.split()[-1]


def selected_metric(layout: Layout, settings: Settings) -> int:
    status = product_status(layout, settings, STEPS, PRODUCT)
    lines = metrics_text(layout, settings, STEPS, [status]).splitlines()
    [line] = [line for line in lines if 'state="selected"' in line]
    return int(line.split()[-1])


SELECTIONS = {
    "everything": ({}, 298),
    "a stage": ({"select": {"stage": "chip"}}, 149),
    "the rest of the listing": ({"begin_after": "fileset.99"}, 198),
    "young ones": ({"select": {"keep": "5000 weeks"}}, 298),
    "too old ones": ({"select": {"keep": "1 hour"}}, 0),
}


def test_the_number_of_selected_filesets_is_in_the_metrics(layout):
    """That of ``status``; renewed when the settings or the markers have changed."""
    for number in (200, 201):
        withdraw(layout, number)
    settle(layout)
    for product, expected in SELECTIONS.values():
        settings = settings_of(layout, **product)
        for _ in range(2):
            assert selected_metric(layout, settings) == expected == counts(report_on(layout, settings))[1]
        # Filesets grow too old without a change.
        assert layout.newest(PRODUCT).exists() == ("keep" not in product.get("select", {}))
        layout.newest(PRODUCT).unlink(missing_ok=True)
    withdraw(layout, 202)
    assert selected_metric(layout, settings_of(layout)) == 297
    settle(layout)
    assert selected_metric(layout, settings_of(layout)) == 297
    settings = settings_of(layout)
    other = settings.mirror.model_copy(update={"products": [settings.product("other")]})
    assert selected_metric(layout, settings.model_copy(update={"mirror": other})) == 0


def test_metrics_of_the_backlog(layout):
    settings = settings_of(layout)

    def samples(settings: Settings) -> dict[str, str]:
        status = product_status(layout, settings, STEPS, PRODUCT)
        lines = metrics_text(layout, settings, STEPS, [status]).splitlines()
        root = f'root="{layout.root}"'
        pairs = [line.replace(root, "").rsplit(" ", 1) for line in lines if not line.startswith("#")]
        names = ("ipp_mirror_left_", "ipp_mirror_updated_", "ipp_mirror_catalog_")
        return {name: value for name, value in pairs if name.startswith(names)}

    layout.updated(PRODUCT).unlink()
    assert samples(settings) == {}
    write_marker(layout.updated(PRODUCT), {"finished": "2026-07-10T11:00:00Z", "failed": 7, "bytes": 0})
    write_marker(layout.marker(MarkerKind.CATALOGED, PRODUCT, "fileset.7"), {})
    enabled = settings.catalog.model_copy(update={"enabled": True})
    assert samples(settings.model_copy(update={"catalog": enabled})) == {
        f'ipp_mirror_left_filesets{{,product="{PRODUCT}"}}': "7",
        f'ipp_mirror_updated_timestamp_seconds{{,product="{PRODUCT}"}}': "1783681200",
        "ipp_mirror_catalog_behind_filesets{}": str(KNOWN - 1),
    }


@pytest.mark.parametrize("is_current", [True, False])
def test_the_newest_fileset_is_the_one_registered_last_wherever_it_is_listed(is_current, layout):
    """The same in the report and the metrics, whose cache is renewed after each change."""

    def newest() -> tuple[str | None, str]:
        [product] = report_on(layout).products
        registered = datetime.fromisoformat(str(product.newest_registered)).timestamp()
        assert newest_metric(layout) == f"{registered:.0f}"
        if is_current:
            with opened_below(layout.state(PRODUCT)) as opened:
                newest_metric(layout)
            # Once for its size and last bytes, once for the number of rows, once for the table of products.
            assert opened.count("listing.txt") == 3
        return product.newest, product.newest_registered

    def change(*numbers: int) -> None:
        for number in numbers:
            remove(layout, number, "extracted")
        drop_snapshots(layout)
        if is_current:
            settle(layout)

    arrived = [*range(200, KNOWN), *range(200)]
    LocalListing(layout, PRODUCT).replace(listed(number) for number in arrived)
    change()
    assert newest() == ("fileset.299", "2009-07-29T04:59:00Z")
    change(299, 298)
    assert newest() == ("fileset.297", "2009-07-29T04:57:00Z")
    LocalListing(layout, PRODUCT).replace(listed(number) for number in arrived if number < 290)
    assert newest() == ("fileset.289", "2009-07-29T04:49:00Z")


def test_bytes_left_are_estimated_from_filesets_of_the_stage(layout):
    for number in (0, 2, 3, 5):
        remove(layout, number, *DONE)
    remove(layout, 7, "extracted")
    mark_downloaded(layout, 1, size=1000, stage="warp")
    mark_downloaded(layout, 9, size=3000, stage="warp")
    report = report_on(layout)
    [product] = report.products
    assert product.filesets.left == 5
    # Two warps of 2000 bytes; of the two chips, none has its stage in its marker: as the mean of the others,
    # warps and those of ten bytes without a stage.
    assert (product.bytes_left, product.bytes_left_known) == (6010, False)
    assert "here, roughly 6.0 kB left, newest" in as_text(report, [])
    [product] = report_on(layout, settings_of(layout, select={"stage": "warp"})).products
    assert (product.bytes_left, product.bytes_left_known) == (4000, True)


def test_failures_by_cause(layout):
    for number in (3, 4):
        wrong = ContentMismatch(f"fileset.{number}: expected {number}000 bytes, got 7 bytes")
        fail(layout, number, FilesFailed({f"{number}.fits": wrong}), times=2)
    fail(layout, 5, ContentMismatch("403 Forbidden"))
    fail(layout, 6, MachineFault("Permission denied at /a/b"))
    fail(layout, 8, ServerUnavailable("no answer"))
    old = layout.marker(MarkerKind.FAILED, PRODUCT, "fileset.9")
    content = {"fileset": "fileset.9", "registered": "t", "files": [{"file": "", "reason": "bad"}]}
    write_marker(old, content)
    groups = [
        (group.kind, group.here, group.filesets, group.examples, group.postponed, group.next_try is None)
        for group in report_on(layout).failures
    ]
    assert groups == [
        ("machine", True, 1, ("fileset.6",), 0, True),
        ("network", True, 1, ("fileset.8",), 0, True),
        ("upstream", False, 2, ("fileset.3", "fileset.4"), 2, False),
        ("upstream", False, 1, ("fileset.5",), 0, True),
        ("unknown", False, 1, ("fileset.9",), 0, True),
    ]


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        (
            "http://h/p/f/7.fits: expected 9 bytes, got 7. The next run tries again.",
            "http://h/p/f/7.fits: expected 9 bytes, got 7.",
        ),
        (
            "http://h/p/f/7.fits: got 7. It is tried again from 2026-07-10T12:00:00Z on.",
            "http://h/p/f/7.fits: got 7.",
        ),
        ("expected 9 bytes, got 7", "7.fits: expected 9 bytes, got 7"),
        ("/d/7.fits: no space. Free some; the next run tries again.", "/d/7.fits: no space. Free some"),
    ],
)
def test_the_reason_names_the_file_once_and_leaves_the_next_try_to_its_time(reason, shown, layout):
    fail(layout, 7, FilesFailed({"7.fits": ContentMismatch(reason)}))
    [group] = report_on(layout).failures
    assert group.reason == shown


def hold(layout: Layout, seconds_ago: float) -> None:
    """Name a holder on another host in the lock file, which it touched so many seconds ago."""
    layout.lock_file.write_text('{"host": "elsewhere", "pid": 7, "since": "t"}')
    touched = time.time() - seconds_ago
    os.utime(layout.lock_file, (touched, touched))


JUDGED = {
    "all is well": (lambda _: None, OK),
    "upstream is at fault": (incomplete_and_failed, WARNING),
    "upstream is at fault often": (lambda it: fail(it, 7, ContentMismatch("x"), times=2), CRITICAL),
    "this machine is at fault": (lambda it: fail(it, 7, MachineFault("x.")), CRITICAL),
    "the server does not answer": (lambda it: fail(it, 7, ServerUnavailable("x")), WARNING),
    "an optional step": (lambda it: fail(it, 7, ContentMismatch("x"), times=3, step="catalog"), WARNING),
    "an update without the server": (lambda it: append_record(it, run(20, 0.5)), WARNING),
    "an update with a bug": (lambda it: append_record(it, run(40, 0.5)), CRITICAL),
    "stopped": (lambda it: append_record(it, run(25, 0.5)), OK),
    "a verification with a bug": (lambda it: append_record(it, run(40, 0.5, task="VerifyMirror")), OK),
    "killed": (lambda it: hold(it, seconds_ago=100), WARNING),
    "killed, and in the history": (lambda it: append_record(it, run(137, 0.5)), WARNING),
    "killed, and a run works": (
        lambda it: (append_record(it, run(137, 0.5)), hold(it, seconds_ago=10)),
        OK,
    ),
    "killed twice": (lambda it: (append_record(it, run(137, 0.5)), hold(it, seconds_ago=100)), WARNING),
    "working on another host": (lambda it: hold(it, seconds_ago=10), OK),
}


@pytest.mark.parametrize("name", JUDGED)
def test_what_needs_a_person(name, layout):
    change, expected = JUDGED[name]
    change(layout)
    report = report_on(layout)
    assert severity_of(report) == expected
    assert as_check(report, attention(report)).startswith(f"{expected.upper()} - ")


NOT_FOUND = "http://h/ds/md/index.txt: expected a listing, got 404. The next run tries again."


def not_listed(layout: Layout, error: MirrorError) -> None:
    """Note that the listing could not be read since noon of the day before."""
    write_marker(layout.listing_failure(PRODUCT), {"first_failed": "2026-07-09T12:00:00Z"})
    record_listing_failure(layout, PRODUCT, error)


@pytest.mark.parametrize(
    ("error", "kind", "expected", "where"),
    [
        (ServerUnavailable(NOT_FOUND), "network", WARNING, ""),
        (MachineFault("disk full."), "machine", CRITICAL, "because of this machine or its settings "),
        (ContentMismatch("damaged."), "upstream", WARNING, ""),
    ],
)
@pytest.mark.parametrize("code", [20, 30])
def test_a_listing_that_could_not_be_read(code, error, kind, expected, where, layout):
    """Also after a run that ended with a higher code, and in one point where that was its reason."""
    not_listed(layout, error)
    append_record(layout, run(code, 0.5, reason=str(error)[:40]))
    report = report_on(layout)
    points = attention(report)
    said = f"product {PRODUCT}: its listing could not be read {where}since 2026-07-09T12:00:00Z: {error}"
    assert points == [Attention(expected, said)]
    assert "; listing not read since 2026-07-09T12:00:00Z" in " ".join(as_text(report, points).split())
    [product] = json.loads(as_json(report, points))["products"]
    assert product["listing_failure"].pop("last_failed") > "2026-07-09T12:00:00Z"
    assert product["listing_failure"] == {
        "kind": kind,
        "here": kind != "upstream",
        "reason": str(error),
        "first_failed": "2026-07-09T12:00:00Z",
    }


def test_listings_that_could_not_be_read_for_one_cause(layout):
    not_listed(layout, ServerUnavailable(NOT_FOUND))
    report = report_on(layout)
    [each] = report.products
    assert each.listing_failure is not None
    other = replace(each.listing_failure, first_failed="2026-07-08T12:00:00Z")
    names = [PRODUCT, "p1", "p2", "p3", "p4"]
    products = tuple(
        replace(each, product=name, listing_failure=other if name == "p4" else each.listing_failure)
        for name in names
    )
    assert [point.message for point in attention(replace(report, products=products))] == [
        f"products {PRODUCT}, p1, p2 and 2 more: their listings could not be read since 2026-07-08T12:00:00Z"
        f": {NOT_FOUND}"
    ]


def test_another_update_does_not_help_where_the_listing_cannot_be_read(layout):
    layout.updated(PRODUCT).unlink()
    advice = "; begin one with: ipp-mirror update"
    begun = "no update has gone through all products yet"
    assert Attention(WARNING, begun + advice) in attention(report_on(layout))
    not_listed(layout, ServerUnavailable(NOT_FOUND))
    assert Attention(WARNING, begun) in attention(report_on(layout))


# Words of the line on each: what to do, or that nothing is to be done.
REMEDIES = {
    "an update with a bug": "more on it is in {root}/log/update_mirror.log",
    "killed": "the next update goes on from there",
    "killed, and in the history": "was killed; the next one goes on from there",
    "killed twice": "was killed; the next update goes on from there",
    "the server does not answer": "(network); the next update tries again",
    "this machine is at fault": "because of this machine or its settings: x; the next update tries again",
    "upstream is at fault": "the next update tries again",
    "upstream is at fault often": "ipp-mirror skip md fileset.7 --reason TEXT",
    "an optional step": "at step catalog (upstream); to try now: ipp-mirror retry md",
}


@pytest.mark.parametrize("others", [0, 1])
def test_filesets_that_are_postponed(others, layout):
    fail(layout, 7, ContentMismatch("x"), times=2)
    for number in range(others):
        fail(layout, number, ContentMismatch("x"))
    report = report_on(layout)
    [group], [point] = report.failures, attention(report)
    said, fileset = "2 filesets failed (x), 1 postponed; ask upstream, or skip them: ", "FILESET"
    if not others:
        said = f"1 fileset failed (x), tried again from {group.next_try} on; ask upstream, or skip it: "
        fileset = "fileset.7"
    assert point.message == f"product {PRODUCT}: {said}ipp-mirror skip {PRODUCT} {fileset} --reason TEXT"


@pytest.mark.parametrize("name", REMEDIES)
def test_each_line_has_what_to_do(name, layout):
    JUDGED[name][0](layout)
    [point] = attention(report_on(layout))
    assert REMEDIES[name].format(root=layout.root) in point.message


@pytest.mark.parametrize("name", ["upstream is at fault often", "an optional step"])
def test_a_command_for_a_product_whose_name_has_blanks_can_be_pasted(name, layout):
    JUDGED[name][0](layout)
    report = report_on(layout)
    [point] = attention(replace(report, failures=[replace(report.failures[0], product="m d")]))
    assert re.search("ipp-mirror (skip|retry) 'm d'", point.message)


def test_the_line_for_nagios_is_of_clauses(layout):
    points = [Attention(CRITICAL, "a disk is full. Make room."), Attention(WARNING, "it is paused")]
    assert as_check(report_on(layout), points) == (
        "CRITICAL - a disk is full. Make room; it is paused | left=0 failed=0\n"
    )


def test_a_row_of_the_listing_that_is_cut(layout):
    whole = layout.listing(PRODUCT).read_text()
    row = next(line for line in whole.splitlines() if line.startswith("fileset.8|"))
    for cut in ("fileset.8", "|", "fileset.8|", "fileset.8|2009-07-29T00:08:00Z", "| | |"):
        layout.listing(PRODUCT).write_text(whole.replace(row, cut))
        for product in ({}, {"select": {"stage": "chip"}}, {"begin_after": "fileset.3"}):
            settings = settings_of(layout, **product)
            assert f"{PRODUCT} " in as_text(report_on(layout, settings), [])
            assert product_matrix(layout, settings.product(PRODUCT), PRODUCT, STEPS).total.known == KNOWN


@pytest.mark.parametrize(("days", "expected"), [(1, OK), (3, WARNING), (8, CRITICAL)])
def test_updates_that_do_not_end(days, expected, layout):
    gone_through(layout, hours=24 * days)
    append_record(layout, run(25, 0.5))
    assert severity_of(report_on(layout)) == expected
    # A run that works may take longer, as the first one does.
    hold(layout, seconds_ago=10)
    assert severity_of(report_on(layout)) == (WARNING if days > 1 else OK)


def test_a_run_that_works(layout):
    layout.lock_file.write_text('{"host": "dome", "pid": 42, "since": "2026-07-10T11:00:00Z"}')
    with open(layout.lock_file) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        report = report_on(layout)
    assert report.holder is not None
    assert report.holder.is_alive
    assert "running: process 42 on dome since 2026-07-10T11:00:00Z\n" in as_text(report, [])
    update = replace(PROGRESS, task="UpdateMirror")
    assert "running: update, process 42 on dome since " in as_text(replace(report, progress=update), [])


@pytest.mark.parametrize(
    ("written", "ago"),
    [("12:00:00", ""), ("11:59:59", "1 s ago: "), ("11:57:58", "2 min 2 s ago: "), ("12:00:30", "")],
)
def test_the_progress_of_a_run_says_how_much_older_it_is_than_the_table(written, ago, layout):
    progress = replace(PROGRESS, time=f"2026-07-10T{written}Z")
    report = replace(report_on(layout), progress=progress)
    assert (
        running_numbers(report)
        == f"{ago}3 of 10 filesets, 5.0 kB done, about 8.0 kB left, 100 bytes/s, 1 min 20 s left"
    )
    alive = replace(report, holder=LockHolder("dome", 42, "2026-07-10T11:00:00Z", is_alive=True))
    assert f"\n  {ago}3 of 10 filesets," in as_text(alive, [])


def test_the_numbers_of_a_run_that_was_killed_are_those_of_its_last_progress():
    assert run_numbers(run(code=30)) == "1 fileset, 10 bytes in 1 s, 0 failed"
    assert run_numbers(run(code=137)) == "at least 1 fileset, 10 bytes in 1 s, 0 failed"


def test_the_progress_is_read_before_the_markers(layout):
    """Else a table that is behind it would deny what the run has done."""
    layout.lock_file.write_text(
        json.dumps({"host": "dome", "pid": os.getpid(), "since": "2026-07-10T11:00:00Z"})
    )
    write_progress(layout, PROGRESS)
    with open(layout.lock_file) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with opened_below(layout.root / "state") as opened:
            assert report_on(layout).progress == PROGRESS
    assert "progress.json" in opened
    assert "progress.json" not in opened[opened.index(f"{PRODUCT}/listing.txt") :]


def test_a_run_that_works_or_was_killed_counts_for_the_growth_and_the_rate(layout):
    since = "2026-07-08T12:00:00Z"
    layout.lock_file.write_text(json.dumps({"host": "dome", "pid": os.getpid(), "since": since}))
    assert report_on(layout).bytes_per_day is None
    write_progress(layout, replace(PROGRESS, time="2026-07-10T11:30:00Z", fetched=5000))
    assert report_on(layout).bytes_per_day == (5000 + 10) / 2
    fetched = Planner(settings_of(layout), layout, STEPS, None, 0).plan([PRODUCT]).fetched
    assert fetched == FetchRate(5000 / (47.5 * 3600), 1, since, "2026-07-10T11:30:00Z")


def test_a_verification_that_found_problems(layout):
    (layout.root / "data").mkdir()
    (layout.root / "data" / "mine").touch()
    found = {"finished": "2026-07-09T00:00:00Z", "failed": 1, "unexpected": {"data/mine": "unexpected"}}
    write_marker(layout.verified, found)
    report = report_on(layout)
    assert (report.verification.finished, report.verification.problems) == ("2026-07-09T00:00:00Z", 1)
    assert severity_of(report) == CRITICAL
    assert "data/mine: unexpected" in as_text(report, [])
    ended = "ended 2026-07-09T00:00:00Z, 1 problem found"
    assert f"verification: {ended}\n" in as_text(report, [])
    (layout.root / "data" / "mine").unlink()
    report = report_on(layout)
    assert f"verification: {ended}, none of which is left\n" in as_text(report, attention(report))
    write_marker(layout.verification, {"run": "2026-07-10T00:00:00.123456Z"})
    assert "; one that began 2026-07-10T00:00:00Z has not ended\n" in as_text(report_on(layout), [])


def test_an_unexpected_file_of_a_fileset_until_it_is_removed(layout):
    stray = layout.store(PRODUCT, "fileset.7") / "mine"
    stray.parent.mkdir(parents=True)
    stray.touch()
    problems = [f"{layout.relative(stray)}: {UNEXPECTED}its fileset does not list it"]
    content = {"finished": "2100-01-01T00:00:00Z", "problems": problems, "steps": []}
    write_marker(layout.marker(MarkerKind.VERIFIED, PRODUCT, "fileset.7"), content)
    write_marker(layout.product_verified(PRODUCT), {"problems": 1, "filesets": ["fileset.7"]})
    messages = [point.message for point in attention(report_on(layout))]
    assert [message for message in messages if "verifications" in message] == [
        "verifications found 1 unexpected file: move or delete what ipp-mirror status --details names, as "
        "--repair leaves it alone"
    ]
    stray.unlink()
    assert report_on(layout).problems == ()


@pytest.mark.parametrize("named", [["fileset.7"], None], ids=["named", "of an earlier version"])
def test_filesets_with_problems(named, layout):
    for number in range(20):
        problems = ["store/md/fileset.7: is gone"] if number == 7 else []
        content = {"finished": "2100-01-01T00:00:00Z", "problems": problems, "steps": ["downloaded"]}
        write_marker(layout.marker(MarkerKind.VERIFIED, PRODUCT, f"fileset.{number}"), content)
    ended = {"finished": "2100-01-01T00:00:00Z", "problems": 1}
    write_marker(layout.product_verified(PRODUCT), ended | ({"filesets": named} if named else {}))
    with opened_below(layout.marker_folder(MarkerKind.VERIFIED, PRODUCT)) as opened:
        report = report_on(layout)
    assert [problem["fileset"] for problem in report.problems] == ["fileset.7"]
    assert len([path for path in opened if path.endswith(".json")]) == (1 if named else 20)


def test_no_marker_of_a_complete_mirror_is_read(layout):
    with opened_below(layout.state(PRODUCT)) as opened:
        report_on(layout)
    assert [path for path in opened if path.startswith(DONE) and path.endswith(".json")] == []


def test_the_day_on_which_the_disk_is_full(layout):
    append_record(layout, run(0, 24 * 10, bytes=0))
    disk = report_on(layout).disks[0]
    daily = disk.free / 5
    append_record(layout, run(0, 0, bytes=int(10 * daily)))
    report = report_on(layout)
    assert report.disks[0].folders == (".", "store", "data", "incoming", "state")
    assert report.disks[0].path == str(layout.root)
    assert report.disks[0].full in {"2026-07-14", "2026-07-15"}
    assert severity_of(report) == CRITICAL


def test_a_disk_that_is_smaller_than_what_is_to_stay_free(layout):
    report = report_on(layout)
    disk = replace(report.disks[0], size=3 * 10**11, free=10**11)
    for least, said in (
        (3 * 10**11 - 1, f"{disk.name} is full: 100 GB free, 300 GB are to stay free; make room, "),
        (10**13, f"{disk.name} can hold nothing: 10.0 TB are to stay free of 300 GB in all; lower min_free "),
    ):
        [point] = attention(replace(report, disks=(replace(disk, min_free=least),)))
        assert (point.severity, point.message.startswith(said)) == (CRITICAL, True)


def test_text_fits_80_columns_and_is_printable(layout):
    fail(layout, 3, ContentMismatch("expected a word \x1b[31m and " + "more words " * 30))
    skip(layout, 5)
    append_record(layout, run(40, 0.5, reason="a bug in this program " * 9))
    report = report_on(layout)
    lines = as_text(report, attention(report)).splitlines()
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if len(line) > 80 and str(layout.root) not in line] == []


def test_metrics(layout):
    append_record(layout, run(30, 0.5, filesets=4, bytes=1234, failures=2))
    status = product_status(layout, settings_of(layout), STEPS, PRODUCT)
    lines = metrics_text(layout, settings_of(layout), STEPS, [status]).splitlines()
    root = f'root="{layout.root}"'
    for line in (
        "# TYPE ipp_mirror_filesets gauge",
        f'ipp_mirror_filesets{{{root},product="md",state="known"}} 300',
        f'ipp_mirror_filesets{{{root},product="md",state="complete"}} 300',
        f'ipp_mirror_newest_registered_timestamp_seconds{{{root},product="md"}} 1248843540',
        f'ipp_mirror_last_run_exit_code{{{root},task="UpdateMirror"}} 30',
        f'ipp_mirror_last_run_fetched_bytes{{{root},task="UpdateMirror"}} 1234',
        f'ipp_mirror_last_run_end_timestamp_seconds{{{root},task="UpdateMirror"}} 1783683000',
    ):
        assert line in lines
    named = {line.split("{")[0] for line in lines if line[0] != "#"}
    assert named == {line.split()[2] for line in lines if line.startswith("# HELP ")}
