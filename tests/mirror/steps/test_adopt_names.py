"""Names of adopted files: which of them are removed, and how they are shown."""

import os
from pathlib import Path

import pytest

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.markers import Fileset, mark_done
from pipeline.mirror.steps.adopt import AdoptedFolder, TakeOver, named, remove_old_names

FILESET = Fileset("p", "f", "2009-07-29T00:00:01Z")
FILES = ["a", "b"]


@pytest.fixture
def stored(tmp_path: Path) -> Layout:
    """A mirror with one fileset of two files, which is marked as downloaded."""
    layout = Layout(tmp_path / "mirror")
    layout.store("p", "f").mkdir(parents=True)
    for name in FILES:
        (layout.store("p", "f") / name).write_text(name)
    mark_done(layout, MarkerKind.DOWNLOADED, FILESET, "", {"files": [{"name": name} for name in FILES]})
    return layout


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_second_names_of_stored_files_are_removed(stored: Layout, tmp_path: Path):
    old = AdoptedFolder(tmp_path / "old", TakeOver.RENAME)
    old.fileset("p", "f").mkdir(parents=True)
    os.link(stored.store("p", "f") / "a", old.fileset("p", "f") / "a")
    for name in ("b", "index.txt"):
        (old.fileset("p", "f") / name).write_text(name)
    assert remove_old_names(stored, old, FILESET) == 1
    assert names(old.fileset("p", "f")) == ["b", "index.txt"]
    assert names(stored.store("p", "f")) == FILES
    assert remove_old_names(stored, old, FILESET) == 0


@pytest.mark.parametrize("place", ["", "p", "p/f"])
def test_a_folder_that_leads_to_the_store_keeps_the_only_names(place, stored: Layout, tmp_path: Path):
    """As a mount would make it lead there."""
    old = AdoptedFolder(tmp_path / "old", TakeOver.RENAME)
    (old.path / place).parent.mkdir(parents=True, exist_ok=True)
    (old.path / place).symlink_to(stored.store_root / place)
    assert remove_old_names(stored, old, FILESET) == 0
    assert names(stored.store("p", "f")) == FILES


def test_a_symbolic_link_to_a_stored_file_stays(stored: Layout, tmp_path: Path):
    old = AdoptedFolder(tmp_path / "old", TakeOver.RENAME)
    old.fileset("p", "f").mkdir(parents=True)
    (old.fileset("p", "f") / "a").symlink_to(stored.store("p", "f") / "a")
    assert remove_old_names(stored, old, FILESET) == 0
    assert names(old.fileset("p", "f")) == ["a"]


def test_a_fileset_without_a_marker_keeps_all_names(stored: Layout, tmp_path: Path):
    old = AdoptedFolder(tmp_path / "old", TakeOver.RENAME)
    old.fileset("p", "f").mkdir(parents=True)
    os.link(stored.store("p", "f") / "a", old.fileset("p", "f") / "a")
    assert remove_old_names(stored, old, Fileset("p", "f", "registered again")) == 0
    assert names(old.fileset("p", "f")) == ["a"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ([], ""),
        (["b", "a"], "a, b"),
        ([str(number) for number in range(9)], "0, 1, 2, 3, 4 and 4 more"),
        (["a\nb", os.fsdecode(b"\xff"), "\u00e4"], "'a\\nb', '\\xe4', '\\udcff'"),
    ],
)
def test_names_are_shown_on_one_line_of_ascii(given, shown):
    assert named(given) == shown
