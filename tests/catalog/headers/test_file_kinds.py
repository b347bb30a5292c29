"""Kinds of files by their names, and what siblings share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.headers.file_kinds import base_of, kind_of
from pipeline.sample.components import CHIP_SUFFIXES, SKYCELL_SUFFIXES

CHIP = "o4741g0236o.44435/o4741g0236o.44435.ch.14519.XY02"
WARP = "o4741g0236o.44435.wrp.7003.skycell.1566.004"
STACK = "MD01.V2/skycell.1566.004/MD01.V2.skycell.1566.004.stk.9554"
CAMERA = "o4741g0236o.44435.cm.3000"

FAMILIES = [
    (
        CHIP,
        {
            "image": [".ch.fits"],
            "mask": [".ch.mk.fits"],
            "weight": [".ch.wt.fits"],
            "catalog": [".cmf", ".cff"],
            "config": [".mdc", ".ppImage.mdc"],
            "other": [
                *(
                    ".b1.fits",
                    ".b2.fits",
                    ".mdl.fits",
                    ".mdl.std.fits",
                    ".res.fits",
                    ".bck.fits",
                    ".sub.fits",
                ),
                *(
                    ".log",
                    ".log.bz2",
                    ".log.update",
                    ".stats",
                    ".trace",
                    ".psf",
                    ".ptn",
                    ".b1.jpg",
                    ".psf.png",
                ),
            ],
        },
    ),
    (
        WARP,
        {
            "image": [".fits", ".fits.gz", ".fits.fz"],
            "mask": [".mask.fits", ".mask.fits.gz"],
            "weight": [".wt.fits"],
            "catalog": [".cmf"],
            "config": [".pswarp.mdc", ".mdc.gz"],
            "other": [".skycell", ".stats", ".mdl.fits"],
        },
    ),
    (
        STACK,
        {
            "image": [".fits"],
            "mask": [".mask.fits", ".mk.fits"],
            "weight": [".wt.fits", ".weight.fits"],
            "catalog": [".cmf"],
            "config": [".ppStack.mdc"],
            "other": [".exp.fits", ".num.fits", ".expwt.fits", ".target.psf", ".bkgrest.fits", ".b1.jpg"],
        },
    ),
    (
        f"{STACK}.unconv",
        {
            "image": [".fits"],
            "mask": [".mask.fits"],
            "weight": [".wt.fits"],
            "other": [".exp.fits", ".num.fits", ".expwt.fits"],
        },
    ),
    (
        "MD01.skycell.1566.004.dif.3002.inv",
        {"image": [".fits"], "mask": [".mask.fits"], "weight": [".wt.fits"], "catalog": [".cmf"]},
    ),
    (
        CAMERA,
        {"catalog": [".smf", ".smf.original"], "config": [".psastro.mdc"], "other": [".asm", ".aref.fits"]},
    ),
    (f"{CAMERA}.XY02", {"mask": [".mk.fits"]}),
    (
        f"{STACK}.stk.0",
        {"image": [".im.fits"], "mask": [".mk.fits"], "weight": [".wt.fits"], "catalog": [".cmf"]},
    ),
    ("stamp_1001_1_2", {"image": [".fits"], "mask": [".mk.fits"], "weight": [".wt.fits"], "other": [".jpg"]}),
]


@pytest.mark.parametrize(("base", "files"), FAMILIES, ids=[base for base, _ in FAMILIES])
def test_siblings_share_a_base_and_have_their_kinds(base, files):
    for kind, ends in files.items():
        for end in ends:
            assert (kind_of(base + end), base_of(f"gpc1/{base}{end}")) == (kind, f"gpc1/{base}")


@pytest.mark.parametrize("suffixes", [CHIP_SUFFIXES, SKYCELL_SUFFIXES])
def test_the_files_of_the_sample_are_siblings(suffixes):
    assert {kind_of(WARP + suffix) for suffix in suffixes} == {"image", "mask", "weight"}
    assert {base_of(WARP + suffix) for suffix in suffixes} == {WARP}


@pytest.mark.parametrize(
    "name", ["counts.txt", "README", ".fits", "dbinfo.chip.14519.mdc", "a.b/c", "", "x."]
)
def test_other_names_have_a_base_too(name):
    assert base_of(name)[:1] == name[:1]
    assert kind_of(name) in {"image", "config", "other"}


@given(path=st.text("./chmkwtfis\n-é"))
def test_the_base_is_the_beginning_of_the_path(path):
    assert path.startswith(base_of(path))
    assert base_of(path).rpartition("/")[0] == path.rpartition("/")[0]
