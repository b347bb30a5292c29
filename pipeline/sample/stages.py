"""Processing stages: each run as a distribution fileset.

The rows of a run have the keys of all preceding runs: rawExp.exp_id, chipRun.chip_id,
camRun.cam_id, fakeRun.fake_id and warpRun.warp_id down to stacks and differences.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pipeline.sample import components as parts
from pipeline.sample import rows
from pipeline.sample.components import Component, Stack
from pipeline.sample.config_dump import sender_path
from pipeline.sample.contents import chip_picture
from pipeline.sample.records import Row, Table
from pipeline.sample.sky import CHIP_NAMES
from pipeline.sample.survey import Exposure

_RUNS = {
    "chip": ("chipRun", "raw"),
    "camera": ("camRun", "chip"),
    "fake": ("fakeRun", "camera"),
    "warp": ("warpRun", "fake"),
    "diff": ("diffRun", None),
}
"""Run table of each stage, and the stage whose run that table refers to."""


@dataclass(frozen=True)
class Distribution:
    """Run as it is distributed. ``made`` is the time of all its files, UTC."""

    stage: str
    stage_id: int
    exp_name: str | None
    data_group: str
    filter: str
    destdir: str
    made: datetime
    tables: Sequence[Table]
    components: Sequence[Component]


@dataclass(frozen=True)
class Processing:
    """Processing of exposures for a release, on a number of chips and sky cells.

    ``size`` is pixels on a side of every image. ``chip_state`` is that of all processed chips, "full" or
    "cleaned", ``housekeeping`` the number of cards about the state of the camera in their headers.
    """

    release: str
    chips: int
    skycells: int
    size: int
    chip_state: str = rows.FULL
    housekeeping: int = 0

    def raw(self, exposure: Exposure) -> Distribution:
        """Return the exposure as the camera wrote it: destdir ``none``, a folder per exposure."""
        chips = [parts.raw_chip(exposure, chip, self.size) for chip in range(self.chips)]
        tables = [Table("rawExp", [rows.raw_exp(exposure)]), _row_table("rawImfile", chips)]
        return _of_exposure("raw", exposure, "none", tables, chips)

    def chip(self, exposure: Exposure) -> Distribution:
        """Return the chips without the camera's signature: image, variance, mask and stars."""
        destdir = self.destdir(exposure)
        pictures = [chip_picture(exposure, chip, self.size) for chip in range(self.chips)]
        chips = [
            parts.processed_chip(
                exposure, chip, replace(picture, housekeeping=self.housekeeping), destdir, self.chip_state
            )
            for chip, picture in enumerate(pictures)
        ]
        tables = [_row_table("chipProcessedImfile", chips)]
        return self._run("chip", exposure, tables, chips, self.chip_state)

    def camera(self, exposure: Exposure) -> Distribution:
        """Return the stars of the whole exposure, calibrated."""
        whole = [parts.camera_exposure(exposure, self.chips, self.size, self.destdir(exposure))]
        return self._run("camera", exposure, [_row_table("camProcessedExp", whole)], whole)

    def fake(self, exposure: Exposure) -> Distribution:
        """Return the chips with artificial stars."""
        destdir = self.destdir(exposure)
        chips = [parts.fake_chip(exposure, chip, self.size, destdir) for chip in range(self.chips)]
        return self._run("fake", exposure, [_row_table("fakeProcessedImfile", chips)], chips)

    def warp(self, exposure: Exposure) -> Distribution:
        """Return the exposure resampled to the sky cells."""
        destdir = self.destdir(exposure)
        cells = [
            parts.warp_skycell(exposure, cell, self.skycells, self.size, destdir)
            for cell in range(self.skycells)
        ]
        covered = [
            rows.warp_skycell_map(exposure, cell.name, class_id)
            for cell, class_id in zip(cells, CHIP_NAMES[: self.chips], strict=False)
            if cell.contents
        ]
        tables = [_row_table("warpSkyfile", cells), Table("warpSkyCellMap", covered)]
        return self._run("warp", exposure, tables, cells)

    def diff(self, exposure: Exposure, stacks: Sequence[Stack]) -> Distribution:
        """Return the exposure minus the stacks of its filter, in the sky cells that the exposure reaches."""
        destdir = self.destdir(exposure)
        used = [stack for stack in stacks if exposure in stack.exposures]
        cells = [parts.diff_skycell(exposure, stack, self.size, destdir) for stack in used]
        inputs = [
            rows.diff_input(
                exposure.ids["diff"],
                exposure.field,
                stack.skycell,
                stack.stack_id,
                warp1=exposure.ids["warp"],
            )
            for stack in used
        ]
        tables = [_row_table("diffSkyfile", cells), Table("diffInputSkyfile", inputs)]
        return self._run("diff", exposure, tables, cells)

    def stack(self, stack: Stack) -> Distribution:
        """Return the average of the exposures in a sky cell."""
        cell = parts.stack_skycell(stack, self.size, self._warps(stack))
        run = rows.stack_run(stack.stack_id, stack.skycell, stack.first, stack.destdir)
        inputs = [rows.stack_input(stack.stack_id, exposure) for exposure in stack.exposures]
        tables = [
            Table("stackRun", [run]),
            _row_table("stackSumSkyfile", [cell]),
            Table("stackInputSkyfile", inputs),
        ]
        return _of_stack("stack", stack.stack_id, stack, tables, [cell])

    def stack_diff(self, stack: Stack, reference: Stack, diff_id: int) -> Distribution:
        """Return the stack minus the reference."""
        cell = parts.stack_difference(stack, reference, diff_id, self.size)
        inputs = rows.diff_input(
            diff_id, stack.first.field, stack.skycell, reference.stack_id, stack1=stack.stack_id
        )
        tables = [
            Table("diffRun", [rows.sky_run([("diff_id", "S64", diff_id)], stack.first, stack.destdir)]),
            _row_table("diffSkyfile", [cell]),
            Table("diffInputSkyfile", [inputs]),
        ]
        return _of_stack("SSdiff", diff_id, stack, tables, [cell])

    def sky(self, stack: Stack, sky_id: int) -> Distribution:
        """Return the sources found on the stack."""
        cell = parts.sky_catalogue(stack, sky_id, self.size)
        key: Row = [("sky_id", "S64", sky_id)]
        tables = [
            Table("staticskyRun", [rows.sky_run(key, stack.first, stack.destdir)]),
            _row_table("staticskyResult", [cell]),
            Table("staticskyInput", [[*key, ("stack_id", "S64", stack.stack_id)]]),
        ]
        return _of_stack("sky", sky_id, stack, tables, [cell])

    def skycal(self, stack: Stack, sky_id: int, skycal_id: int) -> Distribution:
        """Return the sources found on the stack, calibrated."""
        cell = parts.skycal_catalogue(stack, sky_id, skycal_id, self.size)
        keys: Row = [
            ("skycal_id", "S64", skycal_id),
            ("sky_id", "S64", sky_id),
            ("stack_id", "S64", stack.stack_id),
        ]
        run = rows.sky_run(keys, stack.first, stack.destdir)
        tables = [Table("skycalRun", [run]), _row_table("skycalResult", [cell])]
        return _of_stack("skycal", skycal_id, stack, tables, [cell])

    def forced(self, stack: Stack, skycal_id: int, ff_id: int) -> Distribution:
        """Return the sources found on the stack, measured at their places in each warp."""
        warps = [parts.forced_catalogue(stack, ff_id, each, self.size) for each in stack.exposures]
        summary = parts.forced_averages(stack, ff_id, self.size)
        sources = f"{stack.destdir}/{stack.folder}/{stack.stem('cal', skycal_id)}"
        keys: Row = [
            ("ff_id", "S64", ff_id),
            ("skycal_id", "S64", skycal_id),
            ("sources_path_base", "STR", sender_path(sources)),
        ]
        inputs: list[Row] = [
            [("ff_id", "S64", ff_id), ("warp_id", "S64", each.ids["warp"])] for each in stack.exposures
        ]
        tables = [
            Table("fullForceRun", [rows.sky_run(keys, stack.first, stack.destdir)]),
            Table("fullForceInput", inputs),
            _row_table("fullForceResult", warps),
            _row_table("fullForceSummary", [summary]),
        ]
        return _of_stack("ff", ff_id, stack, tables, [*warps, summary])

    def stack_summary(self, stacks: Sequence[Stack], sass_id: int) -> Distribution:
        """Return the picture of the stacks that have the filter of the first one."""
        first = stacks[0]
        alike = [stack for stack in stacks if stack.first.filter == first.first.filter]
        picture = parts.stack_overview(alike, sass_id, self.size)
        members: list[Row] = [
            [("sass_id", "S64", sass_id), ("stack_id", "S64", stack.stack_id)] for stack in alike
        ]
        tables = [
            Table("stackAssociation", [rows.stack_association(sass_id, first.first)]),
            Table("stackAssociationMap", members),
            _row_table("stackSummary", [picture]),
        ]
        return _of_stack("stack_summary", sass_id, first, tables, [picture])

    def destdir(self, exposure: Exposure) -> str:
        """Return the folder of all products of the exposures of a night."""
        return f"gpc1/{self.release}/{exposure.start:%Y/%m/%d}"

    def stacks(self, exposures: Sequence[Exposure], new_id: Callable[[str], int]) -> list[Stack]:
        """Return the stacks of the exposures: one for each filter and sky cell that any exposure reaches."""
        sets = [
            (cell, [each for each in exposures if each.filter == name and self._reaches(each, cell)])
            for name in sorted({exposure.filter for exposure in exposures})
            for cell in range(self.skycells)
        ]
        return [
            Stack(new_id("stack"), cell, inputs, f"gpc1/{self.release}") for cell, inputs in sets if inputs
        ]

    def last_night(self, stacks: Sequence[Stack], new_id: Callable[[str], int]) -> tuple[Stack, Stack] | None:
        """Return a stack of the last night alone, and the stack of more nights that includes it, if any."""
        for whole in stacks:
            last = [each for each in whole.exposures if each.night == whole.exposures[-1].night]
            if len(last) < len(whole.exposures):
                return replace(whole, stack_id=new_id("stack"), exposures=last), whole
        return None

    def _reaches(self, exposure: Exposure, cell: int) -> bool:
        return parts.reaches(exposure, cell, self.skycells)

    def _warps(self, stack: Stack) -> list[str]:
        return [
            f"{self.destdir(exposure)}/{exposure.base}/{exposure.base}.wrp.{exposure.ids['warp']}.{stack.skycell}.fits"
            for exposure in stack.exposures
        ]

    def _run(
        self,
        stage: str,
        exposure: Exposure,
        tables: Sequence[Table],
        components: Sequence[Component],
        state: str = rows.FULL,
    ) -> Distribution:
        run_table, parent = _RUNS[stage]
        run = rows.exposure_run(stage, parent, exposure, self.destdir(exposure), state)
        return _of_exposure(
            stage, exposure, self.destdir(exposure), [Table(run_table, [run]), *tables], components
        )


def _row_table(name: str, components: Sequence[Component]) -> Table:
    return Table(name, [component.row for component in components])


def _of_exposure(
    stage: str, exposure: Exposure, destdir: str, tables: Sequence[Table], components: Sequence[Component]
) -> Distribution:
    return Distribution(
        stage,
        exposure.ids[stage],
        exposure.name,
        exposure.data_group,
        exposure.filter,
        destdir,
        exposure.start,
        tables,
        components,
    )


def _of_stack(
    stage: str, run_id: int, stack: Stack, tables: Sequence[Table], components: Sequence[Component]
) -> Distribution:
    first = stack.first
    return Distribution(
        stage, run_id, None, first.data_group, first.filter, stack.destdir, first.start, tables, components
    )
