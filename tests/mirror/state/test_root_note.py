"""The note beside the settings: which mirrors are accepted, which are refused."""

import json
import os
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.errors import SettingsError
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.root_format import mirror_id, record_root_format
from pipeline.mirror.state.root_note import check_root, note_path, write_note


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "settings"
    folder.mkdir()
    return folder / "mirror.yaml"


def settings(root: Path, **more: object) -> Settings:
    source = {"url": "http://127.0.0.1:1/ds"}
    return Settings.model_validate({"source": source, "mirror": {"root": str(root)} | more})


def made(root: Path, *configs: Path) -> Layout:
    """A mirror after a run with each of the settings files."""
    layout = Layout(root)
    record_root_format(layout)
    for config in configs:
        check_root(config, settings(root))
        write_note(config, layout)
    return layout


def test_a_note_is_written_once(config: Path, tmp_path: Path):
    layout = made(tmp_path / "mirror", config)
    note = config.with_name(".mirror.yaml.id")
    assert json.loads(note.read_bytes()) == {"id": mirror_id(layout), "root": str(layout.root)}
    before = note.stat()
    made(layout.root, config)
    assert note.stat() == before
    assert [path.name for path in config.parent.iterdir()] == [note.name]


def test_a_mirror_that_is_not_mounted(config: Path, tmp_path: Path):
    layout = made(tmp_path / "mirror", config)
    layout.root.rename(tmp_path / "unmounted")
    for below in (lambda: None, layout.root.mkdir):
        below()
        with pytest.raises(SettingsError, match="found none") as error:
            check_root(config, settings(layout.root))
        assert str(note_path(config)) in str(error.value)
        assert str(layout.root) in str(error.value)
    layout.root.rmdir()
    (tmp_path / "unmounted").rename(layout.root)
    check_root(config, settings(layout.root))


def test_another_mirror_is_mounted(config: Path, tmp_path: Path):
    layout, other = made(tmp_path / "mirror", config), made(tmp_path / "other")
    layout.root.rename(tmp_path / "unmounted")
    other.root.rename(layout.root)
    with pytest.raises(SettingsError, match=f"found mirror {mirror_id(layout)}"):
        check_root(config, settings(layout.root))
    note_path(config).unlink()
    check_root(config, settings(layout.root))


def test_two_settings_files_for_one_mirror(config: Path, tmp_path: Path):
    second = config.with_name("second.yaml")
    layout = made(tmp_path / "mirror", config, second)
    assert note_path(second) != note_path(config)
    layout.root.rename(tmp_path / "unmounted")
    for each in (config, second):
        with pytest.raises(SettingsError, match="found none"):
            check_root(each, settings(layout.root))


def test_a_link_to_a_settings_file_has_the_note_of_the_file(config: Path, tmp_path: Path):
    config.touch()
    link = tmp_path / "link.yaml"
    link.symlink_to(config)
    assert note_path(link) == note_path(config)


def test_another_root_is_a_change_of_the_settings(config: Path, tmp_path: Path):
    made(tmp_path / "mirror", config)
    layout = made(tmp_path / "elsewhere", config)
    assert json.loads(note_path(config).read_bytes())["root"] == str(layout.root)
    layout.root.rename(tmp_path / "unmounted")
    with pytest.raises(SettingsError, match="found none"):
        check_root(config, settings(layout.root))


@pytest.mark.parametrize("way", ["renamed", "renamed, and a link", "by the recipe", "another mirror"])
def test_a_root_that_was_moved_is_said_once(way, config: Path, tmp_path: Path, caplog):
    """Where what was unpacked before the move holds paths that lead nowhere."""
    before = made(tmp_path / "mirror", config)
    kind = MarkerKind.SUPERSEDED if way == "by the recipe" else MarkerKind.EXTRACTED
    write_marker(before.marker(kind, "md", "one"), {})
    moved = tmp_path / "moved"
    if way == "another mirror":
        made(moved)
    else:
        before.root.rename(moved)
    if way == "renamed, and a link":
        before.root.symlink_to(moved)
    for _ in range(2):
        made(moved, config)
    said = [record.getMessage() for record in caplog.records]
    assert [each.partition(". ")[0] for each in said] == (
        [f"{moved}: the mirror was at {before.root} before"] if way == "renamed" else []
    )


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 10_000, b'{"id": "a"}'])
def test_a_damaged_note_is_none(content, config: Path, tmp_path: Path):
    layout = made(tmp_path / "mirror", config)
    note_path(config).write_bytes(content)
    layout.root.rename(tmp_path / "unmounted")
    check_root(config, settings(layout.root))
    (tmp_path / "unmounted").rename(layout.root)
    made(layout.root, config)
    assert json.loads(note_path(config).read_bytes())["id"] == mirror_id(layout)


def test_a_mirror_without_an_id_leaves_no_note(config: Path, tmp_path: Path):
    layout = Layout(tmp_path / "mirror")
    layout.root.mkdir()
    (layout.root / "mirror.json").write_text('{"format": 1}')
    check_root(config, settings(layout.root))
    write_note(config, layout)
    assert list(config.parent.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_settings_where_this_user_must_not_write(config: Path, tmp_path: Path):
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_mode & 0o055 != 0o055 and folder.owner() == "root":
            folder.chmod(folder.stat().st_mode | 0o055)
    layout = made(tmp_path / "mirror")
    os.seteuid(65_534)
    try:
        write_note(config, layout)
    finally:
        os.seteuid(0)
    assert list(config.parent.iterdir()) == []
    check_root(config, settings(layout.root))


def test_must_exist_needs_a_mirror_and_no_note(config: Path, tmp_path: Path):
    wanted = settings(tmp_path / "mirror", must_exist=True)
    for below in (lambda: None, wanted.mirror.root.mkdir):
        below()
        with pytest.raises(SettingsError, match="must_exist") as error:
            check_root(config, wanted)
        assert f"found no {wanted.mirror.root}/mirror.json" in str(error.value)
    (wanted.mirror.root / "mirror.json").write_text('{"format": 1}')
    check_root(config, wanted)
