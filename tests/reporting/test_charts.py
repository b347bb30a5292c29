"""Charts of the history: what they count, and that they are whole elements of a page."""

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from pipeline.reporting.history import RunRecord
from pipeline.reporting.page.charts import charts

NOW = datetime(2026, 7, 10, 12, tzinfo=UTC)


def run(days_ago: float, **more) -> RunRecord:
    """A run of 100 s that ended so many days ago."""
    end = NOW - timedelta(days=days_ago)
    start = end - timedelta(seconds=more.get("seconds", 100))
    values = {
        "code": 0,
        "filesets": 1,
        "bytes": 10**9,
        "seconds": 100.0,
        "failures": 0,
        "task": "UpdateMirror",
        "reason": "",
    }
    texts = (time.isoformat().replace("+00:00", "Z") for time in (start, end))
    return RunRecord(*texts, **(values | more))


def summaries(*history: RunRecord, left: int = 3) -> list[tuple[str, str]]:
    return [(chart.title, chart.summary) for chart in charts(history, left, NOW)]


def test_nights_rates_and_backlog():
    assert summaries(run(9, left=40), run(8.9, left=None), run(7, bytes=3 * 10**9, left=20)) == [
        ("Bytes fetched per night (UTC)", "5.0 GB in all, at most 3.0 GB in one night"),
        ("Transfer rate while an update ran", "30.0 MB/s in the last night, median 20.0 MB/s"),
        ("Filesets left (backlog)", "3 now, 40 at most"),
    ]


def test_bytes_of_a_long_run_are_spread_over_its_nights():
    long = run(5.5, seconds=4 * 86400, bytes=4 * 10**12)
    assert summaries(long)[0][1] == "4.0 TB in all, at most 1.0 TB in one night"


def test_a_new_mirror_is_shown_by_the_hour():
    assert summaries(run(0.5), run(0.3))[0] == (
        "Bytes fetched per hour (UTC)",
        "2.0 GB in all, at most 1.0 GB in one hour",
    )


WITHOUT_A_PICTURE = {
    "nothing was fetched": (
        [run(3, bytes=0, left=0), run(2, bytes=0, left=0)],
        0,
        [
            "nothing was fetched",
            "nothing was fetched",
            "none now, none at the end of an update",
        ],
    ),
    "one update that did not go through all": (
        [run(0.5, left=None)],
        1200,
        [
            "1.0 GB, all in the hour from 23:00",
            "10.0 MB/s in the hour from 23:00",
            "1,200 now; no update has gone through all products before",
        ],
    ),
    "updates of one hour": (
        [run(0.02, left=3)],
        0,
        [
            "1.0 GB, all in the hour from 11:00",
            "10.0 MB/s in the hour from 11:00",
            "0 now, 3 at most; the first update ended not long ago",
        ],
    ),
    "one night": (
        [run(7, bytes=0, left=None), run(5, left=None)],
        0,
        ["1.0 GB, all in the night of 2026-07-05", "10.0 MB/s in the night of 2026-07-05", "none now"],
    ),
}


@pytest.mark.parametrize("name", WITHOUT_A_PICTURE)
def test_what_one_point_or_none_would_show_is_said(name):
    history, left, said = WITHOUT_A_PICTURE[name]
    found = charts(history, left, NOW)
    assert [(chart.summary, chart.svg) for chart in found] == [(text, None) for text in said]


def test_fileset_transfer_with_pauses_in_between_are_joined_by_a_line():
    [_, rate, _] = charts([run(day) for day in range(0, 200, 2)], 3, NOW)
    [line] = re.findall(r'<path d="([^"]*)"[^>]*style="[^"]*var\(--chart\)', rate.svg)
    assert line.count("L") == 99


def test_no_chart_reaches_beyond_the_hour_of_now():
    for chart in charts([run(0.2, left=9), run(0.1)], 3, NOW):
        assert "Jul-10" in chart.svg
        assert "Jul-11" not in chart.svg


@pytest.mark.parametrize(
    "history", [[], [run(400)], [run(1, task="VerifyMirror")]], ids=["no run", "old", "a verification"]
)
def test_without_an_update_there_is_no_chart(history):
    assert charts(history, 0, NOW) == []


def test_a_clock_that_was_wrong():
    assert len(summaries(run(-900), run(5))) == len(summaries(run(0, seconds=-50))) == 3


def test_pictures_are_small_and_whole():
    year = [run(day, left=day, bytes=10**9 + day) for day in range(365, 0, -1)]
    found = charts(year, 0, NOW)
    ids: list[str] = []
    for chart in found:
        root = ElementTree.fromstring(chart.svg)
        ids += [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        assert "var(--chart)" in chart.svg
        assert "#01020" not in chart.svg
        assert any(element.tag.endswith("text") for element in root.iter())
    assert len(set(ids)) == len(ids)
    assert sum(len(chart.svg) for chart in found) < 80_000
