"""Postage stamps: results of requests as plain FITS files, a table and a document."""

from datetime import datetime, timedelta

import numpy as np
from astropy.io import fits

from pipeline.bundle import mdc
from pipeline.sample.contents import Picture, chip_picture
from pipeline.sample.headers import image_cards
from pipeline.sample.images import image_bytes, written
from pipeline.sample.plan import ReleasePlan, ReleaseSummary
from pipeline.sample.publisher import Publication, PublishedFile, writer_of
from pipeline.sample.sky import CHIP_NAMES, MD01
from pipeline.sample.survey import Exposure, mjd

FIRST_REQUEST = 1001
_STAMPS = 3
_PAUSE = timedelta(minutes=5)


def add_stamps(stamps: Publication, plan: ReleasePlan, time: datetime) -> ReleaseSummary:
    """Add ``plan.stamps`` requests with results; every second request found nothing and has no files."""
    summary = ReleaseSummary()
    first = FIRST_REQUEST + len(stamps.names)
    for request in range(first, first + plan.stamps):
        files = _answer(request, plan) if request % 2 == FIRST_REQUEST % 2 else []
        summary += stamps.add(f"web_{request}", time, "PSRESULTS", files)
        time += _PAUSE
    return summary


def _answer(request: int, plan: ReleasePlan) -> list[PublishedFile]:
    """Return the files of a request. The document of results is listed without md5, as in real products."""
    exposure = Exposure(request - FIRST_REQUEST, MD01, plan.seed, {"raw": 0})
    chips = range(min(_STAMPS, plan.chips))
    pictures = [chip_picture(exposure, chip, plan.image_size) for chip in chips]
    names = [f"{request}_{chip + 1}_ota{CHIP_NAMES[chip][2:]}_{CHIP_NAMES[chip]}.fits" for chip in chips]
    stamps = [
        PublishedFile(
            name,
            "chip",
            writer_of(image_bytes(each.planes().image, each.image_cards(image_cards()))),
            columns=("chipname",),
        )
        for name, each in zip(names, pictures, strict=True)
    ]
    table = PublishedFile("results.fits", "table", writer_of(_table(names, pictures)), columns=())
    document = PublishedFile("results.mdc", "text", writer_of(_document(request, names)), md5_known=False)
    return [table, document, *stamps]


def _document(request: int, names: list[str]) -> bytes:
    scope = mdc.Scope()
    scope.add("REQ_NAME", "STR", f"web_{request}")
    scope.add("REQ_ID", "S64", request)
    scope.add("FAULT", "S32", 0)
    for name in names:
        row = scope.add_scope("RESULT", multi=True)
        row.add("IMG_NAME", "STR", name)
        row.add("ERROR", "STR", "SUCCESS")
    return mdc.write(scope)


def _table(names: list[str], pictures: list[Picture]) -> bytes:
    columns = [
        fits.Column("ROWNUM", "J", array=np.arange(1, len(names) + 1)),
        fits.Column("IMG_NAME", "64A", array=names),
        fits.Column("CENTER_RA", "D", array=[each.frame.ra for each in pictures]),
        fits.Column("CENTER_DEC", "D", array=[each.frame.decl for each in pictures]),
        fits.Column("FILTER", "8A", array=[each.observation.filter for each in pictures]),
        fits.Column("MJD_OBS", "D", array=[mjd(each.observation.start) for each in pictures]),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="STAMP_RESULTS")
    return written([fits.PrimaryHDU(), table])
