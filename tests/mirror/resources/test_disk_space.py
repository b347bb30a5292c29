"""Reservations of disk space, on one disk and on two, and what stays free on each."""

import shutil
from pathlib import Path

import pytest

from pipeline.config import Mirror
from pipeline.errors import MachineFault
from pipeline.mirror.resources.disk_space import DiskSpace, MinFree
from pipeline.mirror.state.layout import Layout
from pipeline.units import as_size

MB = 1_000_000
TOO_MUCH = 10**17


def free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def test_folders_of_one_disk_share_a_reservation(tmp_path):
    needed = {tmp_path / "incoming" / "p": 1000, tmp_path / "data": 3000}
    with DiskSpace(MinFree(0)).reserved(needed, "fileset f") as reservations:
        incoming, data = reservations.values()
        assert incoming is data
        incoming.written(1500)
        assert data.left == 2500


def test_what_one_fileset_has_reserved_is_not_there_for_another(tmp_path):
    space = DiskSpace(MinFree(0))
    half = free(tmp_path) * 2 // 3
    with (
        space.reserved({tmp_path: half}, "fileset f"),
        pytest.raises(MachineFault, match=r"fileset g needs .* reserved for other filesets: .* missing"),
        space.reserved({tmp_path: half}, "fileset g"),
    ):
        pass
    with space.reserved({tmp_path: half}, "fileset g"):
        pass


def test_nothing_is_reserved_where_less_than_the_minimum_is_free(tmp_path):
    disk = shutil.disk_usage(tmp_path)
    lower = rf"The disk holds {as_size(disk.total)} in all: lower mirror\.min_free; the next run"
    for least, remedy in ((disk.total - 1, "Free disk space; the next run"), (TOO_MUCH, lower)):
        space = DiskSpace(MinFree(least))
        said = pytest.raises(MachineFault, match=f"are missing. {remedy} tries again")
        with said, space.reserved({tmp_path: 0}, "fileset f"):
            pass


def test_more_than_was_reserved_may_be_written_where_it_is_free(tmp_path):
    space = DiskSpace(MinFree(0))
    with space.reserved({tmp_path: 10}, "fileset f") as reservations:
        reservations[tmp_path].written(11)
        assert reservations[tmp_path].left == 0


def test_each_disk_is_counted_for_the_bytes_that_go_to_it(tmp_path, other_disk):
    small, large = sorted((tmp_path, other_disk), key=free)
    space = DiskSpace(MinFree((free(small) + free(large)) // 2))
    with space.reserved({large: MB}, "fileset f") as reservations:
        reservations[large].written(2 * MB)
    with (
        pytest.raises(MachineFault, match=f"fileset f needs 1.0 MB below {small};"),
        space.reserved({large: 2 * MB, small: MB}, "fileset f"),
    ):
        pass


def test_a_reservation_on_one_disk_takes_nothing_from_the_other(tmp_path, other_disk):
    space = DiskSpace(MinFree(0))
    small, large = sorted((tmp_path, other_disk), key=free)
    with space.reserved({large: free(large) * 9 // 10}, "f"), space.reserved({small: free(small) // 2}, "g"):
        pass


MIRROR, OWN = (5, "mirror.min_free"), (7, "mirror.volumes.md.min_free")
# Volumes on the disk of the mirror (here) or on another one (there), and what stays free on each disk.
STAYS_FREE = {
    "no volume": ([], MIRROR, MIRROR),
    "without a size": ([("md", "there", None)], MIRROR, MIRROR),
    "a larger one": ([("md", "there", 7)], MIRROR, OWN),
    "a smaller one": ([("md", "there", 3)], MIRROR, (3, OWN[1])),
    "none at all": ([("md", "there", 0)], MIRROR, (0, OWN[1])),
    "beside the mirror": ([("md", "here", 7)], OWN, MIRROR),
    "a smaller one beside the mirror": ([("md", "here", 3)], MIRROR, MIRROR),
    "two volumes": ([("x", "there", 3), ("md", "there", 7)], MIRROR, OWN),
    "two volumes, one without a size": ([("md", "there", 3), ("x", "there", None)], MIRROR, MIRROR),
    "not mounted": ([("md", "there/gone", 7)], MIRROR, MIRROR),
}


@pytest.mark.parametrize("case", STAYS_FREE)
def test_what_stays_free_is_said_by_the_volumes_of_a_disk(case, tmp_path, other_disk):
    volumes, here, there = STAYS_FREE[case]
    (other_disk / "there").mkdir()
    paths = {name: str((tmp_path if name == "here" else other_disk) / name) for _, name, _ in volumes}
    (tmp_path / "here").mkdir()
    documents = {
        each: {"path": paths[name]} | ({} if size is None else {"min_free": size})
        for each, name, size in volumes
    }
    settings = Mirror.model_validate({"root": str(tmp_path / "mirror"), "min_free": 5, "volumes": documents})
    min_free = MinFree.of(Layout(settings.root), settings)
    assert min_free.on(tmp_path.stat().st_dev) == here
    assert min_free.on(other_disk.stat().st_dev) == there


def test_the_message_names_the_setting(tmp_path, other_disk):
    volume = {"path": str(other_disk), "min_free": TOO_MUCH}
    settings = Mirror.model_validate({"root": str(tmp_path), "volumes": {"md*": volume}})
    space = DiskSpace(MinFree.of(Layout(tmp_path), settings))
    with space.reserved({tmp_path: MB}, "fileset f"):
        pass
    said = r"100000 TB are to stay free \(mirror\.volumes\.md\*\.min_free\)"
    with pytest.raises(MachineFault, match=said), space.reserved({other_disk: MB}, "fileset f"):
        pass
