"""Contents of the archives, stage by stage: images, catalogues and config dumps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.sample.archive import Member
from pipeline.sample.config_dump import ConfigDump
from pipeline.sample.headers import Card, Observation
from pipeline.sample.images import (
    Planes,
    catalogue_bytes,
    image_bytes,
    mosaic_bytes,
    raw_counts,
    render,
    star_table,
)
from pipeline.sample.sky import CHIP_NAMES, Frame, Stars, generator, skycell_frame
from pipeline.sample.survey import EXPOSURE_TIME, Exposure, Quality, quality_of

TRANSIENTS_PER_TILE = 3

Maker = Callable[[], Iterator[Member]]
"""Function that yields the members of an archive, one at a time, while the archive is written."""


@dataclass(frozen=True)
class Picture:
    """Square of sky as it was taken: all that determines pixels and header."""

    frame: Frame
    quality: Quality
    stars: Stars
    observation: Observation
    seed: int
    name: str

    def planes(self) -> Planes:
        """Return image, variance and mask."""
        return render(self.frame, self.quality, self.stars, generator(self.seed, "pixels", self.name))

    def cards(self) -> list[Card]:
        """Return the header cards, without the WCS."""
        return [
            *self.observation.cards(),
            ("BUNIT", "count", ""),
            ("NINPUTS", self.quality.images, "Exposures averaged"),
            ("FWHM", self.quality.fwhm, "[pixel] Width of stars"),
            ("ZPT_OBS", round(self.quality.zero_point, 4), "[mag] One count"),
        ]

    def catalogue(self) -> bytes:
        """Return the catalogue of stars, a FITS file."""
        table = star_table(self.frame, self.quality, self.stars, generator(self.seed, "catalogue", self.name))
        return catalogue_bytes([("SkyChip", self.frame, table)], self.cards())


def chip_picture(exposure: Exposure, chip: int, size: int) -> Picture:
    """Return the image that a chip took."""
    return Picture(
        exposure.chip_frame(chip, size),
        exposure.quality,
        exposure.stars(chip, size),
        observation_of([exposure]),
        exposure.seed,
        f"{exposure.name}.{CHIP_NAMES[chip]}",
    )


def warp_picture(exposure: Exposure, cell: int, size: int) -> Picture:
    """Return an exposure resampled to a sky cell."""
    return stack_picture([exposure], cell, size)


def stack_picture(exposures: Sequence[Exposure], cell: int, size: int) -> Picture:
    """Return the average of the exposures in a sky cell."""
    first = exposures[0]
    names = "+".join(exposure.name for exposure in exposures)
    return Picture(
        skycell_frame(first.field, cell, size),
        quality_of(exposures),
        first.stars(cell, size),
        observation_of(exposures),
        first.seed,
        f"{names}.{first.field.skycell(cell)}",
    )


def diff_picture(exposure: Exposure, cell: int, size: int) -> Picture:
    """Return the sources of an exposure that the stack of the sky cell lacks: a few transients."""
    warp = warp_picture(exposure, cell, size)
    random = generator(exposure.seed, "transients", warp.name)
    margin = size / 8
    x, y = random.uniform(margin, size - 1 - margin, (2, TRANSIENTS_PER_TILE))
    transients = Stars(*warp.frame.places(x, y), random.uniform(17.0, 20.0, TRANSIENTS_PER_TILE))
    return replace(warp, stars=transients, name=f"{warp.name}.diff")


def observation_of(exposures: Sequence[Exposure]) -> Observation:
    """Return the values for the headers of images of the exposures."""
    first = exposures[0]
    return Observation(
        target=first.field.name,
        filter=first.filter,
        start=first.start,
        exposure=EXPOSURE_TIME * len(exposures),
        airmass=round(float(np.mean([exposure.airmass for exposure in exposures])), 5),
    )


def raw_contents(picture: Picture, extension: str, stem: str, dump: ConfigDump) -> Maker:
    """Return the maker of the counts of a chip as the camera wrote them."""

    def members() -> Iterator[Member]:
        counts = raw_counts(picture.planes())
        images = [(extension, counts, picture.frame)]
        yield Member(f"{stem}.fits", mosaic_bytes(images, picture.observation.cards()))
        yield Member(f"{stem}.mdc", dump.content())

    return members


def image_contents(
    picture: Picture, stem: str, suffixes: Sequence[str], dump: ConfigDump, level: float = 0.0
) -> Maker:
    """Return the maker of image, variance and mask (named by the ``suffixes``), catalogue and config dump.

    ``level`` counts are subtracted from the image: the sky, where a template was subtracted.
    """

    def members() -> Iterator[Member]:
        planes = picture.planes()
        np.subtract(planes.image, round(level * 8) / 8, out=planes.image)
        images: list[NDArray[Any]] = [planes.image, planes.variance, planes.mask]
        for suffix, pixels in zip(suffixes, images, strict=True):
            yield Member(stem + suffix, image_bytes(pixels, picture.cards(), picture.frame))
        yield Member(f"{stem}.cmf", picture.catalogue())
        yield Member(f"{stem}.mdc", dump.content())

    return members


def catalogue_contents(picture: Picture, stem: str, dump: ConfigDump) -> Maker:
    """Return the maker of a catalogue without an image, and of its config dump."""

    def members() -> Iterator[Member]:
        yield Member(f"{stem}.cmf", picture.catalogue())
        yield Member(f"{stem}.mdc", dump.content())

    return members


def camera_contents(pictures: Sequence[Picture], stem: str, dump: ConfigDump) -> Maker:
    """Return the maker of one file with the stars of all chips of an exposure, and of its config dump."""

    def members() -> Iterator[Member]:
        tables = [
            (
                name,
                each.frame,
                star_table(
                    each.frame, each.quality, each.stars, generator(each.seed, "astrometry", each.name)
                ),
            )
            for name, each in zip(CHIP_NAMES, pictures, strict=False)
        ]
        yield Member(f"{stem}.smf", catalogue_bytes(tables, pictures[0].cards()))
        yield Member(f"{stem}.mdc", dump.content())

    return members
