"""Page of a mirror, as HTML: one file without scripts, which loads nothing."""

import os
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline import __version__
from pipeline.catalog.like_filesets import like_filesets
from pipeline.config import Settings
from pipeline.durable import write_whole
from pipeline.errors import MachineFault
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.steps import Steps
from pipeline.names import escaped
from pipeline.reporting.attention import attention, severity
from pipeline.reporting.disks import Disk
from pipeline.reporting.history import read_history
from pipeline.reporting.matrix import Cell, Matrix, product_matrix
from pipeline.reporting.page.charts import Chart, charts
from pipeline.reporting.progress import progress_text
from pipeline.reporting.report import MirrorReport, ProductReport, mirror_report, with_unfinished
from pipeline.reporting.text import as_age, bytes_left_of, notes_of
from pipeline.units import as_count, as_size

# Rows of a table of failures, skipped filesets or problems.
ROWS = 50
# Sentences on what needs a person, or bears watching, that are shown before the numbers without a click.
POINTS = 8
_LARGEST_PICTURE = 2_000_000
_FILES = ("product_status.csv", "download_failures.csv", "history.csv", "metrics.prom")


def _printable(value: Any) -> Any:
    """Return texts with escapes for what is not printable; markup, as of the charts, as it is."""
    return escaped(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    finalize=_printable,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update({"size": as_size, "count": as_count, "age": as_age})


@dataclass(frozen=True)
class Page:
    """Content of the page.

    ``links`` leads from the page to folders and files of the mirror that are there, by their paths below the
    root. ``coverage`` is the picture of the sky as an address with the data in it; None without one.
    """

    report: MirrorReport
    matrices: tuple[Matrix, ...]
    charts: tuple[Chart, ...]
    coverage: str | None
    links: dict[str, str]


def write_page(layout: Layout, settings: Settings, steps: Steps, path: Path) -> str:
    """Write the page to ``path``; return the highest severity of what it says.

    Raises SettingsError before the first update, ServerUnavailable for a damaged listing, OSError.
    """
    page = gather_page(layout, settings, steps, path.absolute().parent)
    write_whole(path.absolute(), render_page(page).encode(), shared=True)
    return severity(attention(page.report))


def gather_page(layout: Layout, settings: Settings, steps: Steps, folder: Path) -> Page:
    """Return the content of a page in ``folder``. Raises as ``write_page``."""
    report = mirror_report(layout, settings, steps)
    wanted = steps.wanted(settings)
    matrices = tuple(_matrix(layout, settings, each, wanted) for each in report.products)
    left = sum(each.filesets.left for each in report.products)
    runs = with_unfinished(layout, read_history(layout), report.holder)
    return Page(
        report,
        matrices,
        tuple(charts(runs, left, datetime.fromisoformat(report.time))),
        _picture(layout),
        dict(_links(layout, report, folder)),
    )


def _matrix(layout: Layout, settings: Settings, product: ProductReport, steps: Steps) -> Matrix:
    """Return the matrix; while the catalog cannot be read, by what the listing alone tells."""
    chosen = settings.product(product.product)
    configured = chosen if product.configured else None
    try:
        with like_filesets(settings, layout, chosen) as like:
            return product_matrix(layout, configured, product.product, steps, like=like)
    except MachineFault:
        return product_matrix(layout, configured, product.product, steps)


def render_page(page: Page) -> str:
    """Return the page as HTML."""
    points = attention(page.report)
    return _TEMPLATES.get_template("page.html").render(
        page=page,
        report=page.report,
        points=points,
        state=severity(points),
        totals=_totals(page.report),
        failures=_tables_of_failures(page.report),
        cell_class=cell_class,
        used=_used,
        bytes_left_of=bytes_left_of,
        notes_of=notes_of,
        progress_text=progress_text,
        rows=ROWS,
        points_shown=POINTS,
        version=__version__,
    )


def cell_class(cell: Cell) -> str:
    """Return the class of a cell of the matrix: how it stands, without a look at the numbers."""
    if cell.complete == cell.known:
        return "whole"
    if cell.failed:
        return "failed"
    if cell.left:
        return "partly"
    return "unselected" if cell.unselected and not cell.complete else "apart"


def _totals(report: MirrorReport) -> dict[str, int]:
    counts = [vars(product.filesets) | {"failed": product.failed} for product in report.products]
    names = ("known", "selected", "complete", "left", "failed", "skipped", "withdrawn")
    totals = {name: sum(each[name] for each in counts) for name in names}
    return totals | {"bytes": sum(product.bytes for product in report.products)}


def _tables_of_failures(report: MirrorReport) -> list[tuple[str, Sequence[Any]]]:
    tables = (
        ("Failures here (disk, network, settings)", [each for each in report.failures if each.here]),
        ("Failures upstream", [each for each in report.failures if each.kind == "upstream"]),
        ("Other failures", [each for each in report.failures if each.kind == "unknown"]),
    )
    return [(title, groups) for title, groups in tables if groups]


def _used(disk: Disk) -> int:
    """Return the percentage of the disk that is used."""
    return round(100 * (disk.size - disk.free) / disk.size) if disk.size else 100


def _picture(layout: Layout) -> str | None:
    """Return the picture of the coverage: as SVG, or as PNG where that is too large; None without one."""
    png, svg = layout.coverage_pictures
    for path, media_type in ((svg, "image/svg+xml"), (png, "image/png")):
        try:
            if path.stat().st_size <= _LARGEST_PICTURE:
                return f"data:{media_type};base64,{b64encode(path.read_bytes()).decode()}"
        except OSError:
            continue
    return None


def _links(layout: Layout, report: MirrorReport, folder: Path) -> Iterable[tuple[str, str]]:
    paths = ["store", "data", "info", *(f"status/{name}" for name in _FILES)]
    paths += [f"store/{product.product}" for product in report.products]
    for path in paths:
        target = layout.root / path
        if target.exists():
            slash = "/" if target.is_dir() else ""
            yield path, quote(os.fsencode(os.path.relpath(target, folder))) + slash
