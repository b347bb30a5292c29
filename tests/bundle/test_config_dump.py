"""Config dumps: which paths are relocated, and what stays as it is."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bundle.config_dump import relocated_config_dump
from pipeline.errors import BundleUnusable

DATA = Path("/mirror/data")
DUMP = b"""# made by ppImage
DETREND.DIR      STR       /data/ipp004.0/detrends
FILES METADATA
   LOG              STR       neb://ipp.0/log
   INPUT METADATA
      IMAGE            MULTI
      IMAGE            STR       neb://ipp021.0/gpc1/a.fits # first
      IMAGE            STR       path://GPC1.WORK/gpc1/b.fits
      MASK             STR       /data/ipp021.0/gpc1/c.fits\t
      LOGS METADATA
         TRACE            STR       file:///data/ipp021.0//gpc1/d.trace
      END
   END
   OUTPUT METADATA
      IMAGE            STRING    neb://ipp022/gpc1/e.fits
      LOG              STR       STDOUT
      TRACE            STR       STDERR
      NONE             STR       NULL
      EMPTY            STR
      NUMBER           S32       5
      OTHER            STR       /home/ipp/f.fits
      WEB              STR       http://host/data/x/y
      @MANY            STR       neb://V/g,/data/V/h STDOUT
      TYPE             PAIR      one two
      BOTH             PAIR      neb://V/i   NULL
   END
   OUTPUTS METADATA
      IMAGE            STR       neb://ipp022/gpc1/e.fits
   END
END
INPUT METADATA
   IMAGE STR neb://ipp022/gpc1/e.fits
END
"""
RELOCATED = (
    DUMP.replace(b"neb://ipp021.0/gpc1/a.fits", b"/mirror/data/gpc1/a.fits")
    .replace(b"path://GPC1.WORK/", b"/mirror/data/")
    .replace(b"/data/ipp021.0/gpc1/c", b"/mirror/data/gpc1/c")
    .replace(b"file:///data/ipp021.0//", b"/mirror/data/")
    .replace(b"STRING    neb://ipp022/", b"STRING    /mirror/data/")
    .replace(b"neb://V/g,/data/V/h", b"/mirror/data/g,/mirror/data/h")
    .replace(b"neb://V/i", b"/mirror/data/i")
)


def relocated(document: bytes) -> bytes:
    return relocated_config_dump(document, "dump.mdc", DATA)


def test_paths_of_files_are_relocated_and_nothing_else_changes():
    assert relocated(DUMP) == RELOCATED


def test_scopes_with_the_dot_in_their_name():
    for name in (b"FILES.INPUT", b"FILES.OUTPUT"):
        document = name + b" METADATA\n a METADATA\n  x STR neb://V/y\n END\nEND\n"
        assert relocated(document) == document.replace(b"neb://V/", b"/mirror/data/")
    for name in (b"FILES.OTHER", b"FILES", b"INPUT"):
        document = name + b" METADATA\n x STR neb://V/y\nEND\n"
        assert relocated(document) is document


def test_gzip_stays_gzip():
    assert gzip.decompress(relocated(gzip.compress(DUMP))) == RELOCATED


def test_repeated_names_are_relocated_too():
    document = b"FILES METADATA\nINPUT METADATA\na STR neb://V/x\na STR neb://V/y\nEND\nEND\n"
    assert relocated(document) == document.replace(b"neb://V/", b"/mirror/data/")


@pytest.mark.parametrize(
    "value",
    [
        "neb://V",
        "neb:///x",
        "/data/V",
        "/data//x",
        "file:///home/x/y",
        "file://data/V/x",
        "x/data/V/y",
        "neb:V/x",
    ],
)
def test_what_names_no_volume_stays(value):
    document = f"FILES.INPUT METADATA\n x STR {value}\nEND\n".encode()
    assert relocated(document) is document


@pytest.mark.parametrize("rest", ["..", "../../etc/passwd", "a/../../../b"])
def test_a_path_that_would_leave_data_stays(rest):
    document = f"FILES.INPUT METADATA\n x STR neb://V/{rest}\nEND\n".encode()
    assert relocated(document) is document


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\x00\xff\n",
        b"<html>neb://V/x</html>",
        DUMP[:-5],
        gzip.compress(DUMP)[:-9],
        b"FILES.INPUT METADATA\n" + b"a METADATA\n" * 500 + b"x STR neb://V/y\n" + b"END\n" * 501,
        gzip.compress(b"#" * (65 * 1024**2), 1),
    ],
)
def test_a_member_that_is_no_document_is_kept_as_it_is(document):
    assert relocated(document) is document


def test_a_data_that_no_document_can_hold_is_not_passed_over():
    with pytest.raises(BundleUnusable, match="mirror#2"):
        relocated_config_dump(DUMP, "dump.mdc", Path("/mirror#2"))


@given(st.binary())
@settings(deadline=None)
def test_any_bytes_give_bytes(document):
    relocated(document)
    relocated(DUMP.replace(b"gpc1/a.fits", document))
    relocated(b"\x1f\x8b" + document)
