"""The format number of a root folder: what is written, what is accepted, what is refused."""

import json
from pathlib import Path

import pytest
from conftest import tree

from pipeline.errors import MachineFault, SettingsError
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.root_format import FORMAT, check_root_format, record_root_format


def test_a_root_without_the_file_is_accepted_and_gets_one(tmp_path: Path):
    layout = Layout(tmp_path)
    check_root_format(layout)
    assert tree(tmp_path) == {}
    record_root_format(layout)
    assert tree(tmp_path) == {"mirror.json": b'{"format": 1}\n'}
    check_root_format(layout)


def test_a_root_that_is_not_there_is_accepted(tmp_path: Path):
    check_root_format(Layout(tmp_path / "mirror"))
    (tmp_path / "file").touch()
    check_root_format(Layout(tmp_path / "file"))


def test_other_keys_are_kept(tmp_path: Path):
    text = '{"id": "5f0c", "format": 1, "later": [1, 2]}'
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
    assert str(error.value).startswith(f"{tmp_path}/mirror.json: the mirror is of format 2, ")
    assert "this program supports formats up to 1" in str(error.value)
    assert tree(tmp_path) == {"mirror.json": text.encode()}


DAMAGED = [b"", b'{"format": 1', b"[1]", b"1", b"{}", b"\xff\xfe", b"\0" * 14]
NO_FORMATS = [b'{"format": "1"}', b'{"format": true}', b'{"format": 0}', b'{"format": 1.0}']


@pytest.mark.parametrize("content", [*DAMAGED, *NO_FORMATS])
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
