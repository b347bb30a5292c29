"""Options ``--quiet`` and ``--verbose``, and which of the standard streams has what."""

import pytest
from click.testing import CliRunner
from support.command import ipp_mirror
from support.follower import Follower
from support.summary_line import numbers
from support.upstream import File, Upstream

from pipeline.sample import faults
from tasks.commands import ipp_mirror as cli

PRODUCT = "md"


@pytest.fixture(autouse=True)
def release(upstream: Upstream) -> Upstream:
    for name in ("a", "b"):
        upstream.add(PRODUCT, name, [File(f"{name}.fits", name.encode())])
    return upstream


def run(follower: Follower, *command: object, code: int = 0) -> tuple[list[str], list[str]]:
    """Return the lines of standard output and of standard error."""
    done = ipp_mirror(*command, "--config", follower.config)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_quiet_prints_nothing_when_all_is_well(release: Upstream, follower: Follower):
    assert run(follower, "adopt", release.folder, "--quiet") == ([], [])
    assert run(follower, "update", "--quiet") == ([], [])
    assert run(follower, "status", "--quiet") == ([], [])
    assert run(follower, "verify", "-q") == ([], [])


def test_the_path_of_the_settings_may_have_any_characters(follower: Follower):
    config = follower.config.rename(follower.folder / "50% %(of)s ${IT}.yaml")
    done = ipp_mirror("update", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")


def test_quiet_prints_nothing_where_no_task_runs(follower: Follower):
    run(follower, "update")
    for command in (["pause"], ["resume"], ["resume"], ["retry"], ["get", "--forget", PRODUCT, "*"]):
        arguments = [*command, "--quiet", "--config", str(follower.config)]
        done = CliRunner().invoke(cli, arguments)
        assert (done.exit_code, done.output) == (0, ""), command


def test_quiet_prints_nothing_when_another_run_or_a_pause_is_in_the_way(follower: Follower):
    assert run(follower, "worker", "--quiet", code=10) == ([], [])
    run(follower, "update", "--quiet")
    run(follower, "pause")
    assert run(follower, "update", "--quiet", code=10) == ([], [])
    _, [refused] = run(follower, "update", code=10)
    assert "paused since" in refused


def test_quiet_prints_what_is_wrong_and_the_numbers(server, follower: Follower):
    server.faults.append(faults.fails(403, target=f"{PRODUCT}/*/*.fits"))
    output, errors = run(follower, "update", "--quiet", code=30)
    assert len(output) == 1
    assert output[0].startswith(f"filesets: {numbers(2, 2, 0, failed=2)}; ")
    failed, product, repeated = errors
    assert failed.startswith(f"fileset {PRODUCT}/")
    assert "got 403" in failed
    assert product.startswith(f"product {PRODUCT}: 2 of 2 pending filesets failed")
    assert repeated.startswith("1 more fileset failed for the same reason as fileset")


def test_errors_are_on_standard_error_and_all_else_on_standard_output(server, follower: Follower):
    server.faults.append(faults.fails(403, target=f"{PRODUCT}/a/*.fits"))
    output, errors = run(follower, "update", code=30)
    assert [line.split(":")[0] for line in output] == ["scheduler", "filesets"]
    assert [line.split(":")[0] for line in errors] == [f"fileset {PRODUCT}/a", f"product {PRODUCT}"]


def test_verbose_prints_all_that_the_log_has(server, follower: Follower):
    server.faults.append(faults.fails(403, target=f"{PRODUCT}/*/*.fits"))
    output, errors = run(follower, "update", "-v", code=30)
    log = (follower.root / "log" / "update_mirror.log").read_text().splitlines()
    assert sorted(line.split(" ", 3)[3] for line in log) == sorted([*output, *errors])
    assert [line for line in output if line.startswith("run begins: ")]
    assert len([line for line in errors if "got 403" in line]) == 2


def test_quiet_and_verbose_exclude_each_other(follower: Follower):
    _, [refused] = run(follower, "update", "-q", "-v", code=40)
    assert refused.startswith("ipp-mirror update: --quiet and --verbose exclude each other. Nothing was done")
