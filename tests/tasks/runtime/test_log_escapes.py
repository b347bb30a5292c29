"""Log file and console: what they show of names from outside, and of messages with several lines."""

import logging
import re

from tasks.runtime.log import log_to

RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) ")


def test_control_characters_are_escapes_on_console_and_in_the_log(tmp_path, capsys):
    with log_to(tmp_path / "log" / "update.log"):
        logging.getLogger("pipeline.test").error("fileset %s failed", "a\x1b[31m\r\u202e")
        logging.getLogger("luigi-interface").warning("task %s", "b\x07")
    assert capsys.readouterr().err == "fileset a\\x1b[31m\\r\\u202e failed\n"
    log = (tmp_path / "log" / "update.log").read_text()
    assert [RECORD.sub("", line) for line in log.splitlines()] == [
        "fileset a\\x1b[31m\\r\\u202e failed",
        "task b\\x07",
    ]


def test_only_records_begin_at_the_margin(tmp_path, capsys):
    forged = "a name\n2026-11-26 12:00:00,000 INFO filesets: 9 new, 9 done"
    with log_to(tmp_path / "update.log"):
        logging.getLogger("tasks.test").info("%s", forged)
    (record, further) = (tmp_path / "update.log").read_text().splitlines()
    assert RECORD.match(record)
    assert not RECORD.match(further)
    assert further == "    " + forged.splitlines()[1]
    assert capsys.readouterr().out == forged.replace("\n", "\n    ") + "\n"
