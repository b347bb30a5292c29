"""Components of a run, stage by stage: folder, content, and row of the database."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.sample import rows
from pipeline.sample.config_dump import ConfigDump, File, sender_path
from pipeline.sample.contents import (
    Maker,
    Picture,
    camera_contents,
    catalogue_contents,
    chip_picture,
    diff_picture,
    image_contents,
    overview_contents,
    overview_picture,
    raw_contents,
    stack_picture,
    warp_picture,
)
from pipeline.sample.images import compressed_bytes, detected
from pipeline.sample.records import Row
from pipeline.sample.sky import CHIP_NAMES
from pipeline.sample.survey import Exposure

CHIP_SUFFIXES = (".ch.fits", ".ch.wt.fits", ".ch.mk.fits")
SKYCELL_SUFFIXES = (".fits", ".wt.fits", ".mask.fits")


@dataclass(frozen=True)
class Component:
    """Component of a run: folder below destdir, stem of the archive, members, row of the database.

    ``contents`` is None for an archive of zero bytes, which is not distributed.
    """

    name: str
    folder: str
    stem: str
    contents: Maker | None
    row: Row


@dataclass(frozen=True)
class Stack:
    """Average of exposures of one filter in one sky cell, unpacked to ``destdir``."""

    stack_id: int
    cell: int
    exposures: Sequence[Exposure]
    destdir: str

    @property
    def first(self) -> Exposure:
        """Exposure that determines filter and date."""
        return self.exposures[0]

    @property
    def skycell(self) -> str:
        """Name of the sky cell."""
        return self.first.field.skycell(self.cell)

    @property
    def folder(self) -> str:
        """Folder of the sky cell, below destdir."""
        return f"{self.first.field.tessellation}/{self.skycell}"

    def stem(self, code: str, run_id: int) -> str:
        """Return the stem of the names of all files that a run on the sky cell produced."""
        return f"{self.first.field.tessellation}.{self.skycell}.{code}.{run_id}"

    @property
    def path(self) -> str:
        """Path of the files below the volume, without suffix."""
        return f"{self.destdir}/{self.folder}/{self.stem('stk', self.stack_id)}"


def reaches(exposure: Exposure, cell: int, skycells: int) -> bool:
    """Return True if the exposure covers the sky cell: every fourth one misses the last of several."""
    return skycells == 1 or cell != skycells - 1 or exposure.index % 4 != 1


def raw_folder(exposure: Exposure) -> str:
    """Return the folder of an exposure as the camera wrote it."""
    return f"gpc1/{exposure.start:%Y%m%d}/{exposure.name}"


def raw_chip(exposure: Exposure, chip: int, size: int) -> Component:
    """Return a chip as the camera wrote it."""
    class_id, folder = CHIP_NAMES[chip], raw_folder(exposure)
    stem = _raw_stem(exposure, class_id)
    path = f"{folder}/{stem}"
    dump = ConfigDump("regPeek", [("RAW.INPUT", f"{path}.fits")], [("RAW.STATS", f"{path}.stats")])
    return Component(
        class_id,
        folder,
        f"{_stem(exposure, 'raw', 'rw')}.{class_id}",
        raw_contents(chip_picture(exposure, chip, size), class_id, stem, dump),
        rows.raw_imfile(exposure, class_id, f"{path}.fits", chip),
    )


def processed_chip(exposure: Exposure, chip: int, picture: Picture, destdir: str, state: str) -> Component:
    """Return a chip without the camera's signature: image, variance, mask and stars.

    The bundle of one in the ``state`` "cleaned" lacks the images.
    """
    class_id = CHIP_NAMES[chip]
    stem = f"{_stem(exposure, 'chip', 'ch')}.{class_id}"
    path = f"{destdir}/{exposure.base}/{stem}"
    raw = f"{raw_folder(exposure)}/{_raw_stem(exposure, class_id)}.fits"
    dump = ConfigDump(
        "ppImage",
        [("PPIMAGE.INPUT", raw), ("PPIMAGE.MASK", "gpc1/detrends/mask.20090701.fits")],
        _outputs("PPIMAGE", path, [*CHIP_SUFFIXES, ".cmf"]),
        gzipped=chip % 2 == 1,
    )
    base = sender_path(f"{destdir}/{exposure.base}/{_stem(exposure, 'chip', 'ch')}", chip)
    uri = sender_path(f"{path}{CHIP_SUFFIXES[0]}", chip)
    row = rows.chip_imfile(exposure, class_id, picture, uri, base, state)
    contents = (
        catalogue_contents(picture, stem, dump)
        if state == rows.CLEANED
        else image_contents(picture, stem, CHIP_SUFFIXES, dump)
    )
    return Component(class_id, exposure.base, stem, contents, row)


def camera_exposure(exposure: Exposure, chips: int, size: int, destdir: str) -> Component:
    """Return the stars of all chips, calibrated."""
    stem = _stem(exposure, "camera", "cm")
    path = f"{destdir}/{exposure.base}/{stem}"
    pictures = [chip_picture(exposure, chip, size) for chip in range(chips)]
    catalogues = [
        ("PSASTRO.INPUT", f"{destdir}/{exposure.base}/{_stem(exposure, 'chip', 'ch')}.{class_id}.cmf")
        for class_id in CHIP_NAMES[:chips]
    ]
    dump = ConfigDump("psastro", catalogues, _outputs("PSASTRO", path, [".smf"]))
    stars = sum(len(detected(each.frame, each.quality, each.stars).mag) for each in pictures)
    row = rows.cam_exp(exposure, pictures[0], stars, sender_path(path))
    return Component("exposure", exposure.base, stem, camera_contents(pictures, stem, dump), row)


def fake_chip(exposure: Exposure, chip: int, size: int, destdir: str) -> Component:
    """Return the stars found on a chip after artificial ones were added."""
    class_id, picture = CHIP_NAMES[chip], chip_picture(exposure, chip, size)
    stem = f"{_stem(exposure, 'fake', 'fk')}.{class_id}"
    path = f"{destdir}/{exposure.base}/{stem}"
    smf = f"{destdir}/{exposure.base}/{_stem(exposure, 'camera', 'cm')}.smf"
    dump = ConfigDump("ppSim", [("PPSIM.INPUT", smf)], _outputs("PPSIM", path, [".cmf"]))
    row = rows.fake_imfile(exposure, class_id, sender_path(path, chip))
    return Component(class_id, exposure.base, stem, catalogue_contents(picture, stem, dump), row)


def warp_skycell(exposure: Exposure, cell: int, skycells: int, size: int, destdir: str) -> Component:
    """Return an exposure resampled to a sky cell."""
    skycell, picture = exposure.field.skycell(cell), warp_picture(exposure, cell, size)
    stem = f"{_stem(exposure, 'warp', 'wrp')}.{skycell}"
    path = f"{destdir}/{exposure.base}/{stem}"
    chip = f"{destdir}/{exposure.base}/{_stem(exposure, 'chip', 'ch')}.{CHIP_NAMES[cell]}"
    dump = ConfigDump(
        "pswarp",
        [("PSWARP.INPUT", chip + suffix) for suffix in CHIP_SUFFIXES],
        _outputs("PSWARP", path, [*SKYCELL_SUFFIXES, ".cmf"]),
        gzipped=cell % 2 == 0,
    )
    reached = reaches(exposure, cell, skycells)
    contents = image_contents(picture, stem, SKYCELL_SUFFIXES, dump) if reached else None
    row = rows.warp_skyfile(exposure, skycell, picture, sender_path(path, cell), reached)
    return Component(skycell, exposure.base, stem, contents, row)


def diff_skycell(exposure: Exposure, stack: Stack, size: int, destdir: str) -> Component:
    """Return a sky cell of an exposure with the stack subtracted."""
    picture = diff_picture([exposure], stack.cell, size)
    stem = f"{_stem(exposure, 'diff', 'dif')}.{stack.skycell}"
    path = f"{destdir}/{exposure.base}/{stem}"
    warp = f"{destdir}/{exposure.base}/{_stem(exposure, 'warp', 'wrp')}.{stack.skycell}.fits"
    dump = ConfigDump(
        "ppSub",
        [("PPSUB.INPUT", warp), ("PPSUB.REF", f"{stack.path}.fits")],
        _outputs("PPSUB", path, [*SKYCELL_SUFFIXES, ".cmf"]),
    )
    contents = image_contents(picture, stem, SKYCELL_SUFFIXES, dump, level=picture.quality.sky)
    row = rows.diff_skyfile(exposure.ids["diff"], stack.skycell, picture, sender_path(path, stack.cell))
    return Component(stack.skycell, exposure.base, stem, contents, row)


def stack_difference(stack: Stack, reference: Stack, diff_id: int, size: int) -> Component:
    """Return a stack with the reference subtracted."""
    picture = diff_picture(stack.exposures, stack.cell, size)
    stem = stack.stem("ssd", diff_id)
    path = f"{stack.destdir}/{stack.folder}/{stem}"
    dump = ConfigDump(
        "ppSub",
        [("PPSUB.INPUT", f"{stack.path}.fits"), ("PPSUB.REF", f"{reference.path}.fits")],
        _outputs("PPSUB", path, [*SKYCELL_SUFFIXES, ".cmf"]),
    )
    contents = image_contents(picture, stem, SKYCELL_SUFFIXES, dump, level=picture.quality.sky)
    row = rows.diff_skyfile(diff_id, stack.skycell, picture, sender_path(path))
    return Component(stack.skycell, stack.folder, stem, contents, row)


def stack_skycell(stack: Stack, size: int, warps: Sequence[str]) -> Component:
    """Return the average of the exposures; ``warps`` are the paths of their images below the volume."""
    picture = stack_picture(stack.exposures, stack.cell, size)
    stem = stack.stem("stk", stack.stack_id)
    dump = ConfigDump(
        "ppStack",
        [("PPSTACK.INPUT", path) for path in warps],
        _outputs("PPSTACK", stack.path, [*SKYCELL_SUFFIXES, ".cmf"]),
        gzipped=stack.stack_id % 2 == 1,
    )
    contents = image_contents(picture, stem, SKYCELL_SUFFIXES, dump, to_bytes=compressed_bytes)
    row = rows.stack_skyfile(stack.stack_id, picture, sender_path(stack.path, stack.stack_id))
    return Component(stack.skycell, stack.folder, stem, contents, row)


def sky_catalogue(stack: Stack, sky_id: int, size: int) -> Component:
    """Return the sources found on the stacks of a sky cell."""
    stem = stack.stem("sky", sky_id)
    path = f"{stack.destdir}/{stack.folder}/{stem}"
    picture = stack_picture(stack.exposures, stack.cell, size)
    dump = ConfigDump(
        "psphotStack", [("PSPHOT.INPUT", f"{stack.path}.fits")], _outputs("PSPHOT", path, [".cmf"])
    )
    row = rows.sky_result(sky_id, picture, sender_path(path))
    return Component(stack.skycell, stack.folder, stem, catalogue_contents(picture, stem, dump), row)


def skycal_catalogue(stack: Stack, sky_id: int, skycal_id: int, size: int) -> Component:
    """Return the sources of a sky cell, calibrated."""
    stem = stack.stem("cal", skycal_id)
    folder = f"{stack.destdir}/{stack.folder}"
    picture = stack_picture(stack.exposures, stack.cell, size)
    sources = f"{folder}/{stack.stem('sky', sky_id)}.cmf"
    dump = ConfigDump(
        "psastro", [("PSASTRO.INPUT", sources)], _outputs("PSASTRO", f"{folder}/{stem}", [".cmf"])
    )
    row = rows.skycal_result(skycal_id, picture, sender_path(f"{folder}/{stem}"))
    return Component(stack.skycell, stack.folder, stem, catalogue_contents(picture, stem, dump), row)


def forced_catalogue(stack: Stack, ff_id: int, exposure: Exposure, size: int) -> Component:
    """Return the sources of a sky cell, measured at their places in the warp of one exposure."""
    warp_id = exposure.ids["warp"]
    stem = f"{stack.stem('ff', ff_id)}.{warp_id}"
    path = f"{stack.destdir}/{stack.folder}/{stem}"
    picture = warp_picture(exposure, stack.cell, size)
    dump = ConfigDump(
        "psphotFullForce", [("PSPHOT.SOURCES", f"{stack.path}.cmf")], _outputs("PSPHOT", path, [".cmf"])
    )
    row = rows.forced_result(ff_id, warp_id, sender_path(path))
    name = f"{warp_id}.{stack.skycell}"
    return Component(name, stack.folder, stem, catalogue_contents(picture, stem, dump), row)


def forced_averages(stack: Stack, ff_id: int, size: int) -> Component:
    """Return the averages of the forced measurements over all warps."""
    stem = stack.stem("ff", ff_id)
    path = f"{stack.destdir}/{stack.folder}/{stem}"
    picture = stack_picture(stack.exposures, stack.cell, size)
    dump = ConfigDump("psphotFullForceSummary", [], _outputs("PSPHOT", path, [".cmf"]))
    row = rows.forced_summary(ff_id, sender_path(path))
    return Component("summary", stack.folder, stem, catalogue_contents(picture, stem, dump), row)


def stack_overview(stacks: Sequence[Stack], sass_id: int, size: int) -> Component:
    """Return the picture of the stacks of one filter in a projection cell."""
    first, field = stacks[0], stacks[0].first.field
    stem = f"{field.tessellation}.{field.projection_cell}.stksum.{sass_id}"
    row = rows.stack_summary(
        sass_id, first.first, sender_path(f"{first.destdir}/{field.tessellation}/{stem}")
    )
    picture = overview_picture(first.exposures, [stack.cell for stack in stacks], size)
    contents = overview_contents(picture, f"{stem}.b1.fits")
    return Component(field.projection_cell, field.tessellation, stem, contents, row)


def _raw_stem(exposure: Exposure, class_id: str) -> str:
    return f"{exposure.name}.ota{class_id[2:]}"


def _stem(exposure: Exposure, stage: str, code: str) -> str:
    return f"{exposure.base}.{code}.{exposure.ids[stage]}"


def _outputs(role: str, path: str, suffixes: Sequence[str]) -> list[File]:
    return [(f"{role}.OUTPUT", path + suffix) for suffix in suffixes]
