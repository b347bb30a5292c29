"""Defaults of Luigi's settings: the same in every folder, unless a file there says otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import luigi.interface
import luigi.retcodes
import luigi.scheduler
import luigi.worker
import pytest
from support.command import REPOSITORY
from support.follower import Follower
from support.running import Turnstile, started, until
from support.upstream import File, Upstream

from tasks.runtime.luigi_settings import DEFAULTS

SECTIONS = {
    "core": luigi.interface.core,
    "worker": luigi.worker.worker,
    "scheduler": luigi.scheduler.scheduler,
    "retcode": luigi.retcodes.retcode,
}
# Read by Luigi without a parameter.
PLAIN = {"rpc_retry_attempts", "rpc_retry_wait", "no_configure_logging"}
CONNECTIONS = 5


def test_each_default_is_a_setting_of_luigi():
    assert DEFAULTS.keys() == SECTIONS.keys()
    for section, options in DEFAULTS.items():
        assert options.keys() - PLAIN <= set(SECTIONS[section].get_param_names()), section


READ = """
import luigi
import tasks.workflow
from luigi.scheduler import scheduler
from luigi.worker import worker
print(luigi.interface.core().workers, worker().ping_interval, scheduler().retry_delay)
"""


@pytest.mark.parametrize(
    ("file", "values"), [(None, "0 5.0 86400.0"), ("[worker]\nping_interval=7\n", "0 7.0 86400.0")]
)
def test_a_file_overrides_its_own_lines_only(file, values, tmp_path: Path):
    if file is not None:
        (tmp_path / "luigi.cfg").write_text(file)
    read = subprocess.run(
        [sys.executable, "-c", READ], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert read.stdout.split("\n")[0] == values


@pytest.mark.parametrize(("file", "at_once"), [(None, CONNECTIONS), ("[core]\nworkers=2\n", 2)])
def test_an_update_in_a_folder_without_the_file(
    file, at_once, upstream: Upstream, follower: Follower, server, tmp_path: Path
):
    for number in range(3 * CONNECTIONS):
        upstream.add("p", f"f{number}", [File("a.fits", b"a")])
    files = Turnstile()
    server.faults.append(files.fault("p/*/a.fits"))
    follower.source = {"connections": CONNECTIONS, "timeout": 60}
    if file is not None:
        (tmp_path / "luigi.cfg").write_text(file)
    command = [sys.executable, "-c", f"import os, sys; os.chdir({str(tmp_path)!r}); {START}"]
    with started([*command, "update", "--config", str(follower.config)], tmp_path / "output", PATH) as update:
        until(lambda: files.waiting == at_once or update.ended, "not as many as there should be")
        files.open()
        assert update.wait().code == 0, update.output
    assert follower.marked("downloaded", "p") == set(upstream.products["p"])


START = "sys.argv[0] = 'ipp-mirror'; from tasks.commands import main; main()"
PATH = {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}
