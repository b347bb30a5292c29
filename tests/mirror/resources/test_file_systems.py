"""Folders of a mirror on several file systems and mounts."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import EXIT_SETTINGS_OR_BUG, SettingsError
from pipeline.mirror.resources.file_systems import check_file_systems, is_shared, nearest_folder
from pipeline.mirror.state.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "mirror").mkdir()
    return Layout(tmp_path / "mirror")


@pytest.fixture
def mounted(layout: Layout) -> Iterator[Path]:
    """A folder of the same device, mounted at ``store/``."""
    layout.store_root.mkdir()
    folder = layout.root.with_name("elsewhere")
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "--bind", folder, layout.store_root]).returncode:
        pytest.skip("only root may mount a folder")
    yield layout.store_root
    subprocess.run(["umount", layout.store_root], check=True)


def test_the_nearest_folder_is_the_one_in_which_a_folder_will_be_made(tmp_path):
    assert nearest_folder(tmp_path) == nearest_folder(tmp_path / "a" / "b") == tmp_path


def test_one_file_system_is_enough(layout):
    check_file_systems(layout)
    for folder in ("store/p", "incoming/p", "data"):
        (layout.root / folder).mkdir(parents=True)
    check_file_systems(layout)


def test_links_within_one_file_system_are_no_hindrance(layout, tmp_path):
    for folder in ("store", "incoming"):
        (tmp_path / folder).mkdir()
        (layout.root / folder).symlink_to(tmp_path / folder)
    check_file_systems(layout)


def test_all_other_folders_may_lie_elsewhere(layout, other_disk):
    for folder in ("data", "info", "state", "status", "log"):
        (layout.root / folder).symlink_to(other_disk)
    check_file_systems(layout)


@pytest.mark.parametrize("folder", ["store", "incoming", "store/p"])
def test_a_folder_from_or_to_which_no_fileset_can_be_renamed(folder, layout, other_disk):
    (layout.root / folder).parent.mkdir(exist_ok=True)
    (layout.root / folder).symlink_to(other_disk)
    with pytest.raises(SettingsError, match="lie on two file systems") as raised:
        check_file_systems(layout)
    assert raised.value.exit_code == EXIT_SETTINGS_OR_BUG
    assert str(layout.root / folder) in str(raised.value)


def test_both_folders_of_a_product_may_lie_on_another_disk(layout, other_disk):
    for folder in ("store", "incoming"):
        (layout.root / folder).mkdir()
        (layout.root / folder / "p").symlink_to(other_disk)
    check_file_systems(layout)


def test_a_mount_of_the_same_device_is_told_apart(layout, mounted):
    with pytest.raises(OSError, match="Invalid cross-device link"):
        os.rename(_file(layout.root), mounted / "file")
    with pytest.raises(SettingsError, match="or on two mounts"):
        check_file_systems(layout)


def _file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"")
    return folder / "file"


@pytest.mark.parametrize(
    ("kind", "expected"),
    {"nfs4": True, "cifs": True, "fuse.glusterfs": True, "ext4": False, "fuse.encfs": False}.items(),
)
def test_file_systems_of_several_hosts(tmp_path: Path, kind: str, expected: bool):
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 27 0:999 / /elsewhere rw,relatime - nfs4 host:/x rw\n"
        f"23 27 {os.major(device)}:{os.minor(device)} / /with\\040blank rw shared:1 - {kind} host:/y rw\n"
    )
    assert is_shared(tmp_path, mounts) is expected


def test_a_file_system_without_a_list_of_mounts(tmp_path: Path):
    assert not is_shared(tmp_path, tmp_path / "absent")
