"""Completion in a shell."""

import subprocess

import pytest
from support.command import ipp_mirror


def test_bash_accepts_the_script():
    script = ipp_mirror("completion", "bash")
    assert (script.returncode, script.stderr) == (0, "")
    checked = subprocess.run(["bash", "-n"], input=script.stdout, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "complete -o nosort -F _ipp_mirror_completion ipp-mirror" in script.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_last_line_says_how_the_script_is_used(shell):
    script = ipp_mirror("completion", shell)
    assert script.returncode == 0
    last = script.stdout.splitlines()[-1]
    assert last.startswith("# To use this")
    assert f"ipp-mirror completion {shell}" in last


def test_the_zsh_script_begins_with_the_line_that_zsh_looks_for():
    assert ipp_mirror("completion", "zsh").stdout.startswith("#compdef ipp-mirror\n")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ipp-mirror u", ["update", "unskip"]),
        ("ipp-mirror a", ["adopt"]),
        ("ipp-mirror as", []),
        ("ipp-mirror adopt --by ", ["link", "rename", "copy"]),
        ("ipp-mirror verify --re", ["--repair"]),
        ("ipp-mirror worker --sch", ["--scheduler-host", "--scheduler-port"]),
        ("ipp-mirror completion z", ["zsh"]),
    ],
)
def test_what_is_offered(words, offered):
    asked = {
        "_IPP_MIRROR_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    answer = ipp_mirror(environment=asked)
    lines = filter(None, answer.stdout.splitlines())
    assert sorted(line.partition(",")[2] for line in lines) == sorted(offered)
