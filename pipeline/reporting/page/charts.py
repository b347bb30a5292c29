"""Charts of the history of runs, as SVG for a page: bytes, transfer rate and backlog over time.

Colours are those of the page, by variables of CSS; texts are texts, in the font of the page.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from pipeline.reporting.history import RunRecord
from pipeline.units import as_size

LONGEST = timedelta(days=365)
# A history that is shorter is shown by the hour, in place of the night.
_HOURLY_UP_TO = timedelta(days=4)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
# Colours that Matplotlib draws with, and what the page has in place of them.
_INK, _RULE, _MAIN, _SOFT = "#010203", "#010204", "#010205", "#010206"
_VARIABLES = {
    _INK: "var(--dim)",
    _RULE: "var(--line)",
    _MAIN: "var(--chart)",
    _SOFT: "var(--chart-soft)",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "chart",
    "font.size": 8,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": _RULE,
    "xtick.labelcolor": _INK,
    "xtick.major.size": 3,
    "ytick.labelcolor": _INK,
    "ytick.major.size": 0,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _RULE,
    "grid.linewidth": 0.5,
}
_FEW = 60
# Points; the page scales a chart to its column.
_WIDTH, _HEIGHT = 300, 140
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Chart:
    """Chart with its title, a sentence with its main numbers, and its picture as an element ``svg``.

    ``svg`` is None where the sentence has all that a picture would show.
    """

    title: str
    summary: str
    svg: str | None


@dataclass(frozen=True)
class _Bins:
    """Nights (UTC days) or hours from the first run that is shown to ``now``; values of each."""

    begin: datetime
    step: timedelta
    bytes: _Array
    seconds: _Array

    @property
    def edges(self) -> list[datetime]:
        """Times (UTC) between the bins."""
        return [self.begin + number * self.step for number in range(len(self.bytes) + 1)]

    @property
    def noun(self) -> str:
        """Name of a bin."""
        return "night" if self.step == _DAY else "hour"

    def name(self, place: int) -> str:
        """Return one of the bins in words."""
        begin = self.begin + place * self.step
        return f"in the night of {begin:%Y-%m-%d}" if self.step == _DAY else f"in the hour from {begin:%H:%M}"


def charts(history: Sequence[RunRecord], left: int, now: datetime) -> list[Chart]:
    """Return the charts of the updates of the last year; none without an update.

    ``left`` are the filesets that are left at the time ``now``.
    """
    updates = [each for each in history if each.is_update and _time(each.end) > now - LONGEST]
    if not updates:
        return []
    bins = _binned(updates, now)
    return [_bytes_chart(bins), _rate_chart(bins), _backlog_chart(updates, left, bins, now)]


def _binned(updates: Sequence[RunRecord], now: datetime) -> _Bins:
    """Return the bytes and seconds of the updates, each spread evenly over the time that it took."""
    first = max(min(_time(each.start) for each in updates), now - LONGEST)
    step = _DAY if now - first > _HOURLY_UP_TO else _HOUR
    begin = first.replace(minute=0, second=0, microsecond=0)
    if step == _DAY:
        begin = begin.replace(hour=0)
    else:
        # A day at least, up to now.
        begin = min(begin, now.replace(minute=0, second=0, microsecond=0) - 23 * _HOUR)
    count = max((now - begin) // step + 1, 1)
    bins = _Bins(begin, step, np.zeros(count), np.zeros(count))
    for each in updates:
        _spread(bins, each)
    return bins


def _spread(bins: _Bins, run: RunRecord) -> None:
    end = (_time(run.end) - bins.begin) / bins.step
    start = min((_time(run.start) - bins.begin) / bins.step, end)
    last = len(bins.bytes) - 1
    places = range(max(int(start), 0), min(int(end), last) + 1)
    for place in places:
        overlap = min(end, place + 1) - max(start, place)
        share = overlap / (end - start) if end > start else 1.0
        bins.bytes[place] += run.bytes * share
        # The rate is that of runs that fetched: others spend their time on listings.
        bins.seconds[place] += run.seconds * share if run.bytes else 0.0


def _bytes_chart(bins: _Bins) -> Chart:
    title = f"Bytes fetched per {bins.noun} (UTC)"
    total, most = float(bins.bytes.sum()), float(bins.bytes.max())
    fetched = np.flatnonzero(bins.bytes).tolist()
    if len(fetched) < 2:
        said = [f"{as_size(total)}, all {bins.name(place)}" for place in fetched]
        return Chart(title, said[0] if said else "nothing was fetched", None)
    figure, axes = _axes()
    axes.stairs(bins.bytes, _numbers(bins.edges), fill=True, color=_MAIN)
    _scale(axes, bins.edges, as_size)
    summary = f"{as_size(total)} in all, at most {as_size(most)} in one {bins.noun}"
    return Chart(title, summary, _svg(figure, "bytes"))


def _rate_chart(bins: _Bins) -> Chart:
    title = "Transfer rate while an update ran"
    timed = np.flatnonzero(bins.seconds).tolist()
    rates = bins.bytes[timed] / bins.seconds[timed]
    if len(timed) < 2:
        said = [f"{as_size(rate)}/s {bins.name(place)}" for place, rate in zip(timed, rates, strict=True)]
        return Chart(title, said[0] if said else "nothing was fetched", None)
    figure, axes = _axes()
    middles = _numbers([bins.begin + (place + 0.5) * bins.step for place in timed])
    # Of a few transfers each is seen; of many the line, whose picture is smaller.
    size = 4 if len(timed) < _FEW else 0
    axes.plot(middles, rates, marker=".", color=_MAIN, linewidth=1, markersize=size)
    _scale(axes, bins.edges, lambda value: f"{as_size(value)}/s")
    median = as_size(float(np.median(rates)))
    summary = f"{as_size(float(rates[-1]))}/s in the last {bins.noun}, median {median}/s"
    return Chart(title, summary, _svg(figure, "rate"))


def _backlog_chart(updates: Sequence[RunRecord], left: int, bins: _Bins, now: datetime) -> Chart:
    title = "Filesets left (backlog)"
    ended = sorted((_time(each.end), each.left) for each in updates if each.left is not None)
    points = [*ended, (now, left)]
    most = max(number for _, number in points)
    if not most:
        return Chart(title, "none now, none at the end of an update" if ended else "none now", None)
    if not ended:
        return Chart(title, f"{left:,} now; no update has gone through all products before", None)
    if now - ended[0][0] < bins.step:
        return Chart(title, f"{left:,} now, {most:,} at most; the first update ended not long ago", None)
    figure, axes = _axes()
    times, values = _numbers([time for time, _ in points]), [number for _, number in points]
    axes.fill_between(times, values, step="post", color=_SOFT, linewidth=0)
    size = 4 if len(points) < _FEW else 0
    axes.plot(times, values, drawstyle="steps-post", marker=".", color=_MAIN, linewidth=1, markersize=size)
    _scale(axes, bins.edges, lambda value: f"{value:,.0f}", whole=True)
    return Chart(title, f"{left:,} now, {most:,} at most", _svg(figure, "backlog"))


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72))
    FigureCanvasSVG(figure)
    with mpl.rc_context(_STYLE):
        return figure, figure.add_axes((48 / _WIDTH, 18 / _HEIGHT, 1 - 54 / _WIDTH, 1 - 26 / _HEIGHT))


def _scale(axes: Axes, edges: list[datetime], text: Callable[[float], str], *, whole: bool = False) -> None:
    first, last = _numbers([edges[0], edges[-1]])
    axes.set_xlim(first, last)
    axes.set_ylim(bottom=0)
    locator = AutoDateLocator(minticks=3, maxticks=6, tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=UTC, show_offset=False)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=whole))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axes.set_axisbelow(True)


def _numbers(times: Sequence[datetime]) -> list[float]:
    """Return times as Matplotlib has them on an axis: days since 1970."""
    return [time.timestamp() / _DAY.total_seconds() for time in times]


def _svg(figure: Figure, name: str) -> str:
    """Return the chart as an element to put into a page; ``name`` tells its ids from those of others."""
    output = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(output, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(output.getvalue(), name)


def _for_page(text: str, name: str) -> str:
    """Return the element ``svg`` of a picture of Matplotlib, without what only a file of its own needs."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 aria-hidden="true"', text, count=1)
    text = re.sub(r" font-family: [^;]*;| transform=\"rotate\(-0[^\"]*\"", "", text)
    text = re.sub(r"(\d\.\d)\d+", r"\1", text)
    return re.sub(r"\s*\n\s*", "\n", text)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
