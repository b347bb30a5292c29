"""Notifications of listings that could not be read, for people and for a command."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.errors import ServerUnavailable
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.listing_failure import clear_listing_failure, record_listing_failure
from pipeline.reporting.history import RunRecord
from pipeline.reporting.notification import (
    RunSummary,
    as_json,
    body,
    is_news,
    note_notified,
    summary_of,
    title,
)
from tasks.steps import STEPS

RUN = RunRecord(
    start="2026-07-10T12:00:00Z",
    end="2026-07-10T12:01:00Z",
    code=30,
    filesets=0,
    bytes=0,
    seconds=60.0,
    failures=1,
    task="UpdateMirror",
    reason="fileset other/f: expected 3 bytes",
)
REASON = "http://h/ds/md/index.txt: expected a listing, got status 503. The next run tries again."


@pytest.mark.parametrize("named", [["md", "other"], None])
def test_a_listing_that_could_not_be_read_is_named_until_it_is_read(named, tmp_path: Path):
    layout = Layout(tmp_path)
    settings = Settings.model_validate(
        {"source": {"url": "http://h/ds"}, "mirror": {"root": str(tmp_path), "products": named}}
    )

    def summary() -> RunSummary:
        return summary_of(layout, settings, STEPS, RUN, {})

    record_listing_failure(layout, "md", ServerUnavailable(REASON))
    first = summary()
    assert not first.is_well
    assert title(first).endswith(": 1 listing not read")
    said = " ".join(body(first).split())
    assert said.startswith(f"update from {RUN.start} to {RUN.end} ended with code {RUN.code}")
    since = first.listings["md"].first_failed
    listed = f"listings that could not be read (1 product): md: since {since}; next try in the next update"
    assert f"{listed} {REASON}" in said
    assert "Nothing is wrong." not in said
    [row] = json.loads(as_json(first, news=True))["listings"]
    assert (row["product"], row["kind"], row["reason"]) == ("md", "network", REASON)
    assert is_news(layout, first)
    note_notified(layout, first)
    record_listing_failure(layout, "md", ServerUnavailable(REASON))
    assert not is_news(layout, summary())
    clear_listing_failure(layout, "md")
    assert is_news(layout, summary())
    assert replace(summary(), run=replace(RUN, code=0)).is_well
