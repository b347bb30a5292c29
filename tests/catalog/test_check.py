"""Comparison of the catalog with the markers."""

from contextlib import closing
from pathlib import Path

import pytest
from support.cataloged import PRODUCT, CatalogedMirror

from pipeline.catalog.check import EXTRA, MISSING, PENDING, STALE, differences
from pipeline.catalog.opening import current_database
from pipeline.catalog.reconcile import reconcile
from pipeline.mirror.state.layout import MarkerKind

BOTH = (MarkerKind.DOWNLOADED, MarkerKind.EXTRACTED)
# More than a page of rows, and several batches of names.
FILESETS = 1050


def found(mirror: CatalogedMirror, kinds: tuple[str, ...]) -> dict[str, str]:
    """Return what is different, by fileset."""
    with closing(current_database(mirror.settings, mirror.layout, read_only=True)) as database:
        listed = [
            (each.product, each.fileset, each.what) for each in differences(mirror.layout, database, kinds)
        ]
    assert len(listed) == len({name for _, name, _ in listed})
    assert {product for product, _, _ in listed} <= {PRODUCT}
    return {name: what for _, name, what in listed}


def test_each_difference_is_found_in_all_batches(tmp_path: Path):
    mirror = CatalogedMirror(tmp_path, [f"f{number}" for number in range(FILESETS)])
    expected = dict.fromkeys(["f1", "f499", "f500"], STALE)
    expected |= dict.fromkeys(["f2", "f501", "f1002"], PENDING)
    expected |= dict.fromkeys(["f0", "f999", "f1000", "f1001", "f1049"], EXTRA)
    expected |= dict.fromkeys(["g0", "g1"], MISSING)
    for name, what in expected.items():
        if what == STALE:
            mirror.mark_cataloged(name, "earlier")
        elif what == PENDING:
            mirror.unmark(MarkerKind.CATALOGED, name)
        elif what == EXTRA:
            mirror.unmark(MarkerKind.DOWNLOADED, name)
        else:
            mirror.mark(MarkerKind.DOWNLOADED, name)
            mirror.mark_cataloged(name)
    assert found(mirror, BOTH[:1]) == expected


@pytest.mark.parametrize(
    ("markers", "what"),
    [
        ((), {"f": EXTRA}),
        (("cataloged",), {"f": EXTRA}),
        (("downloaded",), {}),
        (("extracted",), {}),
        (("downloaded", "cataloged"), {}),
        (("extracted", "cataloged"), {}),
        (("downloaded", "extracted"), {"f": PENDING}),
        (("downloaded", "extracted", "cataloged"), {}),
    ],
)
def test_extra_are_those_whose_rows_the_next_update_deletes(markers, what, tmp_path: Path):
    """One that is downloaded and not unpacked, or the reverse, is held, and not complete."""
    mirror = CatalogedMirror(tmp_path, ["f"])
    mirror.mark(MarkerKind.EXTRACTED, "f")
    for kind in {*BOTH, MarkerKind.CATALOGED} - set(markers):
        mirror.unmark(kind, "f")
    assert found(mirror, BOTH) == what
    reconcile(mirror.settings, mirror.layout)
    with (
        closing(current_database(mirror.settings, mirror.layout)) as database,
        database.reading() as connection,
    ):
        left = connection.exec_driver_sql("SELECT name FROM fileset").scalars().all()
    assert left == ([] if EXTRA in what.values() else ["f"])
