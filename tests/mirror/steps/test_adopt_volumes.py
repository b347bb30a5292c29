"""Adoption into a mirror with volumes: files come to the disk of their product, or are refused at once."""

from pathlib import Path

import pytest
from support.trees import tree

from pipeline.config import Settings
from pipeline.errors import SettingsError
from pipeline.mirror.resources.volumes import place_products
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.steps.adopt import AdoptedFolder, TakeOver, products_here


@pytest.fixture
def layout(tmp_path: Path, other_disk: Path) -> Layout:
    """A mirror whose product ``far`` lies on another disk, and ``near`` does not."""
    layout = Layout(tmp_path / "mirror")
    layout.root.mkdir()
    mirror = {"root": str(layout.root), "volumes": {"far": str(other_disk)}}
    settings = Settings.model_validate({"source": {"url": "http://h"}, "mirror": mirror})
    place_products(layout, settings, ["far", "near"])
    return layout


def old_mirror(folder: Path, product: str, by: str) -> AdoptedFolder:
    (folder / "old" / product / "fileset").mkdir(parents=True)
    (folder / "old" / product / "fileset" / "a.fits").write_bytes(b"a")
    return AdoptedFolder(folder / "old", TakeOver(by))


@pytest.mark.parametrize("by", TakeOver)
def test_files_on_the_disk_of_the_product(by, layout, other_disk):
    adopted = old_mirror(other_disk, "far", by)
    before = tree(other_disk)
    assert products_here(adopted, layout, ["far", "near"]) == ["far"]
    assert tree(other_disk) == before


@pytest.mark.parametrize("by", ["link", "rename"])
def test_files_on_another_disk_than_that_of_the_product(by, layout, tmp_path, other_disk):
    far = f"the volume of product far ({other_disk}/far) lie on two file systems"
    near = f"mirror.root ({layout.root}) lie on two file systems"
    for folder, product, place in ((tmp_path, "far", far), (other_disk, "near", near)):
        adopted = old_mirror(folder, product, by)
        with pytest.raises(SettingsError) as raised:
            products_here(adopted, layout, ["far", "near"])
        assert f"{adopted.path}/{product}/fileset/a.fits and {place}" in str(raised.value)
        assert "hoose `--by copy`" in str(raised.value)


def test_files_on_another_disk_by_copy(layout, tmp_path):
    assert products_here(old_mirror(tmp_path, "far", "copy"), layout, ["far", "near"]) == ["far"]
