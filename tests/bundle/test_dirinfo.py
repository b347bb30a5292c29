"""dirinfo: the folders of components, and paths that are refused."""

import contextlib
import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bundle.dirinfo import DirInfo, localized_dirinfo, read_dirinfo
from pipeline.errors import BundleUnusable, HostileName

DATA = Path("/mirror/data")
DOCUMENT = (
    b"destdir METADATA\n\tdestdir\tSTR\tgpc1/MD01.200907/2009/07/29  # there\nEND\n\n"
    b"components METADATA\n\tXY01\tSTR\to4741g0234o.44433\n\tskycell.1566.004 STR a/b\nEND\n"
)
RAW = DOCUMENT.replace(b"gpc1/MD01.200907/2009/07/29", b"none")


def test_folders_are_below_destdir():
    dirinfo = read_dirinfo(DOCUMENT, "dirinfo.mdc")
    assert dirinfo == DirInfo(
        "gpc1/MD01.200907/2009/07/29", {"XY01": "o4741g0234o.44433", "skycell.1566.004": "a/b"}
    )
    assert dirinfo.folder("XY01") == "gpc1/MD01.200907/2009/07/29/o4741g0234o.44433"
    assert dirinfo.folder("skycell.1566.004") == "gpc1/MD01.200907/2009/07/29/a/b"
    assert dirinfo.local_base(DATA) == "/mirror/data/gpc1/MD01.200907/2009/07/29"


def test_folders_are_below_data_when_destdir_is_none():
    dirinfo = read_dirinfo(RAW, "dirinfo.mdc")
    assert dirinfo.destdir is None
    assert dirinfo.folder("XY01") == "o4741g0234o.44433"
    assert dirinfo.local_base(DATA) == "/mirror/data"


def test_slashes_and_dots_that_mean_nothing_are_left_out():
    assert DirInfo("./gpc1//x/", {"a": "./b/"}).folder("a") == "gpc1/x/b"


@pytest.mark.parametrize("component", ["XY02", "", "..", "x" * 10_000])
def test_a_component_that_is_not_named_cannot_be_placed(component):
    with pytest.raises(BundleUnusable, match="expected a folder for component") as caught:
        read_dirinfo(DOCUMENT, "dirinfo.mdc").folder(component)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("folder", [".", "./"])
def test_a_folder_may_be_the_one_around_it(folder):
    dirinfo = read_dirinfo(DOCUMENT.replace(b"o4741g0234o.44433", folder.encode()), "dirinfo.mdc")
    assert dirinfo.folder("XY01") == "gpc1/MD01.200907/2009/07/29"
    assert DirInfo(None, {"XY01": folder}).folder("XY01") == ""


HOSTILE = [
    *("/etc", "..", "a/../../b", "./..", "", "/", "/.", "a\x00", "a\\b", "~/x;rm", "é", "x" * 256),
    *("a/" * 1500, "/".join(["x" * 100] * 11), ".0123.tag.unpacking", "a/.0.UNPACKING/b"),
]


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_paths_are_refused(path):
    with pytest.raises(HostileName):
        DirInfo(path, {})
    with pytest.raises(HostileName):
        DirInfo("gpc1", {"XY01": path})
    for old in (b"gpc1/MD01.200907/2009/07/29", b"o4741g0234o.44433"):
        with pytest.raises(HostileName, match=r"^dirinfo\.mdc: "):
            read_dirinfo(DOCUMENT.replace(old, path.encode()), "dirinfo.mdc")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"destdir METADATA\n destdir STR x\nEND\n",
        b"components METADATA\nEND\n",
        b"destdir STR x\ncomponents METADATA\nEND\n",
        DOCUMENT.replace(b"gpc1/MD01.200907/2009/07/29", b"NULL"),
        DOCUMENT.replace(b"o4741g0234o.44433", b"NULL"),
        DOCUMENT.replace(b"XY01\tSTR\to4741g0234o.44433", b"XY01 S32 5"),
        DOCUMENT.replace(b"XY01\tSTR\to4741g0234o.44433", b"XY01 METADATA\nEND"),
        DOCUMENT[:-4],
        b"<html>",
    ],
)
def test_what_is_no_dirinfo_is_refused(document):
    with pytest.raises(BundleUnusable, match=r"^dirinfo\.mdc"):
        read_dirinfo(document, "dirinfo.mdc")
    with pytest.raises(BundleUnusable):
        localized_dirinfo(document, "dirinfo.mdc", DATA)


def test_localized_changes_destdir_and_nothing_else():
    assert localized_dirinfo(DOCUMENT, "dirinfo.mdc", DATA) == DOCUMENT.replace(
        b"gpc1/MD01.200907/2009/07/29", b"/mirror/data/gpc1/MD01.200907/2009/07/29"
    )
    assert localized_dirinfo(RAW, "dirinfo.mdc", DATA) == RAW.replace(b"none", b"/mirror/data")
    zipped = localized_dirinfo(gzip.compress(RAW), "dirinfo.mdc", DATA)
    assert gzip.decompress(zipped) == RAW.replace(b"none", b"/mirror/data")


def test_a_relative_data_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bytes(tmp_path / "data") in localized_dirinfo(RAW, "dirinfo.mdc", Path("data"))


@given(st.text(), st.text())
@settings(deadline=None)
def test_a_folder_is_below_data_or_refused(destdir, folder):
    try:
        relative = DirInfo(destdir, {"c": folder}).folder("c")
    except HostileName:
        return
    assert not relative.startswith("/")
    assert not {"", ".", ".."} & set(relative.split("/"))


@given(st.binary())
@settings(deadline=None)
def test_any_bytes_are_a_dirinfo_or_refused(document):
    for hostile in (
        document,
        DOCUMENT.replace(b"gpc1/MD01", document),
        DOCUMENT.replace(b"o4741g", document),
    ):
        with contextlib.suppress(BundleUnusable, HostileName):
            localized_dirinfo(hostile, "dirinfo.mdc", DATA)
