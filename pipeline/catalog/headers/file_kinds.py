"""Kinds of the files that the pipeline makes, by the ends of their names.

The ends are those of the pipeline's file rules (protocol notes, "Names of files").
"""

import re
from functools import lru_cache
from typing import Literal

Kind = Literal["image", "mask", "weight", "catalog", "config", "other"]

# The first that matches counts. What it matches does not belong to the name that siblings share.
_RULES: tuple[tuple[Kind, str], ...] = (
    ("mask", r"(\.ch)?\.(mk|mask)\.fits"),
    ("weight", r"(\.ch)?\.(wt|weight)\.fits"),
    # Exposure maps, binned images, models of the background, and what is left of an image without them.
    (
        "other",
        r"\.(exp|num|expwt|b[12]|mdl(\.std|\.sdv)?|bck|bg|sub|res|bkgrest|bkgmdl|sigma|count|aref)\.fits",
    ),
    ("image", r"(\.ch|\.im|\.raw)?\.fits?"),
    ("catalog", r"\.(cmf|smf|smf\.original|cff|cmp|sx|obj)"),
    ("config", r"(\.(ppImage|psastro|pswarp|ppStack|ppSub|psphot|psphotStack|ppBackground|ppSim))?\.mdc"),
    ("other", r"\.(log|stats|trace)(\.update)?"),
    ("other", r"(\.(b[12]|res|mnt|psf|dap|target))?\.[A-Za-z0-9]{1,9}"),
)
_ENDS = [(kind, re.compile(rf"{end}(\.(gz|fz|bz2))?$", re.IGNORECASE)) for kind, end in _RULES]


# Names whose kind is remembered: the files of a fileset, each of which is asked for several times.
_NAMES = 4096


def kind_of(name: str) -> Kind:
    """Return the kind of a file.

    >>> kind_of("o4741g0236o.44435.ch.14519.XY02.ch.mk.fits")
    'mask'
    """
    return _kind_and_base(name)[0]


def base_of(path: str) -> str:
    """Return the path without the end that depends on the kind: the same for an image and all its siblings.

    >>> base_of("MD01/o4741g0236o.44435.ch.14519.XY02.ch.mk.fits")
    'MD01/o4741g0236o.44435.ch.14519.XY02'
    """
    folder, slash, name = path.rpartition("/")
    return folder + slash + _kind_and_base(name)[1]


@lru_cache(_NAMES)
def _kind_and_base(name: str) -> tuple[Kind, str]:
    for kind, end in _ENDS:
        if found := end.search(name):
            return kind, name[: found.start()] or name
    return "other", name
