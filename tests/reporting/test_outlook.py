"""Outlook of a mirror: one line on what is here, and when the rest will be."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.reporting.filesets import FilesetCounts
from pipeline.reporting.lock_holder import LockHolder
from pipeline.reporting.outlook import outlook_text
from pipeline.reporting.product_report import ProductReport
from pipeline.reporting.progress import RunProgress
from pipeline.reporting.report import MirrorReport, Verification

NONE = Verification(None, 0, None)
WORKS = LockHolder("dome", 42, "t", True)
KILLED = replace(WORKS, is_alive=False)
UPDATE = RunProgress("t", "filesets", 3, 10, 0, 5000, 8000, True, 2000, 0, 125, "UpdateMirror")
VERIFICATION = replace(UPDATE, task="VerifyMirror")


def product(selected: int, left: int, *, failed: int = 0, skipped: int = 0, **more: Any) -> ProductReport:
    """A product of 1500 known filesets, with a million bytes to fetch."""
    counts = FilesetCounts(1500, selected, selected - left - skipped, left, skipped, 0, 0, 0)
    values = {"bytes_left": 10**6 if left else 0, "bytes_left_known": True} | more
    return ProductReport(
        "p", True, counts, failed, 0, 7, True, *values.values(), None, None, None, None, None
    )


def report(*products: ProductReport, **more: Any) -> MirrorReport:
    empty = dict.fromkeys(MirrorReport.__dataclass_fields__) | {"verification": NONE, "comparison": NONE}
    return MirrorReport(**(empty | {"products": products, "volumes": (), "last_success": "t"} | more))


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (report(), "no fileset is known"),
        (
            report(product(9, 0), last_success=None),
            "all 9 selected filesets are here; not all products are gone through yet",
        ),
        (
            report(product(9, 0), volumes=("the volume /d is not mounted",)),
            "all 9 selected filesets are here; not all disks can be used",
        ),
        (report(product(0, 0)), "none of 1,500 known filesets is selected"),
        (report(product(1, 0)), "the selected fileset is here"),
        (report(product(1200, 0), product(300, 0)), "all 1,500 selected filesets are here"),
        (report(product(12, 0, skipped=1)), "all 12 selected filesets are here or skipped"),
        (
            report(product(1200, 1100, failed=1), rate=5.5),
            "1,100 of 1,200 selected filesets left, about 1.0 MB; about 2 d 2 h of an update at 6 bytes/s",
        ),
        (
            report(product(1, 1)),
            "1 of 1 selected fileset left, about 1.0 MB; no run is at work, the time left is not known",
        ),
        (
            report(product(9, 9, bytes_left=0, bytes_left_known=False), rate=5.0),
            "9 of 9 selected filesets left; no run is at work, the time left is not known",
        ),
        (
            report(product(9, 9, bytes_left_known=False), holder=KILLED, rate=5.0),
            "9 of 9 selected filesets left, roughly 1.0 MB; about 2 d 7 h of an update at 5 bytes/s",
        ),
        (
            report(product(9, 2, failed=2), rate=5.0),
            "2 of 9 selected filesets left, about 1.0 MB; all of them failed",
        ),
        (
            report(product(9, 2), holder=WORKS, progress=UPDATE, rate=5.0),
            "2 of 9 selected filesets left; here in about 2 min 5 s at 2.0 kB/s",
        ),
        (
            report(product(9, 2), holder=WORKS, progress=VERIFICATION, rate=5.0),
            "2 of 9 selected filesets left, about 1.0 MB; a run is at work, the time left is not known",
        ),
        (
            report(product(9, 2), holder=WORKS, rate=5.0),
            "2 of 9 selected filesets left, about 1.0 MB; a run is at work, the time left is not known",
        ),
        (
            report(product(9, 2), paused="paused since t by me", rate=5.0),
            "2 of 9 selected filesets left, about 1.0 MB; updates are paused",
        ),
    ],
)
def test_what_is_here_and_when_the_rest_will_be(found, text):
    assert outlook_text(found) == text
