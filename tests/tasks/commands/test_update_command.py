"""``ipp-mirror update``."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import COMMAND, REPOSITORY, ended, ipp_mirror
from support.follower import Follower
from support.running import free_port
from support.upstream import File, Upstream, served_filesets

from pipeline.errors import SettingsError
from pipeline.mirror.state.layout import Layout
from tasks.commands import ipp_mirror as command

NO_MIRROR = "no mirror at {root}: expected {root}/state/update.lock, which the first update makes. "


def without_scheduler(port: int) -> list[str]:
    """The beginning of an update that finds no scheduler at the port."""
    return ["update", "--scheduler-port", str(port)]


def test_an_update_of_some_products(upstream: Upstream, follower: Follower):
    port = free_port()
    update = [*without_scheduler(port), "--config", follower.config]
    for product in ("one", "two", "three"):
        upstream.add(product, f"of-{product}", [File("r.fits", product.encode())])
    some = ipp_mirror(*update, "--products", "one,two", "--workers", "2")
    assert some.returncode == 0, some.stderr
    assert some.stdout.splitlines()[0] == f"scheduler: local, as none answers at http://127.0.0.1:{port}/"
    assert follower.content("store") == served_filesets(upstream, "one", "two")
    rest = ipp_mirror(*without_scheduler(port), "--mirror-config", follower.config)
    assert rest.returncode == 0, rest.stderr
    assert follower.content("store") == served_filesets(upstream)


def test_a_product_that_is_not_in_the_settings(upstream: Upstream, follower: Follower):
    upstream.add("one", "of-one", [File("r.fits", b"one")])
    update = [*without_scheduler(free_port()), "--config", follower.config]
    refused = ipp_mirror(*update, "--products", "other")
    assert (refused.returncode, refused.stdout) == (40, "")
    assert refused.stderr.startswith("ipp-mirror: expected a product of this mirror (one), got 'other'. ")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("update --products other", 40, "expected a product of this mirror (one), got 'other'."),
        ("adopt {folder} --products other", 40, "expected a product of this mirror (one), got 'other'."),
        ("get other some", 40, "expected a product of this mirror (one), got 'other'."),
        ("verify", 40, NO_MIRROR),
        ("verify --upstream", 40, NO_MIRROR),
        ("catalog check", 40, NO_MIRROR),
        ("retry", 40, NO_MIRROR),
        ("pause", 40, NO_MIRROR),
        ("publish own some {folder}/mirror.yaml", 40, "expected a product of this site's own (none), got"),
        ("withdraw own some", 40, "expected a product of this site's own (none), got 'own'."),
        ("verify --rate fast", 40, "--rate: expected a rate such as 50 MB/s, got 'fast'."),
        ("verify --upstream --rate 1MB/s", 40, "--rate: expected without --upstream, "),
        ("worker", 10, "{root}: expected an update of this mirror that runs with a central scheduler, found"),
        ("luigi UpdateMirror --products other", 40, "expected a product of this mirror (one), got 'other'."),
        ("luigi VerifyMirror", 40, NO_MIRROR),
        ("luigi VerifyMirror --rate fast", 40, "--rate: expected a rate such as 50 MB/s, got 'fast'."),
        ("luigi CompareMirror", 40, NO_MIRROR),
    ],
)
def test_nothing_is_made_and_nothing_else_said_when_the_first_run_is_refused(
    line, code, sentence, follower: Follower
):
    follower.mirror["products"] = ["one"]
    said = refusal(line, code, follower)
    assert said.startswith(f"ipp-mirror: {sentence.format(root=follower.root)}")


@pytest.mark.parametrize(
    "line", ["update --products other", "adopt {folder} --products other", "get other some"]
)
def test_nothing_is_made_for_a_product_that_the_server_does_not_list(line, upstream, follower: Follower):
    upstream.add("one", "of-one", [File("r.fits", b"one")])
    follower.source["hidden_products"] = ["two"]
    said = refusal(line, 40, follower)
    assert said.startswith("ipp-mirror: expected a product of this mirror (one, two), got 'other'. If http")


def test_nothing_is_made_where_a_volume_is_not_mounted(follower: Follower):
    follower.mirror |= {"products": ["one"], "volumes": {"one": str(follower.folder / "absent")}}
    said = refusal("update", 40, follower)
    assert said.startswith(f"ipp-mirror: the volume {follower.folder}/absent is not mounted: ")


def refusal(line: str, code: int, follower: Follower) -> str:
    """Return the one sentence that the first run says of a mirror of which it makes nothing."""
    name, *more = line.format(folder=follower.folder).split()
    if name == "luigi":
        luigi = [str(COMMAND.with_name("luigi")), "--module", "tasks", *more, "--local-scheduler"]
        refused = ended([*luigi, "--mirror-config", str(follower.config)])
        assert refused.code == code
        said = refused.output
    else:
        run = ipp_mirror(name, *more, "--config", follower.config)
        assert (run.returncode, run.stdout) == (code, "")
        said = run.stderr
    assert said.count("\n") == 1, said
    assert {path.name for path in follower.folder.iterdir()} <= {"mirror.yaml", "upstream"}
    return said


def test_a_paused_mirror_is_all_that_is_said(follower: Follower):
    layout = Layout(follower.root)
    layout.lock_file.parent.mkdir(parents=True)
    layout.lock_file.touch()
    assert ipp_mirror("pause", "--config", follower.config).returncode == 0
    refused = ipp_mirror("update", "--config", follower.config)
    assert (refused.returncode, refused.stdout) == (10, "")
    assert refused.stderr.startswith(f"ipp-mirror: {follower.root}: paused since ")


def test_what_luigi_cannot_begin_with_is_code_40(follower: Follower, tmp_path: Path):
    settings = tmp_path / "luigi.cfg"
    settings.write_text("[worker]\nwait_interval=several\n")
    update = [*without_scheduler(free_port()), "--config", follower.config]
    refused = ipp_mirror(*update, environment={"LUIGI_CONFIG_PATH": str(settings)})
    assert refused.returncode == 40
    assert refused.stderr.startswith("ipp-mirror: a bug in this program, please report it:\nTraceback ")
    assert "'several'" in refused.stderr
    assert not follower.root.exists()


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
