"""Picture of the sky that the mirror covers: a density of exposures, of all filters and of each.

The projection is that of Hammer: equal areas of the sky are equal areas of the picture. East is left.
All maps have one scale, light to dark, which tells them apart in grey print too.
"""

import io
import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from pipeline.catalog.coverage.exposures import OTHER, Exposures

_Array = NDArray[np.float64]
# Right ascension in the middle of the maps, degrees.
_MIDDLE = 180.0
_HALF_WIDTH = 2 * math.sqrt(2)
# Cells across the whole sky: 11.2 square degrees each.
_CELLS = 90
_FEW_CELLS = 40
_CELL_AREA = math.sqrt(3) / 2 * (2 * _HALF_WIDTH / _CELLS) ** 2 * math.degrees(1) ** 2
# Planes with their poles: that of the galactic coordinates (IAU 1958, in ICRS), that of the ecliptic (J2000);
# degrees. Style and width of their lines, points.
_PLANES: dict[str, tuple[tuple[float, float], Any, float]] = {
    "plane of the Milky Way": ((192.8595, 27.1283), "-", 1.6),
    "ecliptic": ((270.0, 66.5607), "--", 1.1),
}
_PLANE_COLOUR = "#c8553d"
# Colours that differ in red-green blindness too (Okabe and Ito).
_BAND_COLOURS = {
    "g": "#009e73",
    "r": "#d55e00",
    "i": "#cc79a7",
    "z": "#0072b2",
    "y": "#e69f00",
    "w": "#000000",
    OTHER: "#666666",
}
_SHADES = LinearSegmentedColormap.from_list("exposures", ["#a9c6e8", "#5b8fc7", "#2a5a9b", "#0a1f44"])
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "svg.hashsalt": "coverage",
    "axes.linewidth": 0.6,
}


def draw(exposures: Exposures) -> tuple[bytes, bytes]:
    """Return the picture as PNG and as SVG; both have the width of a page, 19 cm."""
    with mpl.rc_context(_STYLE):
        figure = _figure(exposures)
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return png.getvalue(), svg.getvalue()


def _figure(exposures: Exposures) -> Figure:
    bands = exposures.bands
    rows = math.ceil(len(bands) / 3) if len(bands) > 1 else 0
    height = 4.75 + 1.45 * rows
    figure = Figure(figsize=(7.5, height), facecolor="white")
    FigureCanvasAgg(figure)

    def axes(left: float, bottom: float, width: float) -> Axes:
        """Add axes twice as wide as high; inches from the lower left corner."""
        return figure.add_axes((left / 7.5, bottom / height, width / 7.5, width / 2 / height))

    whole = axes(0.25, 0.85 + 1.45 * rows, 7.0)
    counts = [_density(whole, *_all(exposures))]
    _sky(whole, labels=True)
    _name_objects(whole, exposures)
    for number, band in enumerate(bands if rows else []):
        row, place = divmod(number, 3)
        panel = axes(0.25 + 2.4 * place, 0.85 + 1.45 * (rows - 1 - row), 2.2)
        counts.append(_density(panel, exposures.ra[band], exposures.dec[band]))
        _sky(panel, labels=False)
        _name_band(panel, band, len(exposures.ra[band]))
    _scale(figure, figure.add_axes((0.5, 0.5 / height, 0.45, 0.12 / height)), counts)
    _title(figure, exposures, height)
    _legend(figure, height)
    return figure


def _all(exposures: Exposures) -> tuple[_Array, _Array]:
    angles = (np.concatenate([[], *each.values()]) for each in (exposures.ra, exposures.dec))
    ra, dec = angles
    return ra, dec


def _density(axes: Axes, ra: ArrayLike, dec: ArrayLike) -> PolyCollection:
    """Draw the number of exposures in each cell."""
    x, y = _projected(ra, dec)
    extent = (-_HALF_WIDTH, _HALF_WIDTH, -_HALF_WIDTH / 2, _HALF_WIDTH / 2)
    grid = (_CELLS, round(_CELLS / 2 / math.sqrt(3)))
    cells = axes.hexbin(x, y, gridsize=grid, extent=extent, mincnt=1, cmap=_SHADES, zorder=2)
    # A few cells are points in a small map: edges of their own colour make them larger.
    are_few = len(_numbers(cells)) <= _FEW_CELLS
    cells.set_linewidth(1.5 if are_few else 0.2)
    axes.set_xlim(-_HALF_WIDTH * 1.01, _HALF_WIDTH * 1.01)
    axes.set_ylim(-_HALF_WIDTH / 2 * 1.01, _HALF_WIDTH / 2 * 1.01)
    axes.set_axis_off()
    sky = Ellipse(
        (0, 0), 2 * _HALF_WIDTH, _HALF_WIDTH, facecolor="#f4f4f2", edgecolor="#444444", linewidth=0.6
    )
    axes.add_patch(sky).set_zorder(0)
    if are_few:
        # A field at the edge of the map is seen whole.
        cells.set_clip_on(False)
    else:
        cells.set_clip_path(sky)
    return cells


def _numbers(cells: PolyCollection) -> _Array:
    return np.asarray(cells.get_array(), dtype=float)


def _sky(axes: Axes, *, labels: bool) -> None:
    """Draw the planes, and lines of right ascension and declination, with their angles if ``labels``."""
    for (ra, dec), style, width in _PLANES.values():
        width *= 1.0 if labels else 0.6
        (line,) = axes.plot(*_broken(*_great_circle(ra, dec)), color=_PLANE_COLOUR, zorder=3, linewidth=width)
        line.set_linestyle(style)
        line.set_path_effects([withStroke(linewidth=width + 1.2, foreground="white")])
    grid: dict[str, Any] = {"color": "#b8b8b4", "linewidth": 0.4, "zorder": 1}
    for dec in range(-60, 90, 30):
        axes.plot(*_projected(np.linspace(0, 360, 181), np.full(181, dec)), **grid)
        if labels and dec:
            _label(axes, f"{dec:+d}°".replace("-", "−"), (0.0, dec), (4, 0), ha="left", va="center")
    for ra in range(0, 361, 60):
        axes.plot(*_projected(np.full(181, ra), np.linspace(-90, 90, 181)), **grid)
        if labels:
            _label(axes, f"{ra}°", (ra, 0.0), (0, -3), ha="center", va="top")


def _label(axes: Axes, text: str, place: tuple[float, float], offset: tuple[int, int], **style: Any) -> None:
    """Write a text beside a place in the sky, legible on any background."""
    (x,), (y,) = _projected([place[0]], [place[1]])
    label = axes.annotate(
        text, (x, y), offset, textcoords="offset points", color="#333333", zorder=4, **style
    )
    label.set_path_effects([withStroke(linewidth=2, foreground="white")])


def _name_objects(axes: Axes, exposures: Exposures) -> None:
    for name, (ra, dec) in exposures.objects.items():
        # To the inner side of the map.
        side = -1 if ra < _MIDDLE else 1
        _label(axes, name, (ra, dec), (5 * side, 7), ha="left" if side > 0 else "right", fontweight="bold")


def _name_band(axes: Axes, band: str, number: int) -> None:
    ink = "black" if band in "iy" else "white"
    box = {"boxstyle": "round,pad=0.25", "facecolor": _BAND_COLOURS[band], "edgecolor": "none"}
    axes.text(0.0, 0.93, band, transform=axes.transAxes, color=ink, fontweight="bold", va="center", bbox=box)
    axes.text(1.0, 0.93, f"{number:,}", transform=axes.transAxes, ha="right", va="center")


def _scale(figure: Figure, axes: Axes, cells: list[PolyCollection]) -> None:
    """Draw the scale of all maps."""
    most = max(float(_numbers(each).max(initial=1)) for each in cells)
    norm = LogNorm(1, most) if most > 10 else Normalize(0, max(most, 1))
    for each in cells:
        each.set_norm(norm)
    bar = figure.colorbar(cells[0], cax=axes, orientation="horizontal")
    ticks = [value for power in range(7) for value in (10**power, 3 * 10**power) if value <= most]
    ticks = ticks if most > 10 else list(range(1, int(most) + 1))
    bar.set_ticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    bar.ax.minorticks_off()
    bar.outline.set_linewidth(0.4)
    axes.set_title(f"exposures in a cell of {_CELL_AREA:.0f} square degrees", fontsize=8, pad=4)


def _title(figure: Figure, exposures: Exposures, height: float) -> None:
    number = sum(map(len, exposures.ra.values()))
    title = (
        f"{number:,} exposure{'s' if number != 1 else ''} in the mirror"
        if number
        else "No exposure has a position"
    )
    figure.text(0.25 / 7.5, 1 - 0.22 / height, title, fontsize=12, fontweight="bold", va="top")
    note = "ICRS, east is left"
    if exposures.unplaced:
        note = f"{exposures.unplaced:,} more without a position · {note}"
    figure.text(7.25 / 7.5, 1 - 0.25 / height, note, ha="right", va="top", color="#555555")


def _legend(figure: Figure, height: float) -> None:
    lines = [
        Line2D([], [], color=_PLANE_COLOUR, label=name, linestyle=style, linewidth=width)
        for name, (_, style, width) in _PLANES.items()
    ]
    place = (0.25 / 7.5, 0.38 / height)
    figure.legend(handles=lines, loc="lower left", bbox_to_anchor=place, ncols=2, frameon=False, borderpad=0)


def _projected(ra: ArrayLike, dec: ArrayLike) -> tuple[_Array, _Array]:
    """Return the places in the projection of Hammer; 360 degrees is the left edge, 0 the right one."""
    longitude = np.radians(_MIDDLE - np.asarray(ra, dtype=float))
    latitude = np.radians(np.asarray(dec, dtype=float))
    scale = math.sqrt(2) / np.sqrt(1 + np.cos(latitude) * np.cos(longitude / 2))
    return 2 * scale * np.cos(latitude) * np.sin(longitude / 2), scale * np.sin(latitude)


def _great_circle(pole_ra: float, pole_dec: float) -> tuple[_Array, _Array]:
    """Return positions all along the great circle that is 90 degrees from the pole."""
    angle = np.linspace(0, 2 * np.pi, 721)
    ra, dec = math.radians(pole_ra), math.radians(pole_dec)
    # Two unit vectors that are perpendicular to the pole, and to each other.
    first = np.array([-math.sin(ra), math.cos(ra), 0.0])
    second = np.array([-math.sin(dec) * math.cos(ra), -math.sin(dec) * math.sin(ra), math.cos(dec)])
    x, y, z = np.outer(first, np.cos(angle)) + np.outer(second, np.sin(angle))
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arcsin(z))


def _broken(ra: _Array, dec: _Array) -> tuple[_Array, _Array]:
    """Return the places of a line, interrupted where it leaves the picture and comes in on the other side."""
    x, y = _projected(ra, dec)
    edges = np.flatnonzero(np.abs(np.diff(ra)) > 180) + 1
    return np.insert(x, edges, np.nan), np.insert(y, edges, np.nan)
