"""Extraction of one fileset: all of its bundles or nothing, also on top of what an earlier one left."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.bundles import bundle, dirinfo
from support.follower import Follower
from support.upstream import File, Upstream

from pipeline.bundle.unpack import temporary_name
from pipeline.datastore.listing import FilesetRow
from pipeline.errors import BundleUnusable, HostileName
from pipeline.mirror.context import RunContext, open_context
from pipeline.mirror.resources.rate_limit import RateLimit
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.steps.download import download_fileset
from pipeline.mirror.steps.extract import extract_fileset
from pipeline.mirror.steps.journal import journal_of
from pipeline.mirror.steps.verify import verify_stored
from tasks.steps import STEPS

FILESET = Fileset("p", "o1.chip.1.1.1", "2009-07-29T00:00:01Z")
NOISE = random.Random(5).randbytes(300_000)
MEMBERS = {"XY01": {"a.fits": NOISE, "deep/b.fits": b"B" * 70}, "XY02": {"c.fits": NOISE[::-1]}}
DATA = {
    f"gpc1/MD01/o1.{component}/{name}": content
    for component, members in MEMBERS.items()
    for name, content in members.items()
}


@contextmanager
def opened(follower: Follower) -> Iterator[RunContext]:
    """The context as a process of a run has it."""
    with open_context(follower.config, STEPS, lambda _: None) as context:
        yield context


def download(follower: Follower) -> None:
    with opened(follower) as context:
        download_fileset(context, FILESET, lambda *_: None)


def listed(**columns: str) -> Fileset:
    """The fileset with a listing row that has these columns behind name and time; without a row for none."""
    if not columns:
        return FILESET
    fields = (FILESET.name, FILESET.registered, *columns.values())
    names = ("filesetID", "time registered", *columns)
    return Fileset.of(FILESET.product, FilesetRow(*fields[:3], names, fields))


def extract(follower: Follower, **columns: str) -> None:
    with opened(follower) as context:
        extract_fileset(context, listed(**columns), lambda *_: None)


def two_bundles(upstream: Upstream, folders: dict[str, str], *contents: bytes) -> None:
    described = File("dirinfo.mdc", dirinfo("gpc1/MD01", folders), "text", "dirinfo")
    bundles = [
        File(f"{FILESET.name}.{component}.tgz", content, "tgz", component)
        for component, content in zip(folders, contents, strict=True)
    ]
    upstream.add("p", FILESET.name, [described, *bundles])


def test_two_bundles_with_one_file_are_refused_and_nothing_is_left(upstream, follower):
    packed = [bundle({"a.fits": NOISE}), bundle({"a.fits": NOISE[1:]})]
    two_bundles(upstream, {"XY01": "o1", "XY02": "o1"}, *packed)
    download(follower)
    with pytest.raises(BundleUnusable, match="expected one bundle of the fileset to hold this file"):
        extract(follower)
    assert follower.content("data") == {}


def test_a_bundle_that_is_no_archive_leaves_nothing_of_the_other(upstream, follower):
    two_bundles(upstream, {"XY01": "o1", "XY02": "o2"}, bundle(MEMBERS["XY01"]), NOISE)
    download(follower)
    with pytest.raises(BundleUnusable, match="expected a gzipped tar archive"):
        extract(follower)
    assert follower.content("data") == {}


ARCHIVE = File("a.tgz", bundle({"a.fits": NOISE}), "tgz", "XY01")


@pytest.mark.parametrize("archive", [ARCHIVE, replace(ARCHIVE, content=b"no archive")])
def test_a_fileset_of_another_type_without_dirinfo_has_plain_files(archive, upstream, follower):
    follower.mirror["keep_bundles"] = False
    upstream.add("p", FILESET.name, [archive], type="OBJECT")
    download(follower)
    extract(follower, type="OBJECT")
    assert follower.content("data") == {}
    stored = follower.root / "store/p" / FILESET.name / "a.tgz"
    assert stored.read_bytes() == archive.content
    stored.unlink()
    with opened(follower) as context:
        problems = list(verify_stored(context, listed(type="OBJECT"), RateLimit(None)))
    assert [problem.what for problem in problems] == ["missing"]


@pytest.mark.parametrize("columns", [{"type": "IPP-DIST"}, {"type": "null"}, {"type": ""}, {}])
def test_a_distribution_or_a_fileset_of_unknown_type_needs_a_dirinfo(columns, upstream, follower):
    upstream.add("p", FILESET.name, [ARCHIVE])
    download(follower)
    with pytest.raises(BundleUnusable, match="expected a file of component 'dirinfo'"):
        extract(follower, **columns)


def test_a_fileset_of_another_type_with_dirinfo_is_unpacked(upstream, follower):
    upstream.add_bundles("p", FILESET.name, MEMBERS, type="OBJECT")
    download(follower)
    extract(follower, type="OBJECT")
    assert follower.content("data") == DATA


def test_forced_photometry_with_a_summary_in_the_work_directory(upstream, follower):
    rows = (
        b"fullForceRun METADATA\nworkdir STR neb://h/gpc1/ff\nsources_path_base STR neb://h/gpc1/cal/c.9\nEND\n"
        b"fullForceResult METADATA\nwarp_id S64 41\npath_base STR neb://h/gpc1/ff/w/r.41\nEND\n"
        b"fullForceSummary METADATA\npath_base STR neb://h/gpc1/ff/s.3\nEND\n"
    )
    files = [
        File(
            "dirinfo.ff.3.mdc", dirinfo("gpc1/ff", {"41.skycell.1": "w", "summary": "."}), "text", "dirinfo"
        ),
        File("dbinfo.ff.3.mdc", rows, "text", "dbinfo"),
        File("41.tgz", bundle({"r.41.cmf": b"r"}), "tgz", "41.skycell.1"),
        File("s.tgz", bundle({"s.3.cmf": b"s", "s.3.log.bz2": b"BZh9"}), "tgz", "summary"),
    ]
    upstream.add("p", FILESET.name, files, stage="ff")
    download(follower)
    extract(follower, type="IPP-DIST")
    assert follower.content("data") == {
        "gpc1/ff/w/r.41.cmf": b"r",
        "gpc1/ff/s.3.cmf": b"s",
        "gpc1/ff/s.3.log.bz2": b"BZh9",
    }
    localized = follower.content("info")[f"p/{FILESET.name}/dbinfo.ff.3.mdc"]
    below = bytes(follower.root / "data/gpc1")
    assert localized == rows.replace(b"neb://h/gpc1", below)


@pytest.mark.parametrize("destdir", ["/".join(["a"] * 1500), "/".join(["x" * 200] * 30), "x" * 256])
def test_a_folder_that_no_file_system_takes_is_the_fault_of_the_fileset(destdir, upstream, follower):
    upstream.add_bundles("p", FILESET.name, MEMBERS, destdir=destdir)
    download(follower)
    with pytest.raises(HostileName, match=r"dirinfo.*destdir"):
        extract(follower)
    assert follower.content("data") == {}


AHEAD = [
    None,
    5,
    [{}],
    [
        {
            "bundle": f"{FILESET.name}.XY01.tgz",
            "bytes": 5,
            "md5": "0" * 32,
            "folder": "/elsewhere",
            "ratio": 200,
            "files": [{"path": "data/gpc1/MD01/o1.XY01/a.fits", "bytes": 1, "crc32": "00000000"}],
        }
    ],
]


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_further_key_of_the_journal_is_ignored_and_temporary_files_are_removed(ahead, upstream, follower):
    upstream.add_bundles("p", FILESET.name, MEMBERS)
    download(follower)
    with opened(follower) as context:
        journal = journal_of(context.layout, FILESET)
    folders = [follower.root / "data/gpc1/MD01/o1.XY01", follower.root / "data/gpc1/MD01/o1.gone"]
    stray: list[Path] = []
    for folder in folders:
        folder.mkdir(parents=True)
        stray.append(folder / temporary_name("a.fits", journal.tag))
        stray[-1].write_bytes(b"half")
    journal.folder.mkdir(parents=True)
    noted = {"folders": list(map(str, folders)), "files": [], "ahead": ahead}
    (journal.folder / "unpacking.json").write_text(json.dumps(noted))
    extract(follower)
    assert not any(path.exists() for path in stray)
    assert follower.content("data") == DATA
    assert follower.content("incoming") == {}
