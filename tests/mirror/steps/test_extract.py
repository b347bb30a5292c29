"""Extraction of one fileset: all of its bundles or nothing, also on top of what an earlier one left."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.bundles import bundle, dirinfo
from support.follower import Follower
from support.upstream import File, Upstream

from pipeline.bundle.unpack import temporary_name
from pipeline.errors import BundleUnusable
from pipeline.mirror.context import RunContext, open_context
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.steps.download import download_fileset
from pipeline.mirror.steps.extract import extract_fileset
from pipeline.mirror.steps.journal import journal_of
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


def extract(follower: Follower) -> None:
    with opened(follower) as context:
        extract_fileset(context, FILESET, lambda *_: None)


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
