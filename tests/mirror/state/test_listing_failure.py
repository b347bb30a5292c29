"""Record of a product whose listing could not be read."""

import pytest

from pipeline.errors import MachineFault, ServerUnavailable
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.listing_failure import (
    clear_listing_failure,
    listing_failure,
    record_listing_failure,
)
from pipeline.mirror.state.marker_file import write_marker


def test_the_first_and_the_last_failure_until_the_listing_is_read(tmp_path):
    layout = Layout(tmp_path)
    clear_listing_failure(layout, "p")
    assert listing_failure(layout, "p") is None
    write_marker(layout.listing_failure("p"), {"first_failed": "2026-07-10T11:00:00Z"})
    record_listing_failure(layout, "p", MachineFault("disk full"))
    record_listing_failure(layout, "p", ServerUnavailable("got 404"))
    record = listing_failure(layout, "p")
    assert record is not None
    assert record.pop("last_failed") > "2026-07-10T11:00:00Z"
    assert record == {
        "schema": 1,
        "product": "p",
        "first_failed": "2026-07-10T11:00:00Z",
        "kind": "network",
        "reason": "got 404",
    }
    clear_listing_failure(layout, "p")
    assert listing_failure(layout, "p") is None


@pytest.mark.parametrize("file", ["discovered.json", "listing.txt"])
def test_a_product_that_was_never_listed_has_no_state(file, tmp_path):
    layout = Layout(tmp_path)
    record_listing_failure(layout, "misspelt", ServerUnavailable("got 404"))
    assert layout.state_products() == []
    (layout.state("misspelt") / file).touch()
    assert layout.state_products() == ["misspelt"]
