"""Notifications of updates: one message for each run with news, and the commands of the administrator."""

import json
from pathlib import Path

import pytest
from support.command import ended
from support.follower import Follower
from support.smtp import mail_server, text_of
from support.upstream import File, Upstream

from pipeline.sample import faults

PRODUCT = "md"


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """A command that appends its input and its fileset to a file."""
    path = tmp_path / "hook"
    path.write_text(f'#!/bin/sh\necho "$1:$IPP_MIRROR_FILESET" >> {tmp_path}/$1\ncat >> {tmp_path}/$1\n')
    path.chmod(0o755)
    return path


def update(follower: Follower, notify: dict[str, object], code: int) -> str:
    settings = json.loads(follower.config.read_text()) | {"notify": notify}
    path = follower.folder / "mirror.yaml"
    command = follower.command()
    path.write_text(json.dumps(settings))
    result = ended(command)
    assert result.code == code, result.output
    return result.output


def test_one_message_for_each_run_with_news(upstream: Upstream, server, follower: Follower):
    upstream.add(PRODUCT, "good", [File("g.fits", b"g")])
    upstream.add(PRODUCT, "bad", [File("b.fits", b"b")])
    refusal = faults.fails(403, target=f"{PRODUCT}/bad/*.fits")
    server.faults.append(refusal)
    with mail_server() as mails:
        notify = {"urls": [mails.url]}
        for code in (30, 30):
            assert "notify" not in update(follower, notify, code)
        assert len(mails.messages) == 1
        server.faults.remove(refusal)
        for _ in range(2):
            update(follower, notify, 0)
    first, second = mails.messages
    assert first["Subject"].replace("\n", "").endswith(": 1 fileset complete, 1 failed")
    said = " ".join(text_of(first).split())
    assert f"{PRODUCT}: 1 fileset complete: good failed (1 fileset): {PRODUCT}, step download: bad" in said
    assert "got 403" in said
    assert second["Subject"].replace("\n", "").endswith(": 1 fileset complete")
    assert "Nothing is wrong." in text_of(second)


def test_commands_get_the_paths_of_filesets_and_the_summary(upstream, follower: Follower, hook: Path):
    upstream.add_bundles(PRODUCT, "o1.chip.1.1.1", {"XY01": {"a.fits": b"a"}})
    notify = {"on_complete": f"{hook} complete", "on_run": f"{hook} run"}
    update(follower, notify, 0)
    first, *paths = hook.with_name("complete").read_text().splitlines()
    assert first == "complete:o1.chip.1.1.1"
    folder, name = follower.root / "store" / PRODUCT / "o1.chip.1.1.1", "index.txt"
    unpacked = {str(follower.root / "data" / path) for path in follower.content("data")}
    assert set(paths) == unpacked | {str(path) for path in folder.iterdir() if path.name != name}
    summary = json.loads(hook.with_name("run").read_text().partition("\n")[2])
    assert (summary["schema"], summary["news"], summary["code"], summary["filesets"]) == (1, True, 0, 1)
    assert (summary["complete"], summary["failed"]) == ({PRODUCT: ["o1.chip.1.1.1"]}, [])
    hook.with_name("run").unlink()
    update(follower, notify, 0)
    summary = json.loads(hook.with_name("run").read_text().partition("\n")[2])
    assert (summary["news"], summary["complete"]) == (False, {})
    assert len(hook.with_name("complete").read_text().splitlines()) == 1 + len(paths)
    # Killed now, it would have a second row by it.
    state, there = follower.root / "state", hook.with_name("there")
    (state / "progress.json").touch()
    # A status file that cannot be written says nothing of filesets.
    (follower.root / "status" / "metrics.prom").unlink()
    (follower.root / "status" / "metrics.prom" / "mine").mkdir(parents=True)
    output = update(follower, {"on_run": f"find {state} -name progress.json -fprint {there}"}, 30)
    assert there.read_text() == ""
    assert "filesets: none new, all that are selected complete; nothing fetched in " in output


def test_what_cannot_be_notified_is_a_warning_and_no_failure(upstream, follower: Follower):
    upstream.add(PRODUCT, "a", [File("a.fits", b"a")])
    upstream.add(PRODUCT, "b", [File("b.fits", b"b")])
    notify = {"urls": ["env:MISSING_URL"], "on_complete": "false", "on_run": "/nowhere/hook"}
    output = update(follower, notify, 0)
    assert output.count("notify.on_complete, fileset") == 1
    assert "notify.on_complete: 2 commands failed" in output
    assert "notify.on_run: /nowhere/hook: No such file or directory. The run is not affected." in output
    assert output.count("expected an address in the environment variable MISSING_URL") == 1
    assert not (follower.root / "state" / "notified.json").exists()
