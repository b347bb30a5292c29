"""The format number and the id of a root folder: what is written, what is accepted, what is refused."""

import json
import shutil
from hashlib import md5
from pathlib import Path

import pytest
from support.trees import tree

from pipeline.errors import MachineFault, SettingsError
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.root_format import (
    FORMAT,
    check_root_format,
    mirror_id,
    record_root_format,
    short_id,
)


def test_a_root_without_the_file_is_accepted_and_gets_one(tmp_path: Path):
    layout = Layout(tmp_path)
    check_root_format(layout)
    assert tree(tmp_path) == {}
    assert mirror_id(layout) == ""
    record_root_format(layout)
    written = tree(tmp_path)
    content = json.loads(written.pop("mirror.json"))
    assert written == {}
    assert content == {"format": FORMAT, "id": mirror_id(layout)}
    assert len(content["id"]) == 16
    check_root_format(layout)


def test_an_id_is_made_once_and_two_mirrors_have_two(tmp_path: Path):
    layouts = [Layout(tmp_path / "a"), Layout(tmp_path / "b")]
    for layout in layouts:
        record_root_format(layout)
    ids = [mirror_id(layout) for layout in layouts]
    for layout in layouts:
        record_root_format(layout)
    assert [mirror_id(layout) for layout in layouts] == ids
    assert ids[0] != ids[1]


def test_a_mirror_without_an_id_gets_one_and_keeps_its_other_keys(tmp_path: Path):
    (tmp_path / "mirror.json").write_text('{"format": 1, "later": [1, 2]}')
    layout = Layout(tmp_path)
    assert mirror_id(layout) == ""
    record_root_format(layout)
    content = json.loads((tmp_path / "mirror.json").read_bytes())
    assert content == {"format": FORMAT, "later": [1, 2], "id": mirror_id(layout)}
    assert mirror_id(layout)


@pytest.mark.parametrize(("number", "stays"), [(1, False), (FORMAT, True)])
def test_the_folder_of_the_workers_of_format_1_is_removed(number: int, stays: bool, tmp_path: Path):
    (tmp_path / "mirror.json").write_text(json.dumps({"format": number, "id": "a"}))
    left = tmp_path / "assistants" / "host.1.json"
    left.parent.mkdir()
    left.touch()
    record_root_format(Layout(tmp_path))
    assert left.exists() == stays


def test_a_mirror_whose_format_cannot_be_raised_is_not_worked_on(tmp_path: Path):
    layout = Layout(tmp_path)
    (tmp_path / "mirror.json").write_text('{"format": 1}')
    layout.state("p").mkdir(parents=True)
    # The file that gets the new content before it is renamed.
    temporary = f".{md5(b'mirror.json').hexdigest()}.writing"
    (tmp_path / temporary).mkdir()
    with pytest.raises(MachineFault, match="raising the format of the mirror"):
        record_root_format(layout)
    layout.state("p").rmdir()
    record_root_format(layout)


def test_a_copy_of_a_mirror_has_the_same_id_and_another_short_id(tmp_path: Path):
    original, copy = Layout(tmp_path / "a"), Layout(tmp_path / "b")
    record_root_format(original)
    shutil.copytree(original.root, copy.root)
    assert mirror_id(copy) == mirror_id(original)
    assert short_id(copy) != short_id(original)
    assert len(short_id(copy)) == 8


def test_a_root_that_takes_no_file_has_a_short_id_all_the_same(tmp_path: Path):
    layout = Layout(tmp_path / "file")
    layout.root.touch()
    record_root_format(layout)
    assert mirror_id(layout) == ""
    assert short_id(layout) != short_id(Layout(tmp_path))


def test_a_root_that_is_not_there_is_accepted(tmp_path: Path):
    check_root_format(Layout(tmp_path / "mirror"))
    (tmp_path / "file").touch()
    check_root_format(Layout(tmp_path / "file"))


def test_other_keys_are_kept(tmp_path: Path):
    text = '{"id": "5f0c", "format": 2, "later": [1, 2]}'
    (tmp_path / "mirror.json").write_text(text)
    record_root_format(Layout(tmp_path))
    assert tree(tmp_path) == {"mirror.json": text.encode()}


@pytest.mark.parametrize("work", [check_root_format, record_root_format])
def test_a_higher_format_is_refused(work, tmp_path: Path):
    text = json.dumps({"format": FORMAT + 1})
    (tmp_path / "mirror.json").write_text(text)
    with pytest.raises(
        SettingsError, match="Use a newer version of ipp-mirror; nothing was started"
    ) as error:
        work(Layout(tmp_path))
    assert str(error.value).startswith(f"{tmp_path}/mirror.json: the mirror is of format 3, ")
    assert "this program supports formats up to 2" in str(error.value)
    assert tree(tmp_path) == {"mirror.json": text.encode()}


DAMAGED = [b"", b'{"format": 1', b"[1]", b"1", b"{}", b"\xff\xfe", b"\0" * 14]
NO_FORMATS = [b'{"format": "1"}', b'{"format": true}', b'{"format": 0}', b'{"format": 1.0}', b"[" * 10_000]
NO_IDS = [b'{"format": 1, "id": %s}' % value for value in (b'""', b"1", b"null", b'"a b"', b'"%065d"' % 0)]


@pytest.mark.parametrize("content", [*DAMAGED, *NO_FORMATS, *NO_IDS])
@pytest.mark.parametrize("work", [check_root_format, record_root_format])
def test_a_damaged_file_is_refused(work, content, tmp_path: Path):
    (tmp_path / "mirror.json").write_bytes(content)
    with pytest.raises(SettingsError, match="the file is damaged") as error:
        work(Layout(tmp_path))
    assert str(error.value).startswith(f"{tmp_path}/mirror.json: expected")
    assert tree(tmp_path) == {"mirror.json": content}


def test_a_file_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "mirror.json").mkdir()
    with pytest.raises(MachineFault, match=r"reading the format of the mirror: .*mirror.json"):
        check_root_format(Layout(tmp_path))
