"""Failure records after a step that succeeded: none is left that names a step which is done."""

import csv
import shutil

from support.follower import Follower
from support.upstream import File, Upstream

PRODUCT = "md-all-rel-200907"


def listed_failures(follower: Follower) -> list[dict[str, str]]:
    with open(follower.root / "status" / "download_failures.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_record_of_a_download_that_was_killed_when_it_was_done_ends_with_the_extraction(
    upstream: Upstream, follower: Follower, tmp_path
):
    upstream.add(PRODUCT, "late", [File("l.fits", b"l" * 50, listed={"md5": "0" * 32})])
    assert follower.update().code == 30
    state = follower.root / "state" / PRODUCT
    shutil.copytree(state / "failed", tmp_path / "failed")
    served = upstream.folder / PRODUCT / "late" / "index.txt"
    served.write_text(f"# fileID|bytes|md5sum|type|component|\n{File('l.fits', b'l' * 50).row()}\n\n")
    assert follower.update().code == 0
    # As a kill leaves it between the marker of the download and the removal of the record.
    (state / "extracted" / "late.json").unlink()
    shutil.copytree(tmp_path / "failed", state / "failed", dirs_exist_ok=True)
    result = follower.update()
    assert result.code == 0, result.output
    assert not follower.marked("failed", PRODUCT)
    assert listed_failures(follower) == []
