"""Line at the end of a terminal while a block runs."""

import io
import sys

from support.running import until

from tasks.runtime.display import line_displayed


class Terminal(io.StringIO):
    """Stream that counts as a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_narrow_terminal_cuts_the_line_and_no_message(monkeypatch):
    for name, value in {"TERM": "xterm", "COLUMNS": "12", "LINES": "5"}.items():
        monkeypatch.setenv(name, value)
    terminal, path = Terminal(), "/archive/" + "long/" * 30
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    with line_displayed("drawing the page", after=0):
        until(lambda: "drawing the" in terminal.getvalue(), "no line is shown")
        print(f"cannot write {path}", file=sys.stderr)
    shown = terminal.getvalue()
    assert f"cannot write {path}\n" in shown
    assert "page" not in shown


def test_errors_that_go_to_a_file_are_left_there(monkeypatch):
    terminal, errors = Terminal(), io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", errors)
    with line_displayed("drawing the page", after=0):
        until(lambda: "drawing the page" in terminal.getvalue(), "no line is shown")
        print("cannot write", file=sys.stderr)
    assert errors.getvalue() == "cannot write\n"
    assert "cannot write" not in terminal.getvalue()
