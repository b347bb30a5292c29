"""Files with Luigi's settings that cannot be read, and names that ``[mirror]`` does not have."""

from pathlib import Path

import pytest
from support.command import ipp_mirror

from tasks.commands.luigi_files import name_settings, unreadable_file

WRONG = {
    b"[mirror\nconfig=x\n": "line 1: expected a section such as [mirror] first, got none",
    b"config=x\n[mirror]\n": "line 1: expected a section such as [mirror] first, got none",
    b"[mirror]\nconfig=x\n\nrubbish\n": "line 4: expected 'name = value' or a section such as [mirror], "
    "got neither",
    b"[smtp]\npassword secret\n": "line 2: expected 'name = value' or a section such as [mirror], "
    "got neither",
    b"[mirror]\nconfig=x\nconfig=y\n": "line 3: expected 'config' once in section [mirror], got it twice",
    b"[mirror]\n[core]\n[mirror]\n": "line 3: expected section [mirror] once, got it twice",
    b"[mirror]\nconfig=\xe9\n": "line 2: expected text, got the byte 0xe9",
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch) -> Path:
    """The file that LUIGI_CONFIG_PATH names, beside a folder with a sound luigi.cfg."""
    (tmp_path / "luigi.cfg").write_text("[core]\nWorkers=1\nworkers=2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUIGI_CONFIG_PATH", str(tmp_path / "other.cfg"))
    return tmp_path / "other.cfg"


@pytest.mark.parametrize("content", WRONG)
def test_a_file_that_luigi_cannot_read_is_one_sentence_with_its_line(content, file):
    file.write_bytes(content)
    assert str(unreadable_file()) == f"{file}, {WRONG[content]}. Correct the file; nothing was started."


@pytest.mark.parametrize("content", [None, b"", b"[mirror]\nconfig=%(x)s ${Y}\n"])
def test_a_file_that_luigi_reads(content, file):
    if content is not None:
        file.write_bytes(content)
    assert unreadable_file() is None
    assert name_settings() == bool(content)


@pytest.mark.parametrize(
    ("command", "content", "said"),
    [
        ("update", "[mirror]\n[mirror]\n", "{file}, line 2: expected section [mirror] once, got it twice. "),
        (
            "status",
            "[mirror]\nkonsole=x\n",
            "section [mirror] of luigi.cfg: unknown setting 'konsole'. Did you mean",
        ),
        (
            "update",
            "[mirror]\nprogress=foo\n",
            "section [mirror] of luigi.cfg: progress: expected one of auto, none, plain, bar, got 'foo'. N",
        ),
    ],
)
def test_a_command_says_what_is_wrong_and_ends_with_code_40(command, content, said, tmp_path):
    file = tmp_path / "luigi.cfg"
    file.write_text(content)
    refused = ipp_mirror(command, environment={"LUIGI_CONFIG_PATH": str(file)})
    assert (refused.returncode, refused.stdout) == (40, "")
    assert refused.stderr.startswith(f"ipp-mirror: {said.format(file=file)}")
    assert refused.stderr.count("\n") == 1
