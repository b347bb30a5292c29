"""``ipp-mirror update``."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import REPOSITORY, ipp_mirror
from support.follower import Follower
from support.upstream import File, Upstream, served_filesets

from pipeline.errors import SettingsError
from tasks.commands import ipp_mirror as command


@pytest.fixture
def no_scheduler(tmp_path: Path):
    """Settings of Luigi with a scheduler address at which nobody answers, and the address."""
    with socket.socket() as taken:
        # Bound but not listening: connections are refused, and nobody else gets the port.
        taken.bind(("127.0.0.1", 0))
        path = tmp_path / "no-scheduler.cfg"
        path.write_text(f"[core]\nscheduler_port={taken.getsockname()[1]}\n")
        yield {"LUIGI_CONFIG_PATH": str(path)}, f"http://127.0.0.1:{taken.getsockname()[1]}/"


def test_an_update_of_some_products(upstream: Upstream, follower: Follower, no_scheduler):
    settings, url = no_scheduler
    for product in ("one", "two", "three"):
        upstream.add(product, f"of-{product}", [File("r.fits", product.encode())])
    some = ipp_mirror(
        *("update", "--config", follower.config, "--products", "one,two", "--workers", "2"),
        environment=settings,
    )
    assert some.returncode == 0, some.stderr
    assert some.stdout.splitlines()[0] == f"scheduler: local, as none answers at {url}"
    assert follower.content("store") == served_filesets(upstream, "one", "two")
    rest = ipp_mirror("update", "--mirror-config", follower.config, environment=settings)
    assert rest.returncode == 0, rest.stderr
    assert follower.content("store") == served_filesets(upstream)


def test_a_product_that_is_not_in_the_settings(upstream: Upstream, follower: Follower, no_scheduler):
    upstream.add("one", "of-one", [File("r.fits", b"one")])
    refused = ipp_mirror(
        "update", "--config", follower.config, "--products", "other", environment=no_scheduler[0]
    )
    assert refused.returncode == 40
    assert refused.stderr.startswith("ipp-mirror: --products: expected some of one, got other.")
    assert refused.stderr.count("\n") == 1


SLOW_IMPORT = """
import sys, time
class Slow:
    def find_spec(name, *_):
        if name == "tasks.verify":
            print("importing", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow)
from tasks.commands import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_command_is_loaded(number, follower: Follower, tmp_path: Path):
    script = tmp_path / "ipp-mirror"
    script.write_text(SLOW_IMPORT)
    with subprocess.Popen(
        [sys.executable, script, "update", "--config", str(follower.config)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as loading:
        assert loading.stdout.readline() == "importing\n"
        loading.send_signal(number)
        assert loading.wait(60) == 25
        said = loading.stderr.read()
    assert said == "ipp-mirror: stopped on request before anything was started; the next run goes on.\n"
    assert not follower.root.exists()


def test_a_daemon_does_not_begin_with_settings_that_are_wrong(tmp_path: Path):
    with pytest.raises(SettingsError, match="expected a settings file"):
        command.main(["update", "--daemon", "--config", str(tmp_path / "absent.yaml")], standalone_mode=False)
