"""The units in ``contrib/systemd``, as systemd itself reads them."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
from support.command import COMMAND, REPOSITORY

from pipeline.errors import EXIT_ALREADY_RUNNING, EXIT_SETTINGS_OR_BUG, EXIT_STOPPED

UNITS = REPOSITORY / "contrib" / "systemd"
SERVICES = ["ipp-mirror.service", "ipp-mirror-daemon.service"]
# Of 100: `systemd-analyze security` adds up what a service could do; an unrestricted one has 96.
EXPOSURE_AT_MOST = 20

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze, of systemd 250 or later"
)


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units with the program where it is, which systemd looks for."""
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/ipp-mirror/.venv/bin/ipp-mirror", str(COMMAND))
        (tmp_path / unit.name).write_text(text)
    return tmp_path


@needs_systemd
@pytest.mark.parametrize("name", [*SERVICES, "ipp-mirror.timer"])
def test_systemd_has_nothing_to_say_about_a_unit(name, installed: Path):
    read = analyze("verify", "--man=no", installed / name)
    assert (read.returncode, read.stdout, read.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_little_else(name):
    read = analyze("security", "--offline=true", f"--threshold={EXPOSURE_AT_MOST}", UNITS / name)
    assert read.returncode == 0, read.stdout + read.stderr


def service(name: str) -> configparser.SectionProxy:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNITS / name)
    return unit["Service"]


def test_a_run_that_is_not_to_begin_or_to_end_is_no_failure():
    codes = service("ipp-mirror.service")["SuccessExitStatus"].split()
    assert codes == [str(EXIT_ALREADY_RUNNING), str(EXIT_STOPPED)]


def test_a_daemon_that_is_stopped_is_no_failure_and_one_with_wrong_settings_is_not_started_again():
    read = service("ipp-mirror-daemon.service")
    assert read["SuccessExitStatus"] == str(EXIT_STOPPED)
    assert read["RestartPreventExitStatus"] == str(EXIT_SETTINGS_OR_BUG)
