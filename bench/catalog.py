"""Cataloging of realistic filesets: an update with and without the catalog, and a rebuild of it."""

import json
import shutil
from pathlib import Path

from bench.daemons import BIN, REPOSITORY
from bench.measure import Run, Spread, run
from bench.rebuild import many_chips
from bench.tables import print_table
from bench.tools import OURS, OURS_CATALOG
from pipeline.sample.plan import ReleasePlan
from pipeline.sample.release import write_chips

_CHIPS = 60
# Image, weight and mask of each chip.
_KINDS = 3
# Header cards of an image beyond those that the sample release has: together more than 300.
_HOUSEKEEPING = 270
_SETTINGS = "mirror.yaml"


def catalog_chips(folder: Path, filesets: int, url: str) -> None:
    """Mirror the filesets of chips at ``url``, catalog all of them by a rebuild, and print a table."""
    target = _mirror(folder / "target", url)
    _print_rebuild(target, filesets)
    shutil.rmtree(target)


def catalog_many_chips(folder: Path, filesets: int, url: str) -> None:
    """Do the same for a mirror of so many filesets, copies of those at ``url``."""
    sample, target = _mirror(folder / "sample", url), folder / "target"
    many_chips(sample, target, filesets)
    shutil.copy(sample / _SETTINGS, target)
    _print_rebuild(target, filesets)
    for each in (sample, target):
        shutil.rmtree(each)


def _mirror(target: Path, url: str) -> Path:
    """Return ``target``, a new mirror of all that is at ``url``, to be cataloged."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    OURS.run(url, target)
    settings = json.loads((target / _SETTINGS).read_text())
    settings["mirror"]["root"] = "."
    settings["catalog"] = {"enabled": True, "coverage": False}
    (target / _SETTINGS).write_text(json.dumps(settings))
    return target


def _print_rebuild(target: Path, filesets: int) -> None:
    """Rebuild the catalog of a mirror of so many filesets of chips, and print a table."""
    command = [str(BIN / "ipp-mirror"), "catalog", "rebuild", "--config", str(target / _SETTINGS)]
    done = run(command, REPOSITORY, target / "rebuild.log")
    size = (target / "status" / "catalog.sqlite").stat().st_size
    rows = [
        [
            "filesets",
            "seconds",
            "ms each",
            "CPU s",
            "CPU ms each",
            "bytes for each image",
            "MB, largest process",
        ],
        [
            f"{filesets:,}",
            f"{done.seconds:.1f}",
            f"{1000 * done.seconds / filesets:.0f}",
            f"{done.cpu_seconds:.1f}",
            f"{1000 * done.cpu_seconds / filesets:.0f}",
            f"{size / (filesets * _KINDS * _CHIPS):.0f}",
            f"{done.peak_bytes / 1e6:.0f}",
        ],
    ]
    print_table(f"Rebuild of the catalog: filesets of {_CHIPS} images, weights and masks each", rows)


def chips(folder: Path, filesets: int) -> Path:
    """Return a store of that many filesets of chips, written there first if it is missing."""
    store = folder / f"chips-{filesets}"
    if not store.exists():
        print(f"making {filesets} filesets of {_CHIPS} chips in {store}", flush=True)
        partial = store.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        write_chips(partial, ReleasePlan(exposures=filesets, chips=_CHIPS, image_size=32), _HOUSEKEEPING)
        partial.rename(store)
    return store


def print_ratio(title: str, runs: dict[str, list[Run]]) -> None:
    """Print time and CPU time of updates without and with the catalog, and their ratios."""
    rows = [["", "seconds", "min-max", "CPU s", "min-max"]]
    medians = []
    for tool in (OURS, OURS_CATALOG):
        seconds = Spread.of([each.seconds for each in runs[tool.name]])
        cpu = Spread.of([each.cpu_seconds for each in runs[tool.name]])
        medians.append((seconds.median, cpu.median))
        cells = [(f"{each.median:.2f}", f"{each.least:.2f}-{each.most:.2f}") for each in (seconds, cpu)]
        rows.append([tool.name, *cells[0], *cells[1]])
    without, with_catalog = medians
    ratios = [there / here for here, there in zip(without, with_catalog, strict=True)]
    rows.append(["ratio", f"{ratios[0]:.2f}", "", f"{ratios[1]:.2f}", ""])
    print_table(title, rows)
