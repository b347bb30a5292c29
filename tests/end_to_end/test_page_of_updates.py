"""The page ``status/index.html`` after updates, and by ``ipp-mirror status --html``."""

import json
import os
import socket

from click.testing import CliRunner
from support.upstream import File

from pipeline.mirror.state.layout import Layout
from pipeline.reporting.history import KILLED, read_history
from pipeline.reporting.progress import RunProgress, write_progress
from pipeline.sample import faults
from tasks.commands import ipp_mirror

PRODUCT = "md-all-rel-200907"


def kill_a_run(layout: Layout) -> None:
    """Leave what a run leaves that is killed after it has fetched 700 bytes."""
    since = "2026-07-10T11:00:00Z"
    layout.lock_file.write_text(
        json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": since})
    )
    progress = RunProgress(since, "filesets", 0, 1, 0, 700, 0, True, 0, 0, 0, "UpdateMirror", 700)
    write_progress(layout, progress)


def test_an_update_with_news_or_that_is_refused_ends_with_a_new_page(upstream, server, follower, tmp_path):
    upstream.add_bundles(PRODUCT, "o1.chip", {"XY01": {"a.fits": b"A" * 5000}})
    upstream.add(PRODUCT, "wrong", [File("w.fits", b"w", listed={"md5": "0" * 32})])
    follower.mirror["page"] = True
    first = follower.update()
    assert first.code == 30
    layout = Layout(follower.root)
    assert [record.left for record in read_history(layout)] == [1]
    text = layout.page.read_text()
    assert "<dt>Running</dt><dd>nothing</dd>" in text
    assert "with code 30: product md-all-rel-200907: 1 of 2 pending filesets failed" in text

    upstream.withdraw(PRODUCT, "wrong")
    upstream.add(PRODUCT, "right", [File("r.fits", b"r")])
    kill_a_run(layout)
    assert follower.update().code == 0
    assert [(each.code, each.bytes) for each in read_history(layout)[1:2]] == [(KILLED, 700)]
    renewed = layout.page.stat()
    assert "with code 0" in layout.page.read_text()
    assert follower.update().code == 0
    assert layout.page.stat().st_mtime_ns == renewed.st_mtime_ns
    server.faults.append(faults.fails(404, target="index.txt"))
    assert follower.update().code == 20
    assert "with code 20" in layout.page.read_text()

    path = tmp_path / "page.html"
    shown = CliRunner().invoke(ipp_mirror, ["status", "--config", str(follower.config), "--html", str(path)])
    assert (shown.exit_code, shown.output) == (0, "")
    assert path.read_text().startswith("<!DOCTYPE html>\n")
    assert [record.left for record in read_history(layout)] == [1, None, 0, 0, None]


def test_a_run_that_was_killed_has_its_row_though_the_next_one_cannot_begin(server, follower):
    layout = Layout(follower.root)
    layout.lock_file.parent.mkdir(parents=True)
    kill_a_run(layout)
    (layout.log_file / "mine").mkdir(parents=True)
    assert follower.update().code == 30
    assert [(each.code, each.bytes) for each in read_history(layout)] == [(KILLED, 700)]
