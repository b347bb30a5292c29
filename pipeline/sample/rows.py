"""Rows of the processing database of the sender, one function per table (protocol notes, "dbinfo").

Right ascensions and declinations are radians, other angles degrees, times UTC, counts those of the images.
Paths are those of the sender.
"""

import math

from pipeline.sample.config_dump import sender_path
from pipeline.sample.contents import Picture
from pipeline.sample.images import detected
from pipeline.sample.records import Row
from pipeline.sample.sky import Field, generator
from pipeline.sample.survey import EXPOSURE_TIME, Exposure, mjd

NO_OVERLAP = 8007
"""Quality of a sky cell that the exposure does not reach: the archive has zero bytes."""

FULL, CLEANED = "full", "cleaned"
"""States of a run, and of the data of a component: with its images, or after they were deleted."""

KEYS = {
    "raw": "exp_id",
    "chip": "chip_id",
    "camera": "cam_id",
    "fake": "fake_id",
    "warp": "warp_id",
    "diff": "diff_id",
}
"""Key of the run of each stage."""

_UNMEASURED: Row = [("bg", "F64", None), ("bg_stdev", "F64", None)]


def raw_exp(exposure: Exposure) -> Row:
    """Return the row of an exposure: pointing, time and conditions."""
    conditions = exposure.conditions
    altitude, azimuth = exposure.altitude_azimuth
    noise = exposure.quality.noise
    return [
        *_identity(exposure),
        ("exp_type", "STR", "OBJECT"),
        ("filelevel", "STR", "CHIP"),
        ("workdir", "STR", sender_path(f"gpc1/{exposure.start:%Y%m%d}")),
        ("reduction", "STR", None),
        ("filter", "STR", exposure.filter),
        ("comment", "STR", f"{exposure.field.name} visit {exposure.index // 8 + 1} of the season"),
        ("obs_mode", "STR", "MD"),
        ("obs_group", "STR", exposure.data_group),
        ("object", "STR", exposure.field.name),
        ("airmass", "F32", exposure.airmass),
        ("ra", "F64", math.radians(conditions.ra)),
        ("decl", "F64", math.radians(conditions.decl)),
        ("exp_time", "F32", EXPOSURE_TIME),
        ("sat_pixel_frac", "F32", 0.0),
        ("bg", "F64", conditions.sky),
        ("bg_stdev", "F64", round(noise, 4)),
        ("bg_mean_stdev", "F64", round(noise / 100, 6)),
        ("alt", "F64", altitude),
        ("az", "F64", azimuth),
        ("ccd_temp", "F32", conditions.ccd_temperature),
        ("posang", "F64", 0.0),
        ("hostname", "STR", None),
        ("fault", "S16", 0),
    ]


def raw_imfile(exposure: Exposure, class_id: str, path: str, turn: int) -> Row:
    """Return the row of a chip as the camera wrote it; ``path`` is that of the file below the volume."""
    return [
        *_identity(exposure),
        ("class_id", "STR", class_id),
        ("tmp_class_id", "STR", f"ota{class_id[2:]}"),
        ("uri", "STR", sender_path(path, turn)),
        ("exp_type", "STR", "OBJECT"),
        ("filter", "STR", exposure.filter),
        ("bg", "F64", exposure.conditions.sky),
        ("bg_stdev", "F64", round(exposure.quality.noise, 4)),
        ("ccd_temp", "F32", exposure.conditions.ccd_temperature),
        ("video_cells", "BOOL", False),
        ("burntool_state", "S16", -14),
        ("quality", "S16", 0),
        ("fault", "S16", 0),
    ]


def exposure_run(stage: str, parent: str | None, exposure: Exposure, destdir: str, state: str) -> Row:
    """Return the row of a run on one exposure: its key, then that of the run of the preceding stage."""
    keys: Row = [(KEYS[each], "S64", exposure.ids[each]) for each in (stage, parent) if each]
    return [*keys, *_order(exposure, destdir, state), ("end_stage", "STR", "warp")]


def stack_run(stack_id: int, skycell: str, exposure: Exposure, destdir: str) -> Row:
    """Return the row of the run of a stack; ``exposure`` is the first of its exposures."""
    own: Row = [("stack_id", "S64", stack_id), ("skycell_id", "STR", skycell)]
    return [*own, *_order(exposure, destdir), ("filter", "STR", exposure.filter)]


def sky_run(own: Row, exposure: Exposure, destdir: str) -> Row:
    """Return the row of a run on the stacks of a sky cell; ``own`` are its keys."""
    return [*own, *_order(exposure, destdir)]


def measured(picture: Picture) -> Row:
    """Return the columns measured on an image: sky, width of stars (pixels), number of stars."""
    quality = picture.quality
    stars = len(detected(picture.frame, quality, picture.stars).mag)
    return [
        ("bg", "F64", round(quality.sky, 3)),
        ("bg_stdev", "F64", round(quality.noise, 4)),
        ("fwhm_major", "F32", round(quality.fwhm * 1.03, 3)),
        ("fwhm_minor", "F32", round(quality.fwhm * 0.97, 3)),
        ("n_stars", "S32", stars),
    ]


def chip_imfile(
    exposure: Exposure, class_id: str, picture: Picture, uri: str, path_base: str, state: str
) -> Row:
    """Return the row of a processed chip; the paths are those of the sender."""
    return [
        ("chip_id", "S64", exposure.ids["chip"]),
        ("exp_id", "S64", exposure.ids["raw"]),
        ("class_id", "STR", class_id),
        ("data_state", "STR", state),
        ("uri", "STR", uri),
        ("path_base", "STR", path_base),
        *measured(picture),
        ("ap_resid", "F32", float("nan")),
        *_outcome(),
    ]


def cam_exp(exposure: Exposure, picture: Picture, stars: int, path_base: str) -> Row:
    """Return the row of the astrometry and photometry of a whole exposure."""
    random = generator(exposure.seed, "calibration", exposure.name)
    scatter = [round(float(value), 5) for value in random.uniform(0.02, 0.06, 3)]
    return [
        ("cam_id", "S64", exposure.ids["camera"]),
        ("chip_id", "S64", exposure.ids["chip"]),
        ("uri", "STR", None),
        ("path_base", "STR", path_base),
        *measured(picture)[:-1],
        ("zpt_obs", "F32", exposure.conditions.zero_point),
        ("zpt_stdev", "F32", scatter[0]),
        ("n_stars", "S32", stars),
        ("n_astrom", "S32", stars - stars // 10),
        ("sigma_ra", "F32", scatter[1]),
        ("sigma_dec", "F32", scatter[2]),
        *_outcome(),
    ]


def fake_imfile(exposure: Exposure, class_id: str, path_base: str) -> Row:
    """Return the row of a chip with artificial stars, which measure how many stars are detected."""
    return [
        ("fake_id", "S64", exposure.ids["fake"]),
        ("class_id", "STR", class_id),
        ("uri", "STR", None),
        ("path_base", "STR", path_base),
        ("dtime_fake", "F32", 3.25),
        *_outcome(),
    ]


def warp_skyfile(exposure: Exposure, skycell: str, picture: Picture, path_base: str, reached: bool) -> Row:
    """Return the row of a sky cell of an exposure."""
    return [
        ("warp_id", "S64", exposure.ids["warp"]),
        ("skycell_id", "STR", skycell),
        ("tess_id", "STR", exposure.field.tessellation),
        ("data_state", "STR", FULL),
        ("uri", "STR", None),
        ("path_base", "STR", path_base),
        *(measured(picture)[:2] if reached else _UNMEASURED),
        ("good_frac", "F32", 0.998 if reached else 0.0),
        *_outcome(0 if reached else NO_OVERLAP),
    ]


def warp_skycell_map(exposure: Exposure, skycell: str, class_id: str) -> Row:
    """Return the row that maps a chip to a sky cell."""
    return [
        ("warp_id", "S64", exposure.ids["warp"]),
        ("skycell_id", "STR", skycell),
        ("tess_id", "STR", exposure.field.tessellation),
        ("class_id", "STR", class_id),
        ("fault", "S16", 0),
    ]


def stack_skyfile(stack_id: int, picture: Picture, path_base: str) -> Row:
    """Return the row of the average of several exposures in a sky cell."""
    return [
        ("stack_id", "S64", stack_id),
        ("uri", "STR", None),
        ("path_base", "STR", path_base),
        *measured(picture)[:2],
        ("good_frac", "F32", 0.999),
        ("mjd_obs", "F64", round(mjd(picture.observation.start), 6)),
        *_outcome(),
    ]


def stack_input(stack_id: int, exposure: Exposure) -> Row:
    """Return the row of an exposure that is part of a stack."""
    return [("stack_id", "S64", stack_id), ("warp_id", "S64", exposure.ids["warp"])]


def diff_skyfile(diff_id: int, skycell: str, picture: Picture, path_base: str) -> Row:
    """Return the row of the difference between an exposure, or a stack, and a stack in a sky cell."""
    return [
        ("diff_id", "S64", diff_id),
        ("skycell_id", "STR", skycell),
        ("data_state", "STR", FULL),
        ("uri", "STR", None),
        ("path_base", "STR", path_base),
        ("bg", "F64", 0.0),
        ("bg_stdev", "F64", round(picture.quality.noise, 4)),
        ("sources", "S32", len(detected(picture.frame, picture.quality, picture.stars).mag)),
        ("good_frac", "F32", 0.995),
        *_outcome(),
    ]


def diff_input(
    diff_id: int,
    field: Field,
    skycell: str,
    reference_id: int,
    warp1: int | None = None,
    stack1: int | None = None,
) -> Row:
    """Return the row that names the warp or stack of a difference, and the reference stack."""
    return [
        ("diff_id", "S64", diff_id),
        ("skycell_id", "STR", skycell),
        ("warp1", "S64", warp1),
        ("stack1", "S64", stack1),
        ("warp2", "S64", None),
        ("stack2", "S64", reference_id),
        ("tess_id", "STR", field.tessellation),
    ]


def sky_result(sky_id: int, picture: Picture, path_base: str) -> Row:
    """Return the row of the sources found on the stacks of a sky cell."""
    return [
        ("sky_id", "S64", sky_id),
        ("path_base", "STR", path_base),
        ("sources", "S32", len(detected(picture.frame, picture.quality, picture.stars).mag)),
        ("good_frac", "F32", 0.999),
        *_outcome(),
    ]


def skycal_result(skycal_id: int, picture: Picture, path_base: str) -> Row:
    """Return the row of the calibration of the sources of a sky cell."""
    return [
        ("skycal_id", "S64", skycal_id),
        ("path_base", "STR", path_base),
        *measured(picture)[2:],
        ("zpt_obs", "F32", round(picture.quality.zero_point, 4)),
        *_outcome(),
    ]


def forced_result(ff_id: int, warp_id: int, path_base: str) -> Row:
    """Return the row of the sources of a sky cell, measured at their places in one warp."""
    return [
        ("ff_id", "S64", ff_id),
        ("warp_id", "S64", warp_id),
        ("path_base", "STR", path_base),
        *_outcome(),
    ]


def forced_summary(ff_id: int, path_base: str) -> Row:
    """Return the row of the averages over all warps."""
    return [("ff_id", "S64", ff_id), ("path_base", "STR", path_base), *_outcome()]


def stack_association(sass_id: int, exposure: Exposure) -> Row:
    """Return the row of the stacks of one filter in a projection cell; ``exposure`` is one of theirs."""
    return [
        ("sass_id", "S64", sass_id),
        ("data_group", "STR", exposure.data_group),
        ("projection_cell", "STR", exposure.field.projection_cell),
        ("tess_id", "STR", exposure.field.tessellation),
        ("filter", "STR", exposure.filter),
    ]


def stack_summary(sass_id: int, exposure: Exposure, path_base: str) -> Row:
    """Return the row of the picture of all stacks in a projection cell."""
    return [
        ("sass_id", "S64", sass_id),
        ("projection_cell", "STR", exposure.field.projection_cell),
        ("path_base", "STR", path_base),
    ]


def _identity(exposure: Exposure) -> Row:
    return [
        ("exp_id", "S64", exposure.ids["raw"]),
        ("exp_name", "STR", exposure.name),
        ("camera", "STR", "GPC1"),
        ("telescope", "STR", "PS1"),
        ("dateobs", "UTC", exposure.start),
    ]


def _order(exposure: Exposure, destdir: str, state: str = FULL) -> Row:
    return [
        ("state", "STR", state),
        ("workdir", "STR", sender_path(destdir)),
        ("label", "STR", f"{exposure.field.name}.nightlyscience"),
        ("data_group", "STR", exposure.data_group),
        ("dist_group", "STR", exposure.field.name),
        ("reduction", "STR", None),
        ("tess_id", "STR", f"{sender_path('gpc1/tess/')}{exposure.field.tessellation}"),
        ("note", "STR", None),
    ]


def _outcome(quality: int = 0) -> Row:
    return [("quality", "S16", quality), ("fault", "S16", 0)]
