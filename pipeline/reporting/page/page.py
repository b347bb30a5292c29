"""Page of a mirror, as HTML: one file without scripts, which loads nothing."""

import os
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline import __version__
from pipeline.catalog.sky_knowledge import sky_knowledge
from pipeline.config import Settings
from pipeline.durable import write_whole
from pipeline.errors import MachineFault
from pipeline.mirror.resources.file_systems import is_reachable
from pipeline.mirror.resources.volumes import product_folder
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.steps import Steps
from pipeline.names import escaped
from pipeline.reporting.attention import attention, severity
from pipeline.reporting.disks import Disk
from pipeline.reporting.history import read_history
from pipeline.reporting.lock_holder import with_unfinished
from pipeline.reporting.matrix import Cell, Matrix, Missing, product_matrix
from pipeline.reporting.outlook import outlook, outlook_text, when_here
from pipeline.reporting.page.charts import Chart, charts
from pipeline.reporting.product_report import ProductReport
from pipeline.reporting.report import MirrorReport, mirror_report
from pipeline.reporting.report_forms import (
    as_age,
    bytes_left_of,
    catalog_text,
    notes_of,
    run_numbers,
    running_noun,
    running_numbers,
)
from pipeline.units import as_count, as_size

# Rows of a table of failures, problems, skipped filesets, or what is missing; those shown without a click.
ROWS = 50
UNFOLDED = 8
# Sentences on what needs a person, or bears watching, that are shown before the numbers without a click.
POINTS = 8
_LARGEST_PICTURE = 2_000_000
# Columns of numbers.
_NUMERIC = ("filesets",)
# Why filesets are missing, as they are counted for the matrix.
_KINDS = ("failed", "left", "skipped", "withdrawn")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_COMMAND = re.compile("ipp-mirror [a-z]+")
_FILES = ("product_status.csv", "download_failures.csv", "history.csv", "metrics.prom")


def _printable(value: Any) -> Any:
    """Return texts with escapes for what is not printable; markup, as of the charts, as it is."""
    return escaped(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _with_breaks(path: str) -> Markup:
    """Return a path that a narrow line breaks at its slashes."""
    return Markup("/<wbr>".join(str(escape(escaped(part))) for part in path.split("/")))


def _with_commands(text: str) -> Markup:
    """Return a text with its commands marked, so that none is broken at its hyphen."""
    return Markup(_COMMAND.sub(r'<span class="command">\g<0></span>', str(escape(escaped(text)))))


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    finalize=_printable,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update(
    {
        "size": as_size,
        "count": as_count,
        "age": as_age,
        "first_upper": _first_upper,
        "with_breaks": _with_breaks,
        "with_commands": _with_commands,
    }
)
_TEMPLATES.tests["time"] = lambda text: isinstance(text, str) and bool(_TIME.fullmatch(text))


@dataclass(frozen=True)
class Page:
    """Content of the page.

    ``links`` leads from the page to folders and files of the mirror that are there, by their paths below the
    root. ``volumes`` has the folders of the products that are on disks of their own. ``coverage`` is the
    picture of the sky as an address with the data in it; None without one.
    """

    report: MirrorReport
    matrices: tuple[Matrix, ...]
    charts: tuple[Chart, ...]
    coverage: str | None
    links: dict[str, str]
    volumes: dict[str, str]


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
    included = steps.included(settings)
    matrices = tuple(_matrix(layout, settings, each, included) for each in report.products)
    left = sum(each.filesets.left for each in report.products)
    runs = with_unfinished(layout, read_history(layout), report.holder)
    return Page(
        report,
        matrices,
        tuple(charts(runs, left, datetime.fromisoformat(report.time))),
        _picture(layout),
        dict(_links(layout, report, folder)),
        dict(_volumes(layout, settings, report)),
    )


def _matrix(layout: Layout, settings: Settings, product: ProductReport, steps: Steps) -> Matrix:
    """Return the matrix; while the catalog cannot be read, by what the listing alone tells."""
    chosen = settings.product(product.product)
    configured = chosen if product.configured else None
    try:
        with sky_knowledge(settings, layout, chosen) as sky:
            return product_matrix(layout, configured, product.product, steps, sky=sky)
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
        totals=outlook(page.report),
        failures=_tables_of_failures(page.report),
        missing=_missing(page.matrices),
        missing_rows=sum(matrix.missing_rows for matrix in page.matrices),
        kinds=_KINDS,
        numeric=_NUMERIC,
        cell_class=cell_class,
        used=_used,
        outlook_text=outlook_text,
        when_here=when_here,
        running_noun=running_noun,
        running_numbers=running_numbers,
        run_numbers=run_numbers,
        catalog_text=catalog_text,
        bytes_left_of=bytes_left_of,
        notes_of=notes_of,
        rows=ROWS,
        unfolded=UNFOLDED,
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


def _missing(matrices: Sequence[Matrix]) -> list[tuple[str, Missing]]:
    """Return the first rows of what is missing, each with its product.

    What will be fetched comes before what is skipped or withdrawn.
    """
    found = [(matrix.product, each) for matrix in matrices for each in matrix.missing]
    return sorted(found, key=lambda item: item[1].is_settled)[:ROWS]


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


def _volumes(layout: Layout, settings: Settings, report: MirrorReport) -> Iterable[tuple[str, str]]:
    for product in report.products:
        if layout.volume(product.product).is_symlink():
            yield product.product, str(product_folder(layout, settings, product.product))


def _links(layout: Layout, report: MirrorReport, folder: Path) -> Iterable[tuple[str, str]]:
    paths = ["store", "data", "info", *(f"status/{name}" for name in _FILES)]
    for product in report.products:
        paths += [f"store/{product.product}", f"volumes/{product.product}"]
    for path in paths:
        target = layout.root / path
        # Neither raises OSError, as for a disk that does not answer.
        if os.path.exists(target):  # noqa: PTH110
            slash = "/" if is_reachable(target) else ""
            yield path, quote(os.fsencode(os.path.relpath(target, folder))) + slash
