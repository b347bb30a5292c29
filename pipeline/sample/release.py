"""Survey release as a store: all products, and later exposures."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.sample.archive import Written, write_archive
from pipeline.sample.contents import Maker
from pipeline.sample.plan import ReleasePlan, ReleaseSummary
from pipeline.sample.publisher import Product, Publication, PublishedFile, writer_of
from pipeline.sample.records import dbinfo, dirinfo
from pipeline.sample.rows import CLEANED, FULL
from pipeline.sample.sky import MD01, MD09, RUNS_PER_FIELD, THREEPI, Field
from pipeline.sample.stages import Distribution, Processing
from pipeline.sample.stamps import add_stamps
from pipeline.sample.survey import Exposure, exposure_index

VISIT = 8
"""Exposures that are stacked together."""
_EXPOSURES_PER_WIDE_ONE = 4
"""Exposures of the first field for each of the wide survey."""

DISTRIBUTION_COLUMNS = ("target_id", "stage", "stage_id", "exp_name", "data_group", "filter")
RELEASE = Product(
    "md-all-rel-200907", "ipp-dist", "MD fields, all stages, release 2009-07", DISTRIBUTION_COLUMNS
)
PARTNER = Product("qub-200907", "ipp-dist", "Calibrations for one partner", DISTRIBUTION_COLUMNS, hidden=True)
EMPTY = Product("empty-product", "ipp-dist", "A product without filesets", DISTRIBUTION_COLUMNS)
STAMPS = Product("pstampresults", "psresults", "Postage stamp results")

FIRST_REGISTERED = datetime(2009, 8, 1, 3, 2, 11, tzinfo=UTC)
_PAUSE = timedelta(seconds=37)
_LATER = timedelta(hours=1)
_FIRST_IDS = {
    "raw": 44433,
    "chip": 14517,
    "camera": 9001,
    "fake": 8001,
    "warp": 7001,
    "diff": 3001,
    "stack": 2001,
    "sky": 601,
    "skycal": 501,
    "ff": 401,
    "stack_summary": 301,
    "distribution": 31,
}
_NUMBERED_AS = {"SSdiff": "diff"}
"""Stages whose runs are numbered together with those of another one."""
_FILESET = re.compile(
    r"(?:(?P<exposure>o\d+g\d+o)\.)?(?P<stage>[A-Za-z_]+)\.(?P<run>\d+)\.(?P<distribution>\d+)\.\d+"
)


def write_release(out: Path, plan: ReleasePlan) -> ReleaseSummary:
    """Write a new store to ``out``: the release, the product of a partner, postage stamps, an empty product.

    The release holds two fields: one of many exposures, and a smaller one that lies on both sides of right
    ascension 0, of which the images of processed chips are not distributed.

    Raises SettingsError if ``out`` is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise SettingsError(
            f"{out}: expected an empty or absent folder, this one has files; nothing was written"
        )
    for product in (RELEASE, EMPTY, STAMPS, PARTNER):
        Publication(out, product).announce()
    partner = _Distributor(out, PARTNER, MD09, plan)
    partner.add_cameras(min(plan.exposures, 2))
    summary = partner.summary + append_release(out, plan)
    small = replace(plan, chips=min(plan.chips, 2), skycells=1)
    wide = _Distributor(out, RELEASE, THREEPI, small, chip_state=CLEANED)
    wide.add_visits(plan.exposures // _EXPOSURES_PER_WIDE_ONE)
    return summary + wide.summary


def append_release(out: Path, plan: ReleasePlan) -> ReleaseSummary:
    """Add ``plan.exposures`` new exposures of the first field and ``plan.stamps`` new requests to a store.

    New filesets are registered after all existing ones, which stay unchanged. Raises SettingsError if ``out``
    is no store.
    """
    if not (out / RELEASE.name / "index.txt").is_file():
        raise SettingsError(f"{out}: expected a store with the product {RELEASE.name}; nothing was written")
    release = _Distributor(out, RELEASE, MD01, plan)
    release.add_visits(plan.exposures)
    stamps = Publication(out, STAMPS)
    started = _next_time(stamps)
    summary = add_stamps(stamps, plan, started)
    stamps.announce()
    return release.summary + summary


def write_chips(out: Path, plan: ReleasePlan, housekeeping: int) -> ReleaseSummary:
    """Write a store of processed chips only, with ``housekeeping`` more cards in each header of an image.

    With 60 chips, the least ``image_size`` and 270 cards, filesets have real headers and few pixels.
    """
    Publication(out, RELEASE).announce()
    release = _Distributor(out, RELEASE, MD01, plan, housekeeping=housekeeping)
    release.add_chips(plan.exposures)
    return release.summary


class _Numbers:
    """Numbers of the runs and exposures of a field: each follows the highest published one."""

    def __init__(self, field: Field, published: Iterable[str]) -> None:
        self._next = {kind: number + field.first_run for kind, number in _FIRST_IDS.items()}
        self.exposures = 0
        for match in filter(None, map(_FILESET.fullmatch, published)):
            stage, run = _NUMBERED_AS.get(match["stage"], match["stage"]), int(match["run"])
            if not 0 <= run - field.first_run - _FIRST_IDS[stage] < RUNS_PER_FIELD:
                continue  # of another field
            self._skip(stage, run)
            self._skip("distribution", int(match["distribution"]))
            if match["exposure"]:
                self.exposures = max(self.exposures, exposure_index(match["exposure"], field) + 1)

    def take(self, kind: str) -> int:
        """Return the next number."""
        self._next[kind] += 1
        return self._next[kind] - 1

    def _skip(self, kind: str, number: int) -> None:
        self._next[kind] = max(self._next[kind], number + 1)


class _Distributor:
    """Distribution of the runs of new exposures of one field in one product."""

    def __init__(
        self,
        out: Path,
        product: Product,
        field: Field,
        plan: ReleasePlan,
        chip_state: str = FULL,
        housekeeping: int = 0,
    ) -> None:
        release = product.name.rpartition("-")[2]
        self._publication = Publication(out, product)
        self._numbers = _Numbers(field, self._publication.names)
        self._processing = Processing(
            f"{field.name}.{release}", plan.chips, plan.skycells, plan.image_size, chip_state, housekeeping
        )
        self._field = field
        self._seed = plan.seed
        self._time = _next_time(self._publication)
        self.summary = ReleaseSummary()

    def add_visits(self, exposures: int) -> None:
        """Add new exposures, with stacks and differences of ``VISIT`` exposures each."""
        for first in range(0, exposures, VISIT):
            self._add_visit(min(VISIT, exposures - first))

    def _add_visit(self, exposures: int) -> None:
        """Add new exposures that are stacked together, and list all their filesets at the end.

        All runs of an exposure are registered in the same second, as in real releases.
        """
        visit = [self._new_exposure() for _ in range(exposures)]
        processing = self._processing
        for exposure in visit:
            stages = (processing.raw, processing.chip, processing.camera, processing.fake, processing.warp)
            self._add(stage(exposure) for stage in stages)
        stacks = processing.stacks(visit, self._numbers.take)
        self._add(processing.stack(stack) for stack in stacks)
        self._add(processing.diff(exposure, stacks) for exposure in visit)
        sky_id, skycal_id = self._numbers.take("sky"), self._numbers.take("skycal")
        self._add([processing.sky(stacks[0], sky_id), processing.skycal(stacks[0], sky_id, skycal_id)])
        ff_id, sass_id = self._numbers.take("ff"), self._numbers.take("stack_summary")
        self._add([processing.forced(stacks[0], skycal_id, ff_id), processing.stack_summary(stacks, sass_id)])
        if pair := processing.last_night(stacks, self._numbers.take):
            self._add([processing.stack(pair[0]), processing.stack_diff(*pair, self._numbers.take("diff"))])
        self._publication.announce()

    def add_cameras(self, exposures: int) -> None:
        """Add new exposures of which only the camera stage is published."""
        self._add(self._processing.camera(self._new_exposure()) for _ in range(exposures))
        self._publication.announce()

    def add_chips(self, exposures: int) -> None:
        """Add new exposures of which only the processed chips are published."""
        self._add(self._processing.chip(self._new_exposure()) for _ in range(exposures))
        self._publication.announce()

    def _new_exposure(self) -> Exposure:
        index = self._numbers.exposures
        self._numbers.exposures += 1
        ids = {
            stage: self._numbers.take(stage) for stage in ("raw", "chip", "camera", "fake", "warp", "diff")
        }
        return Exposure(index, self._field, self._seed, ids)

    def _add(self, distributions: Iterable[Distribution]) -> None:
        for run in distributions:
            number = self._numbers.take("distribution")
            name = f"{run.exp_name}." if run.exp_name else ""
            fileset = f"{name}{run.stage}.{run.stage_id}.{number}.1"
            self.summary += self._publication.add(
                fileset, self._time, "IPP-DIST", fileset_files(run), _listed_columns(run)
            )
        self._time += _PAUSE


def fileset_files(run: Distribution) -> list[PublishedFile]:
    """Return the files in the fileset of a run, in the order of the listing."""
    suffix = f"{run.stage}.{run.stage_id}.mdc"
    folders = {component.name: component.folder for component in run.components}
    documents = [
        PublishedFile(f"dbinfo.{suffix}", "text", writer_of(dbinfo(run.tables)), extra=("dbinfo",)),
        PublishedFile(
            f"dirinfo.{suffix}", "text", writer_of(dirinfo(run.destdir, folders)), extra=("dirinfo",)
        ),
    ]
    mtime = int(run.made.timestamp())
    archives = [
        PublishedFile(f"{each.stem}.tgz", "tgz", partial(_pack, each.contents, mtime), extra=(each.name,))
        for each in run.components
        if each.contents
    ]
    return documents + archives


def _pack(contents: Maker, mtime: int, path: Path) -> Written:
    return write_archive(path, contents(), mtime)


def _listed_columns(run: Distribution) -> Sequence[str]:
    """Return the values of the columns that only this product has; some runs of the sender have none."""
    if run.stage == "fake" and run.stage_id % 4 == 0:
        return ("null",) * len(DISTRIBUTION_COLUMNS)
    name = run.exp_name or f"{run.stage}.{run.stage_id}"
    return ("1", run.stage, str(run.stage_id), name, run.data_group, run.filter)


def _next_time(publication: Publication) -> datetime:
    last = publication.last_registered
    return last + _LATER if last else FIRST_REGISTERED
