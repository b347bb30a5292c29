"""Config dumps: settings and files of the programs that made a bundle, with the paths of the sender."""

from collections.abc import Sequence
from dataclasses import dataclass

from isal import igzip

from pipeline.bundle import mdc

VOLUMES = ("neb://ipp021.0/", "path://GPC1.WORK/", "/data/ipp021.0/", "file:///data/ipp021.0/")
"""Four notations of the sender for a volume."""

_ZERO_POINTS = {"g.00000": 24.58, "r.00000": 24.69, "i.00000": 24.6, "z.00000": 24.24, "y.00000": 23.32}

File = tuple[str, str]


def sender_path(relative: str, turn: int = 0) -> str:
    """Return a path of the sender; ``turn`` selects the volume, in rotation."""
    return VOLUMES[turn % len(VOLUMES)] + relative


@dataclass(frozen=True)
class ConfigDump:
    """Settings and files of one run of a program.

    ``inputs`` and ``outputs`` are pairs of the role of a file and its path below the volume. With ``gzipped``
    the document is compressed under its usual name.
    """

    program: str
    inputs: Sequence[File]
    outputs: Sequence[File]
    gzipped: bool = False

    def content(self) -> bytes:
        """Return the document."""
        scope = mdc.Scope()
        self._add_settings(scope)
        _add_recipe(scope.add_scope("PSPHOT"))
        _add_zero_points(scope)
        _add_files(scope.add_scope("FILES.INPUT"), self.inputs, "STDIN.LOG", "STDOUT")
        _add_files(scope.add_scope("FILES.OUTPUT"), self.outputs, "TRACE", "STDERR")
        text = mdc.write(scope)
        return igzip.compress(text, 1, mtime=0) if self.gzipped else text

    def _add_settings(self, scope: mdc.Scope) -> None:
        scope.add("PROGRAM", "STR", self.program)
        scope.add("CAMERA", "STR", "GPC1")
        scope.add(
            "DETREND.DIR", "STR", "/data/ipp004.0/gpc1/detrends", comment="a path, but of no file of ours"
        )
        scope.add("OVERSCAN", "BOOL", True)
        scope.add("FRINGE", "BOOL", False)
        scope.add("NTHREADS", "S32", 4)
        scope.add("MASK.VALUE", "U16", 0x21)
        scope.add("BACKGROUND.BINS", "S32", [400, 400])
        scope.add("OVERSCAN.FIT", "F32", [0.0, 1.5, -0.25])
        scope.add("SAT.LIMIT", "F64", float("nan"), comment="not measured")
        scope.add("REDUCTION", "STR", None)


def _add_recipe(scope: mdc.Scope) -> None:
    scope.add("DETECTION.LIMIT", "F32", 5.0)
    for model in ("PS_MODEL_GAUSS", "PS_MODEL_PGAUSS", "PS_MODEL_QGAUSS"):
        scope.add("PSF.MODEL", "STR", model, multi=True)
    background = scope.add_scope("BACKGROUND")
    background.add("SAMPLES", "S32", 10_000)
    background.add("STAT", "STR", "FITTED_MEAN")


def _add_zero_points(scope: mdc.Scope) -> None:
    for name, zero_point in _ZERO_POINTS.items():
        block = scope.add_scope("DVO.CATALOG", multi=True)
        block.add("FILTER", "STR", name)
        block.add("ZEROPT", "F32", zero_point)
        block.add("AIRMASS.TERM", "F32", -0.15)


def _add_files(scope: mdc.Scope, files: Sequence[File], stream: str, target: str) -> None:
    for turn, (role, relative) in enumerate(files):
        scope.add(role, "STR", sender_path(relative, turn), multi=True)
    scope.add(stream, "STR", target)
