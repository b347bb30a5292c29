"""Status files of names and reasons that hold control characters."""

import csv
import json

from support.command import ipp_mirror
from support.follower import Follower

from pipeline.config import read_settings
from pipeline.errors import ContentMismatch, FilesFailed
from pipeline.mirror.state.failures import BackOff, record_failure
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.markers import Fileset
from pipeline.reporting.status_files import product_rows, write_status
from tasks.steps import STEPS

REASON = 'got "x", \x1b[31mred\x1b[0m\r\nmd-all,forged,row'
SHOWN = 'got "x", \\x1b[31mred\\x1b[0m\\r\\nmd-all,forged,row'


def test_a_row_is_a_line_of_printable_text(follower: Follower):
    layout = Layout(follower.root)
    error = FilesFailed({"a\x07.fits": ContentMismatch(REASON)})
    record_failure(layout, Fileset("p", "o1", "2009-07-29T00:00:00Z"), "download", error, "run", BackOff(5))
    skipped = layout.marker("skipped", "p", "o2")
    skipped.parent.mkdir()
    skipped.write_text(json.dumps({"schema": 1, "product": "p", "fileset": "o2", "reason": "\x1b]0;x\x07"}))
    write_status(layout, product_rows(layout, read_settings(follower.config), STEPS, ["p"]))

    lines = layout.download_failures.read_text().splitlines()
    assert len(lines) == 2
    assert lines[1].isprintable()
    _, (product, fileset, file, reason, *_) = csv.reader(lines)
    assert (product, fileset, file, reason) == ("p", "o1", "a\\x07.fits", SHOWN)

    layout.lock_file.touch()
    for form in ("--details", "--json", "--check"):
        shown = ipp_mirror("status", form, "--config", follower.config)
        assert (shown.returncode, shown.stderr) == (1 if form == "--check" else 0, "")
        assert shown.stdout.replace("\n", "").isprintable()
        if form == "--details":
            assert "a\\x07.fits" in shown.stdout
            assert SHOWN in shown.stdout
            assert "\\x1b]0;x\\x07" in shown.stdout
