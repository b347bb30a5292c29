"""The command as a whole: help, version, wrong command lines."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import REPOSITORY, ipp_mirror

from pipeline import __version__

COMMANDS = [
    *("adopt", "catalog", "completion", "find", "get", "init", "pause"),
    *("plan", "product", "publish", "resume", "retry", "scheduler"),
    *("serve", "skip", "sql", "status", "unskip", "update"),
    *("verify", "withdraw", "worker"),
]


def test_the_help_lists_every_command_and_every_exit_code():
    shown = ipp_mirror("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    listed = shown.stdout.partition("Commands:")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.strip().splitlines()] == COMMANDS
    assert "..." not in listed, "a summary that is too long for its line"
    codes = shown.stdout.partition("Exit codes:")[2].split("\n")
    assert [int(line.split()[0]) for line in codes if line.strip()] == [0, 10, 20, 25, 30, 35, 40]


@pytest.mark.parametrize("name", [*COMMANDS, "assist"])
def test_the_help_of_each_command_has_its_options_and_examples(name):
    short, long = ipp_mirror(name, "-h"), ipp_mirror(name, "--help")
    assert (long.returncode, long.stderr) == (0, "")
    assert short.stdout == long.stdout
    assert long.stdout.startswith(f"Usage: ipp-mirror {name} ")
    assert "Example" in long.stdout
    takes_settings = name not in {"catalog", "completion", "product", "scheduler"}
    assert ("--config, --mirror-config FILE" in long.stdout) == takes_settings


@pytest.mark.parametrize("name", COMMANDS)
def test_the_guide_names_each_command(name):
    guide = (REPOSITORY / "docs" / "guide.md").read_text()
    table = guide.partition("\n## Commands\n")[2].partition("\n## ")[0]
    assert any(line.startswith((f"| `{name} ", f"| `{name}`")) for line in table.splitlines())


SET_BY_PEOPLE = {
    "UpdateMirror": {"--products"},
    "AdoptMirror": {"--folder", "--by", "--products"},
    "VerifyMirror": {"--repair", "--rate"},
    "DownloadFileset": {"--product", "--fileset"},
}


@pytest.mark.parametrize("task", SET_BY_PEOPLE)
def test_the_help_of_luigi_lists_the_parameters_that_people_set(task):
    luigi = Path(sys.executable).with_name("luigi")
    command = [luigi, "--module", "tasks", task, "--help"]
    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    options = set(re.findall(r"^  (--[a-z-]+)", shown.stdout, re.MULTILINE))
    assert options - {"--help", "--help-all", "--local-scheduler", "--module"} == SET_BY_PEOPLE[task]


def test_the_version():
    shown = ipp_mirror("--version")
    assert (shown.returncode, shown.stdout) == (0, f"ipp-mirror {__version__}\n")


NAME = "name: expected letters, digits and '- + _ . : space', not '.' or '..', got"
WRONG = {
    "updat": ": expected a command, got 'updat'. Did you mean 'update'?",
    "xyzzy": ": expected a command, got 'xyzzy'.",
    "catalog rebild": " catalog: expected a command (check, rebuild), got 'rebild'. Did you mean 'rebuild'?",
    "product put": " product: expected a command (add, list, remove), got 'put'.",
    "--config x status": ": no such option '--config'. Options follow the command: "
    "`ipp-mirror COMMAND --config …`.",
    "update --wrkers 3": " update: no such option '--wrkers'. Did you mean '--workers'?",
    "update today": " update: got unexpected extra argument (today).",
    "update --workers x": " update: invalid value for '--workers': expected a whole number of at least "
    "1, got 'x'.",
    "update --every 1h": " update: --every needs --daemon.",
    "update --daemon --every 0s": " update: invalid value for '--every': "
    "expected a time such as 15min, 6h or 1d, from 1s to 365d, got '0s'.",
    f"update --daemon --every {'999999w' * 150}": " update: invalid value for '--every': "
    f"expected a time such as 15min, 6h or 1d, from 1s to 365d, got '{'999999w' * 150}'.",
    "verify --workers 0": " verify: invalid value for '--workers': expected a whole number of at least "
    "1, got '0'.",
    "worker --scheduler-port 0": " worker: invalid value for '--scheduler-port': "
    "expected a whole number from 1 to 65535, got '0'.",
    "adopt": " adopt: missing argument 'FOLDER'.",
    "adopt . --by mv": " adopt: invalid value for '--by': expected link, rename or copy, got 'mv'.",
    "verify --rate": " verify: option '--rate' requires an argument.",
    "status --config": " status: option '--config' requires an argument.",
    "serve --port 65536": " serve: invalid value for '--port': expected a whole number from 0 to 65535, "
    "got '65536'.",
    "init": " init: missing argument 'URL'.",
    "plan --listings -1": " plan: invalid value for '--listings': expected a whole number of at least "
    "0, got '-1'.",
    "skip p": " skip: missing argument 'FILESET'.",
    "skip p f": " skip: missing option '--reason'.",
    "skip ../p f --reason r": f" skip: invalid value for 'PRODUCT': {NAME} '../p'.",
    "unskip p |": f" unskip: invalid value for 'FILESET': {NAME} '|'.",
    "scheduler --port http": " scheduler: invalid value for '--port': expected a whole number from 1 to "
    "65535, got 'http'.",
    "completion": " completion: missing argument 'SHELL'. Expected bash, zsh or fish.",
    "completion zshh": " completion: invalid value for 'SHELL': expected bash, zsh or fish, got 'zshh'. "
    "Did you mean 'zsh'?",
    "update --products ,": " update: invalid value for '--products': expected names of products, such "
    "as A,B, "
    "got ','.",
    "serve --host ''": " serve: invalid value for '--host': expected a text, got an empty one.",
    "scheduler --address ''": " scheduler: invalid value for '--address': expected a text, got an empty one.",
    "serve --host \udcff": " serve: invalid value for '--host': expected a text, got '\\udcff'.",
    "update --scheduler-host \udcff": " update: invalid value for '--scheduler-host': expected a text, "
    "got '\\udcff'.",
    "resume '\x1b]0;x'": " resume: got unexpected extra argument (\\x1b]0;x).",
    "adopt ''": " adopt: invalid value for 'FOLDER': expected a path, got an empty text.",
    "status --config ''": " status: invalid value for '--config' / '--mirror-config': expected a path, "
    "got an empty text.",
    "retry ''": f" retry: invalid value for '[PRODUCT]': {NAME} ''.",
    "status --html .": " status: invalid value for '--html': expected the path of a file, got the "
    "folder '.'.",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line_is_one_sentence_and_code_40(line):
    refused = ipp_mirror(*shlex.split(line))
    command = f"ipp-mirror{WRONG[line].partition(':')[0]}"
    assert (refused.returncode, refused.stdout) == (40, "")
    assert refused.stderr == f"ipp-mirror{WRONG[line]} Nothing was done; see `{command} --help`.\n"


@pytest.mark.parametrize("group", [(), ("catalog",), ("product",), ("product", "--")], ids=str)
def test_a_group_alone_is_answered_with_its_commands_and_code_40(group):
    shown = ipp_mirror(*group)
    assert (shown.returncode, shown.stdout) == (40, "")
    *lines, sentence = shown.stderr.splitlines()
    assert "\n".join(lines).strip() == ipp_mirror(*group[:1], "--help").stdout.strip()
    name = " ".join(["ipp-mirror", *group[:1]])
    assert re.fullmatch(
        rf"{name}: expected a command( \(.*\))?, got none\. Nothing .*`{name} --help`\.", sentence
    )


WITH_SETTINGS = [
    *("update", "adopt", "worker", "verify", "status", "find", "sql", "serve", "skip", "unskip"),
    *("plan", "get", "retry", "pause", "resume", "publish", "withdraw"),
]


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_settings_that_are_not_there_are_one_sentence_and_code_40(name, tmp_path):
    arguments = {"skip": "p f --reason r", "unskip": "p f", "get": "p f", "adopt": ".", "sql": "SELECT"}
    arguments |= {"publish": "p f x", "withdraw": "p f"}
    more = arguments.get(name, "").split()
    missing = tmp_path / "mirror.yaml"
    refused = ipp_mirror(name, "--config", missing, *more)
    assert refused.returncode == 40
    assert refused.stderr == (
        f"ipp-mirror: {missing}: expected a settings file here, got: No such file or directory. "
        "Write one with `ipp-mirror init`, or name another with --config FILE, IPP_MIRROR_CONFIG or in "
        "luigi.cfg under [mirror].\n"
    )


@pytest.mark.parametrize(
    ("line", "doing", "file"),
    [
        ("find", "find", "catalog/current.json"),
        ("sql SELECT", "sql", "catalog/current.json"),
        ("catalog check", "catalog", "update.lock"),
        ("status", "reading the status of the mirror at {root}", "update.lock"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence_and_code_30(line, doing, file, tmp_path):
    """As where a folder must not be entered: the state is a link to itself."""
    source, catalog = {"url": "http://127.0.0.1:1/ds"}, {"enabled": True}
    settings = {"source": source, "mirror": {"root": "mirror"}, "catalog": catalog}
    (tmp_path / "mirror.yaml").write_text(json.dumps(settings))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "state").symlink_to("state")
    refused = ipp_mirror(*line.split(), "--config", tmp_path / "mirror.yaml")
    assert (refused.returncode, refused.stdout) == (30, "")
    assert refused.stderr == (
        f"ipp-mirror: {doing.format(root=tmp_path / 'mirror')}: Too many levels of symbolic links at "
        f"{tmp_path}/mirror/state/{file}. "
        "See what is wrong with this machine.\n"
    )


def test_the_settings_file_that_luigi_cfg_names(tmp_path):
    (tmp_path / "luigi.cfg").write_text(f"[mirror]\nconfig={tmp_path}/absent.yaml\n")
    refused = ipp_mirror("status", environment={"LUIGI_CONFIG_PATH": str(tmp_path / "luigi.cfg")})
    assert refused.returncode == 40
    assert refused.stderr.startswith(f"ipp-mirror: {tmp_path}/absent.yaml: expected a settings file")


def test_the_module_is_the_same_command():
    command = [sys.executable, "-m", "tasks"]
    for arguments in (["--help"], ["worker", "--help"], ["skip"]):
        module = subprocess.run(
            [*command, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        script = ipp_mirror(*arguments)
        assert (module.returncode, module.stdout, module.stderr) == (
            script.returncode,
            script.stdout,
            script.stderr,
        )


IMPORTED = """
import atexit, sys
atexit.register(lambda: print(*sorted({module.partition(".")[0] for module in sys.modules})))
from tasks.commands import main
main()
"""
WITH_A_BUG = """
import sys
from tasks.commands import ipp_mirror, main
ipp_mirror.command("divide")(lambda: 1 / 0)
sys.argv[1:] = ["divide"]
main()
"""


def test_a_bug_is_a_traceback_and_a_code_of_its_own():
    shown = subprocess.run(
        [sys.executable, "-c", WITH_A_BUG], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    lines = shown.stderr.splitlines()
    assert (shown.returncode, shown.stdout) == (40, "")
    assert lines[0] == "ipp-mirror: a bug in this program, please report it:"
    assert "ZeroDivisionError: division by zero" in lines


SERVER = {"jinja2", "starlette", "uvicorn", "httptools"}
ONLY_ELSEWHERE = SERVER | {"rich", "numpy", "astropy"}
ASKING = {"requests", "urllib3"}
CLIENT = ASKING | {"luigi", "pydantic", "yaml", "isal"}


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        (["--version"], ONLY_ELSEWHERE | CLIENT),
        (["--help"], ONLY_ELSEWHERE | CLIENT),
        (["completion", "bash"], ONLY_ELSEWHERE | CLIENT),
        (["serve", "--port", "x"], ONLY_ELSEWHERE | CLIENT),
        (["status", "--config", "mirror.yaml"], ONLY_ELSEWHERE | ASKING | {"luigi"}),
        (["plan", "--offline", "--config", "mirror.yaml"], ONLY_ELSEWHERE | {"luigi"}),
        (["retry", "--config", "mirror.yaml"], ONLY_ELSEWHERE | ASKING | {"luigi"}),
        (["update", "--config", "mirror.yaml"], ONLY_ELSEWHERE),
    ],
    ids=["version", "help", "completion", "serve", "status", "plan", "retry", "update"],
)
def test_a_command_imports_what_it_needs(arguments, without, tmp_path):
    """The mirror is empty, and its server is unreachable."""
    script = tmp_path / "ipp-mirror"
    script.write_text(IMPORTED)
    source = {"url": "http://127.0.0.1:1/ds", "attempts": 1}
    settings = {"source": source, "mirror": {"root": "mirror", "products": ["p"]}}
    (tmp_path / "mirror.yaml").write_text(json.dumps(settings))
    (tmp_path / "mirror/state").mkdir(parents=True)
    (tmp_path / "mirror/state/update.lock").touch()
    shown = subprocess.run(
        [sys.executable, script, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    imported = set(shown.stdout.splitlines()[-1].split())
    assert "click" in imported, shown.stderr
    assert not without & imported
