"""Contents of the archives, stage by stage: images, catalogues and config dumps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.sample.archive import Member
from pipeline.sample.config_dump import ConfigDump
from pipeline.sample.headers import (
    Card,
    Observation,
    Skycell,
    cd_cards,
    focal_plane_cards,
    housekeeping_cards,
    image_cards,
    mask_cards,
    mosaic_cards,
    pc_cards,
    variance_cards,
)
from pipeline.sample.images import (
    Planes,
    catalogue_bytes,
    image_bytes,
    mosaic_bytes,
    raw_counts,
    render,
    star_table,
    with_cards,
)
from pipeline.sample.sky import CHIP_NAMES, Frame, Stars, generator, overview_frame, skycell_frame
from pipeline.sample.survey import EXPOSURE_TIME, Exposure, Quality, quality_of

TRANSIENTS_PER_TILE = 3
OVERVIEW_SIZE = 64
"""Pixels on a side of the picture of a projection cell."""
_OVERVIEW_FWHM = 2.0

Maker = Callable[[], Iterator[Member]]
"""Function that yields the members of an archive, one at a time, while the archive is written."""


@dataclass(frozen=True)
class Picture:
    """Square of sky as it was taken: all that determines pixels and header.

    ``wcs`` is the notation of the WCS; ``skycell`` is that of an image in the layout of sky cells;
    ``housekeeping`` is the number of cards about the state of the camera.
    """

    frame: Frame
    quality: Quality
    stars: Stars
    observation: Observation
    seed: int
    name: str
    wcs: Callable[[Frame], list[Card]]
    skycell: Skycell | None = None
    housekeeping: int = 0

    def planes(self) -> Planes:
        """Return image, variance and mask."""
        return render(self.frame, self.quality, self.stars, generator(self.seed, "pixels", self.name))

    def cards(self) -> list[Card]:
        """Return the header cards that tell how the image was taken."""
        if self.skycell:
            return self.observation.skycell_cards(self.skycell)
        return [*self.observation.camera_cards(), *self.observation.chip_quality_cards()]

    def image_cards(self, own: list[Card]) -> list[Card]:
        """Return the header cards of an image of a kind that has ``own`` cards."""
        return [*self.cards(), *own, *self.wcs(self.frame)]

    def catalogue(self) -> bytes:
        """Return the catalogue of stars, a FITS file."""
        table = star_table(self.frame, self.quality, self.stars, generator(self.seed, "catalogue", self.name))
        header = [*_extent(self.frame), *self.wcs(self.frame)]
        return catalogue_bytes([("SkyChip", header, table)], self.cards())


def chip_picture(exposure: Exposure, chip: int, size: int) -> Picture:
    """Return the image that a chip took."""
    return Picture(
        exposure.chip_frame(chip, size),
        exposure.quality,
        exposure.stars(chip, size),
        observation_of([exposure]),
        exposure.seed,
        f"{exposure.name}.{CHIP_NAMES[chip]}",
        pc_cards if chip % 2 else cd_cards,
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
        pc_cards,
        Skycell(first.field.tessellation, first.field.skycell(cell)),
    )


def diff_picture(exposures: Sequence[Exposure], cell: int, size: int) -> Picture:
    """Return the sources of exposures that the stack of the sky cell lacks: a few transients."""
    new = stack_picture(exposures, cell, size)
    random = generator(new.seed, "transients", new.name)
    margin = size / 8
    x, y = random.uniform(margin, size - 1 - margin, (2, TRANSIENTS_PER_TILE))
    transients = Stars(*new.frame.places(x, y), random.uniform(17.0, 20.0, TRANSIENTS_PER_TILE))
    return replace(new, stars=transients, name=f"{new.name}.diff")


def overview_picture(exposures: Sequence[Exposure], cells: Sequence[int], size: int) -> Picture:
    """Return the average of the exposures on coarse pixels, over the whole camera; it shows the sky cells."""
    first, whole = exposures[0], stack_picture(exposures, cells[0], size)
    stars = [first.stars(cell, size) for cell in cells]
    return replace(
        whole,
        frame=overview_frame(first.field, size, OVERVIEW_SIZE),
        quality=replace(whole.quality, fwhm=_OVERVIEW_FWHM),
        stars=Stars(*(np.concatenate(columns) for columns in zip(*stars, strict=True))),
        name=f"{whole.name}.overview",
        skycell=Skycell(first.field.tessellation, first.field.projection_cell),
    )


def observation_of(exposures: Sequence[Exposure]) -> Observation:
    """Return the values for the headers of images of the exposures; pointing and time are the first one's."""
    first, quality = exposures[0], quality_of(exposures)
    altitude, azimuth = first.altitude_azimuth
    return Observation(
        target=first.field.name,
        filter=first.filter,
        start=first.start,
        exposure=EXPOSURE_TIME * len(exposures),
        airmass=round(float(np.mean([exposure.airmass for exposure in exposures])), 5),
        ra=first.conditions.ra,
        decl=first.conditions.decl,
        altitude=altitude,
        azimuth=azimuth,
        fwhm=quality.fwhm,
        zero_point=quality.zero_point,
        images=quality.images,
    )


def raw_contents(picture: Picture, extension: str, stem: str, dump: ConfigDump) -> Maker:
    """Return the maker of the counts of a chip as the camera wrote them."""

    def members() -> Iterator[Member]:
        counts = raw_counts(picture.planes())
        images = [(extension, counts, cd_cards(picture.frame))]
        yield Member(f"{stem}.fits", mosaic_bytes(images, picture.observation.camera_cards()))
        yield Member(f"{stem}.mdc", dump.content())

    return members


def image_contents(
    picture: Picture,
    stem: str,
    suffixes: Sequence[str],
    dump: ConfigDump,
    level: float = 0.0,
    to_bytes: Callable[[NDArray[Any], list[Card]], bytes] = image_bytes,
) -> Maker:
    """Return the maker of image, variance and mask (named by the ``suffixes``), catalogue and config dump.

    ``level`` counts are subtracted from the image: the sky, where a template was subtracted. ``to_bytes``
    determines how the images are stored.
    """

    def members() -> Iterator[Member]:
        planes = picture.planes()
        np.subtract(planes.image, round(level * 8) / 8, out=planes.image)
        images: list[NDArray[Any]] = [planes.image, planes.variance, planes.mask]
        kinds = (image_cards(), variance_cards(), mask_cards())
        for suffix, pixels, own in zip(suffixes, images, kinds, strict=True):
            content = to_bytes(pixels, picture.image_cards(own))
            yield Member(stem + suffix, with_cards(content, housekeeping_cards(picture.housekeeping)))
        yield Member(f"{stem}.cmf", picture.catalogue())
        yield Member(f"{stem}.mdc", dump.content())

    return members


def catalogue_contents(picture: Picture, stem: str, dump: ConfigDump) -> Maker:
    """Return the maker of a catalogue without an image, and of its config dump."""

    def members() -> Iterator[Member]:
        yield Member(f"{stem}.cmf", picture.catalogue())
        yield Member(f"{stem}.mdc", dump.content())

    return members


def overview_contents(picture: Picture, name: str) -> Maker:
    """Return the maker of one image of counts without variance, mask and config dump."""

    def members() -> Iterator[Member]:
        yield Member(name, image_bytes(picture.planes().image, picture.image_cards(image_cards())))

    return members


def camera_contents(pictures: Sequence[Picture], stem: str, dump: ConfigDump) -> Maker:
    """Return the maker of one file with the stars of all chips of an exposure, and of its config dump.

    The WCS is in two parts: that of the focal plane in the primary header, that of each chip in its own.
    """

    def members() -> Iterator[Member]:
        tables = [
            (
                name,
                [*_extent(each.frame), *focal_plane_cards(each.frame)],
                star_table(
                    each.frame, each.quality, each.stars, generator(each.seed, "astrometry", each.name)
                ),
            )
            for name, each in zip(CHIP_NAMES, pictures, strict=False)
        ]
        first = pictures[0]
        yield Member(f"{stem}.smf", catalogue_bytes(tables, [*first.cards(), *mosaic_cards(first.frame)]))
        yield Member(f"{stem}.mdc", dump.content())

    return members


def _extent(frame: Frame) -> list[Card]:
    """Return the cards of a header without pixels that tell the size of the image."""
    return [("IMNAXIS1", frame.size, "[pixel]"), ("IMNAXIS2", frame.size, "[pixel]")]
