"""Standard output and error that are closed, full, without a reader, or not in UTF-8."""

import os
import subprocess
import sys

import pytest
from support.command import REPOSITORY, Ended

PRINTS = """
import sys
sys.argv[0] = "ipp-mirror"
import tasks
from tasks.runtime.streams import output_error
print("1 \\u2026", flush=True)
print("to standard error", file=sys.stderr)
print("2 \\u2026" + 100_000 * "x")
error = output_error()
file = open(sys.argv[1], "w")
print(file.fileno(), error.strerror if error else None, sys.stdin is None or sys.stdin.read(), file=file)
"""


def printed(redirections: str, report: os.PathLike, **environment: str) -> Ended:
    """The end of a program that prints, started by a shell with these redirections."""
    command = f'"$0" -c "$1" "$2" {redirections}'
    result = subprocess.run(
        ["sh", "-c", command, sys.executable, PRINTS, report],
        cwd=REPOSITORY,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(result.returncode, result.stdout + result.stderr)


@pytest.mark.parametrize(
    ("redirections", "error"),
    {
        ">&-": None,
        ">&- 2>&-": None,
        "<&- >&- 2>&-": None,
        ">/dev/full": "No space left on device",
        ">/dev/full 2>&1": "No space left on device",
        "2>/dev/full >&-": None,
        "| true": "Broken pipe",
        "2>&1 | true": "Broken pipe",
    }.items(),
)
def test_what_cannot_be_written_is_dropped(redirections, error, tmp_path):
    result = printed(redirections, tmp_path / "report")
    assert result.code == 0
    assert result.output in {"", "to standard error\n"}
    number, found = (tmp_path / "report").read_text().split(maxsplit=1)
    assert int(number) > 2, "the file has the number of a standard stream"
    if "true" not in redirections:
        assert found.startswith(str(error))


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}],
)
def test_characters_that_the_encoding_lacks_are_escaped(environment, tmp_path):
    result = printed("", tmp_path / "report", **environment)
    assert result.code == 0
    assert result.output.startswith("1 \\u2026\n2 \\u2026xx")


def test_everything_that_can_be_written_is(tmp_path):
    result = printed("", tmp_path / "report", PYTHONIOENCODING="utf-8")
    assert result.output == "1 …\n2 …" + 100_000 * "x" + "\nto standard error\n"
    assert (tmp_path / "report").read_text().split()[1] == "None"
