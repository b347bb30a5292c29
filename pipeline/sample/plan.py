"""Size of a sample release: as planned, and as written."""

from dataclasses import dataclass

from pipeline.errors import SettingsError
from pipeline.sample.sky import CHIP_NAMES
from pipeline.units import as_count, as_size


@dataclass(frozen=True)
class ReleasePlan:
    """Size of a survey release. The same plan gives the same bytes on one machine.

    ``exposures``: new exposures, each through raw, chip, camera, fake, warp and diff.
    ``chips``: detector chips of an exposure, at most 60. ``skycells``: sky cells that each exposure is
    warped to, stacked and subtracted on, at most 60. ``image_size``: pixels on a side of every image.
    ``stamps``: requests in the postage-stamp product. ``seed``: of noise, stars and weather.
    """

    exposures: int = 4
    chips: int = 4
    skycells: int = 3
    image_size: int = 192
    stamps: int = 2
    seed: int = 1

    def __post_init__(self) -> None:
        _check("exposures", self.exposures, 0, 9000)
        _check("chips", self.chips, 1, len(CHIP_NAMES))
        _check("skycells", self.skycells, 1, len(CHIP_NAMES))
        _check("image_size", self.image_size, 32, 20_000)
        _check("stamps", self.stamps, 0, 9000)
        _check("seed", self.seed, 0, 2**32 - 1)


@dataclass(frozen=True)
class ReleaseSummary:
    """Numbers of filesets and files written, and their bytes on disk without the listings."""

    filesets: int = 0
    files: int = 0
    bytes: int = 0

    def __add__(self, other: "ReleaseSummary") -> "ReleaseSummary":
        return ReleaseSummary(
            self.filesets + other.filesets, self.files + other.files, self.bytes + other.bytes
        )

    def __str__(self) -> str:
        return f"{as_count(self.filesets, 'fileset')}, {as_count(self.files, 'file')}, {as_size(self.bytes)}"


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise SettingsError(f"{name}: expected {least} to {most}, got {value}; nothing was written")
