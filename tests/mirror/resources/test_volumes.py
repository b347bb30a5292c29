"""Products on volumes: the links, and the sentences where they cannot be made."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.audit import Interrupted, interrupted

from pipeline.config import Settings
from pipeline.errors import EXIT_SETTINGS_OR_BUG, SettingsError
from pipeline.mirror.resources.file_systems import check_file_systems
from pipeline.mirror.resources.volumes import check_volumes, place_products, volume_problems
from pipeline.mirror.state.layout import Layout

# Looking for it is an error of the system, as for a folder on a disk that does not answer.
SILENT = f"/{300 * 'x'}"
LINKS = {"volumes/md": "V/md", "incoming/md": "../volumes/md/incoming", "store/md": "../volumes/md/store"}


@dataclass
class Site:
    """A mirror in ``root``, with the volume of product ``md`` on another disk."""

    root: Path
    volume: Path
    mirror: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        for folder in (self.root, self.volume):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        (self.root / "mirror.json").write_text('{"format": 2, "id": "aa"}')

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    @property
    def settings(self) -> Settings:
        mirror = {"root": str(self.root), "volumes": {"m*": str(self.volume)}, "products": ["md", "x"]}
        return Settings.model_validate({"source": {"url": "http://h"}, "mirror": mirror | self.mirror})

    def place(self) -> None:
        check_volumes(self.layout, self.settings)
        check_file_systems(self.layout)
        place_products(self.layout, self.settings, ["md", "x"])

    def links(self) -> dict[str, str]:
        # Path.rglob raises OSError at a link that leads nowhere possible, in some versions of Python.
        found = (
            path
            for folder, folders, files in os.walk(self.root)
            for name in (*folders, *files)
            if (path := Path(folder, name)).is_symlink()
        )
        return {
            path.relative_to(self.root).as_posix(): str(path.readlink()).replace(str(self.volume), "V")
            for path in found
        }

    def refusal(self) -> str:
        before = self.links(), sorted(self.volume.rglob("*"))
        with pytest.raises(SettingsError) as raised:
            self.place()
        assert raised.value.exit_code == EXIT_SETTINGS_OR_BUG
        assert (self.links(), sorted(self.volume.rglob("*"))) == before
        said = str(raised.value)
        assert said.endswith(". Nothing was started.")
        return said.replace(str(self.volume), "V").replace(str(self.root), "ROOT")


@pytest.fixture
def site(tmp_path: Path, other_disk: Path) -> Site:
    return Site(tmp_path / "mirror", other_disk / "ps1")


def test_links_are_made_for_the_products_of_a_volume(site):
    for _ in range(2):
        site.place()
        assert site.links() == LINKS
        assert {path.name for path in (site.volume / "md").iterdir()} == {
            "store",
            "incoming",
            "data",
            "mirror.id",
        }
    assert site.layout.data_of("md") == site.root / "volumes/md/data"
    assert site.layout.data_of("x") == site.root / "data"


def test_links_in_folders_that_are_links_themselves(site, other_disk):
    for folder in ("store", "incoming"):
        (other_disk / "root" / folder).mkdir(parents=True)
        (site.root / folder).symlink_to(other_disk / "root" / folder)
    site.place()
    site.place()
    for folder in ("store", "incoming"):
        assert (site.root / folder / "md").samefile(site.volume / "md" / folder)


def empty_folders(site: Site) -> None:
    for folder in ("store/md", "incoming/md", "volumes"):
        (site.root / folder).mkdir(parents=True)


def moved(site: Site) -> None:
    (site.volume / "md/store/one").mkdir(parents=True)


@pytest.mark.parametrize("before", [lambda _: None, empty_folders, moved], ids=["new", "empty", "moved"])
def test_a_kill_at_any_instant(before: Callable[[Site], None], site):
    for changes in count():
        site.begin()
        before(site)
        try:
            with interrupted(changes):
                site.place()
        except Interrupted:
            site.place()
            assert site.links() == LINKS, changes
        else:
            break
    assert changes >= 7


@pytest.mark.parametrize("lost", LINKS)
def test_a_link_that_was_lost_is_made_again(lost, site):
    site.place()
    (site.root / lost).unlink()
    site.place()
    assert site.links() == LINKS


def test_the_links_decide_when_the_setting_is_taken_away(site):
    site.place()
    (site.root / "store/md").unlink()
    site.mirror["volumes"] = {}
    site.place()
    assert site.links() == LINKS


def not_there(site: Site) -> None:
    site.volume.rmdir()


def vanished(site: Site) -> None:
    site.place()
    shutil.rmtree(site.volume / "md")


def vanished_without_setting(site: Site) -> None:
    vanished(site)
    site.mirror["volumes"] = {}


def half_there(site: Site) -> None:
    site.place()
    (site.volume / "md/data").rmdir()


def silent(site: Site) -> None:
    site.mirror["volumes"] = {"m*": SILENT}


def silent_without_setting(site: Site) -> None:
    site.place()
    (site.root / "volumes/md").unlink()
    (site.root / "volumes/md").symlink_to(SILENT)
    site.mirror["volumes"] = {}


def elsewhere(site: Site) -> None:
    site.place()
    (site.volume / "other").mkdir()
    site.mirror["volumes"] = {"md": str(site.volume / "other")}


def with_content(folder: str) -> Callable[[Site], None]:
    return lambda site: (site.root / folder / "one").mkdir(parents=True)


def linked_by_hand(site: Site) -> None:
    (site.root / "store").mkdir()
    (site.root / "store/md").symlink_to(site.volume.parent)


def of_another_mirror(site: Site) -> None:
    site.place()
    (site.root / "mirror.json").write_text('{"format": 2, "id": "bb"}')


def around_the_root(site: Site) -> None:
    site.mirror["volumes"] = {"mirror": str(site.root.parent)}
    site.mirror["products"] = ["mirror"]


PROBLEMS = {
    not_there: "the volume V is not mounted: expected the folder V (mirror.volumes), found nothing. Mount",
    vanished: "the volume V is not mounted: expected the folder V/md/store (product md), found nothing. ",
    vanished_without_setting: "the volume V is not mounted: expected the folder V/md/store (product md), ",
    half_there: "the volume V is not mounted: expected the folder V/md/data (product md), found nothing. ",
    silent: f"the volume {SILENT} is not mounted: expected the folder {SILENT} (mirror.volumes), found File "
    "name too long. Mount the disk",
    silent_without_setting: f"the volume / is not mounted: expected the folder {SILENT}/store (product md), ",
    elsewhere: "product md: expected it in V/other/md (mirror.volumes), "
    "the link ROOT/volumes/md leads to V/md.",
    with_content("store/md"): "product md: expected nothing at ROOT/store/md, or a link to V/md/store "
    "(mirror.volumes), found a folder with content. While neither an update nor `ipp-mirror serve` runs, "
    "move the files there and remove it.",
    with_content(
        "incoming/md"
    ): "product md: expected nothing at ROOT/incoming/md, or a link to V/md/incoming",
    with_content("volumes/md"): "product md: expected nothing at ROOT/volumes/md, or a link to V/md",
    linked_by_hand: "product md: expected nothing at ROOT/store/md, or a link to V/md/store "
    "(mirror.volumes), found a link to ",
    of_another_mirror: "product md: V/md belongs to mirror aa, as V/md/mirror.id says; expected ",
    around_the_root: "product mirror: expected a volume beside ROOT, got ROOT.",
}


@pytest.mark.parametrize("change", PROBLEMS, ids=lambda change: change.__name__)
def test_nothing_is_begun_where_a_product_cannot_be_placed(change, site):
    change(site)
    assert site.refusal().startswith(PROBLEMS[change])


def test_a_folder_that_got_no_id_is_none_of_another_mirror(site):
    (site.root / "mirror.json").unlink()
    site.place()
    (site.root / "mirror.json").write_text('{"format": 2, "id": "aa"}')
    site.place()


@contextmanager
def another_user() -> Iterator[None]:
    os.setresuid(65_534, 65_534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_user_who_may_only_read_is_told_of_what_cannot_be_read(other_disk):
    other_disk.chmod(0o755)
    site = Site(other_disk / "mirror", other_disk / "ps1")
    site.place()
    with another_user():
        assert list(volume_problems(site.layout, site.settings)) == []
    (site.volume / "md").chmod(0o700)
    with another_user():
        [problem] = volume_problems(site.layout, site.settings)
    assert "expected the folder" in problem
    assert "found Permission denied" in problem
    assert list(volume_problems(site.layout, site.settings)) == []


@pytest.fixture
def read_only(site: Site) -> Iterator[Path]:
    """The volume, mounted for reading only."""
    site.place()
    bind = ["mount", "--bind", str(site.volume), str(site.volume)]
    if os.geteuid() != 0 or subprocess.run(bind).returncode:
        pytest.skip("only root may mount a folder")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(site.volume)], check=True)
    yield site.volume
    subprocess.run(["umount", str(site.volume)], check=True)


@pytest.mark.parametrize("placed", [True, False])
def test_a_volume_that_is_mounted_for_reading_only(placed, site, read_only):
    if not placed:
        site.mirror = {"volumes": {"new": str(site.volume)}, "products": ["new"]}
    assert "the volume V is mounted read-only, or belongs to another user: expected that" in site.refusal()


def test_a_product_that_is_known_by_its_state_alone(site):
    with_content("store/md")(site)
    (site.root / "state/md").mkdir(parents=True)
    site.mirror["products"] = None
    with pytest.raises(SettingsError, match="found a folder with content"):
        check_volumes(site.layout, site.settings)


def test_a_product_that_the_settings_do_not_name_stays_where_it_is(site):
    with_content("store/md")(site)
    (site.root / "state/md").mkdir(parents=True)
    site.mirror["products"] = ["m2"]
    check_volumes(site.layout, site.settings)
    place_products(site.layout, site.settings, ["m2"])
    assert sorted(site.links()) == ["incoming/m2", "store/m2", "volumes/m2"]


def test_a_product_without_a_volume_may_be_linked_by_hand(site, other_disk):
    for folder in ("store", "incoming"):
        (site.root / folder).mkdir()
        (site.root / folder / "x").symlink_to(other_disk)
    site.place()
    assert site.links() == LINKS | {f"{folder}/x": str(other_disk) for folder in ("store", "incoming")}
