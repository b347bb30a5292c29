"""Metrics of a mirror for the textfile collector of Prometheus' node exporter, made at the end of each run.

Only counters are read, and rows where they have changed: else the metrics of a million filesets take as long
as those of ten.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

from pipeline.catalog.sky_knowledge import sky_knowledge
from pipeline.config import Settings
from pipeline.datastore.listing import registered_time
from pipeline.durable import write_whole
from pipeline.errors import MachineFault
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import read_marker
from pipeline.mirror.state.markers import time_since
from pipeline.mirror.state.steps import Steps
from pipeline.reporting.disks import Disk, disks
from pipeline.reporting.filesets import SelectedAndNewest, selected_and_newest
from pipeline.reporting.history import RunRecord, read_history
from pipeline.reporting.report import behind_catalog

Labels = dict[str, str]
Sample = tuple[Labels, float]


def write_metrics(
    layout: Layout, settings: Settings, steps: Steps, products: list[dict[str, Any]], run: RunRecord
) -> None:
    """Rewrite the metrics at the end of the ``run``; ``products`` are the rows of the table of products.

    Raises OSError.
    """
    write_whole(layout.metrics, metrics_text(layout, settings, steps, products, run).encode())


def metrics_text(
    layout: Layout,
    settings: Settings,
    steps: Steps,
    products: list[dict[str, Any]],
    run: RunRecord | None = None,
) -> str:
    """Return the metrics in the text format of Prometheus; ``run`` has no row in the history yet.

    Raises OSError.
    """
    last: dict[str, RunRecord] = {}
    # That run is shown though its row can neither be read nor written.
    with suppress(OSError):
        last = {record.task: record for record in read_history(layout)}
    if run is not None:
        last[run.task] = run
    lines: list[str] = []
    for name, explanation, samples in (
        *_of_products(layout, settings, steps.included(settings), products),
        *_of_updates(layout, products),
        *_of_catalog(layout, settings),
        *_of_runs(last.values()),
        *_of_disks(layout, settings),
    ):
        if not samples:
            continue
        lines += [f"# HELP ipp_mirror_{name} {explanation}", f"# TYPE ipp_mirror_{name} gauge"]
        for labels, value in samples:
            shown = ",".join(
                f'{key}="{_escaped(text)}"' for key, text in {"root": str(layout.root), **labels}.items()
            )
            lines.append(f"ipp_mirror_{name}{{{shown}}} {_number(value)}")
    return "".join(f"{line}\n" for line in lines)


def _of_products(
    layout: Layout, settings: Settings, steps: Steps, products: list[dict[str, Any]]
) -> Iterator[tuple[str, str, list[Sample]]]:
    filesets: list[Sample] = []
    newest: list[Sample] = []
    for row in products:
        name = row["product"]
        numbers = {state: row[state] for state in ("known", "complete", "failed", "skipped")}
        numbers["withdrawn"] = layout.count(MarkerKind.WITHDRAWN, name)
        numbers["partial"] = layout.count(MarkerKind.PARTIAL, name)
        numbers["expired"] = layout.count(MarkerKind.EXPIRED, name)
        found = _selected_and_newest(layout, settings, steps, name)
        if found:
            numbers["selected"] = found.selected
        filesets += [({"product": name, "state": state}, number) for state, number in numbers.items()]
        if found and found.newest and (registered := registered_time(found.newest.registered)):
            newest.append(({"product": name}, registered.timestamp()))
    yield "filesets", "Filesets of a product by state; they overlap.", filesets
    held: list[Sample] = [({"product": row["product"]}, row["bytes"]) for row in products]
    yield "held_bytes", "Bytes of the downloaded filesets as listed, at the end of the last update.", held
    yield "newest_registered_timestamp_seconds", "Registration of the newest complete fileset.", newest


def _selected_and_newest(
    layout: Layout, settings: Settings, steps: Steps, name: str
) -> SelectedAndNewest | None:
    product, configured = settings.product(name), settings.is_configured(name)
    try:
        with sky_knowledge(settings, layout, product) as sky:
            return selected_and_newest(layout, product, steps.required, sky, configured=configured)
    except MachineFault:
        return None


def _of_updates(layout: Layout, products: list[dict[str, Any]]) -> Iterator[tuple[str, str, list[Sample]]]:
    """Yield what the last update that went through each product has noted; the rows are not read for it."""
    left: list[Sample] = []
    ended: list[Sample] = []
    for row in products:
        labels = {"product": row["product"]}
        updated = read_marker(layout.updated(row["product"])) or {}
        if isinstance(number := updated.get("failed"), int):
            left.append((labels, number))
        if time_since(finished := updated.get("finished")) is not None:
            ended.append((labels, _seconds(str(finished))))
    yield "left_filesets", "Selected filesets that the last update of a product left incomplete.", left
    yield "updated_timestamp_seconds", "End of the last update that went through a product.", ended


def _of_catalog(layout: Layout, settings: Settings) -> Iterator[tuple[str, str, list[Sample]]]:
    behind = behind_catalog(layout, settings)
    samples: list[Sample] = [] if behind is None else [({}, behind)]
    yield "catalog_behind_filesets", "Complete filesets that are not in the catalog yet.", samples


def _of_runs(records: Iterable[RunRecord]) -> Iterator[tuple[str, str, list[Sample]]]:
    last = [({"task": record.task}, record) for record in records]
    for name, explanation, value in (
        ("start_timestamp_seconds", "Start of the last run.", lambda run: _seconds(run.start)),
        ("end_timestamp_seconds", "End of the last run.", lambda run: _seconds(run.end)),
        ("duration_seconds", "Duration of the last run.", lambda run: run.seconds),
        ("exit_code", "Exit code of the last run.", lambda run: run.code),
        ("filesets", "Filesets that the last run completed or verified.", lambda run: run.filesets),
        ("fetched_bytes", "Bytes that the last run fetched.", lambda run: run.bytes),
        ("failed_filesets", "Filesets that failed in the last run.", lambda run: run.failures),
    ):
        yield f"last_run_{name}", explanation, [(labels, value(record)) for labels, record in last]


def _of_disks(layout: Layout, settings: Settings) -> Iterator[tuple[str, str, list[Sample]]]:
    # One sample for each folder: its label stays when others come to its disk, or leave it.
    here: list[tuple[Labels, Disk]] = [
        ({"folder": folder}, disk)
        for disk in disks(layout, settings, None, datetime.min)
        for folder in disk.folders
    ]
    yield (
        "disk_free_bytes",
        "Free bytes of the file system of a folder.",
        [(labels, disk.free) for labels, disk in here],
    )
    yield (
        "disk_size_bytes",
        "Size of the file system of a folder.",
        [(labels, disk.size) for labels, disk in here],
    )


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
