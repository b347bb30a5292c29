"""Reservations of disk space, on one disk and on two."""

import shutil
from pathlib import Path

import pytest

from pipeline.errors import MachineFault
from pipeline.mirror.resources.disk_space import DiskSpace, MinFree

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
    space = DiskSpace(MinFree(TOO_MUCH))
    with pytest.raises(MachineFault), space.reserved({tmp_path: 0}, "fileset f"):
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
