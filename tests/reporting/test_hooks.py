"""Commands and messages: what they get, and how they fail."""

import socket
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest
from support.running import until
from support.smtp import mail_server, text_of

from pipeline.reporting.hooks import NotNotified, addresses, run_hook, send_message

# Longer than anything takes on a busy machine.
SECONDS = 90.0


def test_a_hook_gets_its_input_and_environment(tmp_path):
    script = tmp_path / "hook"
    script.write_text(f'#!/bin/sh\necho "$1 $NAME" > {tmp_path}/out\ncat >> {tmp_path}/out\n')
    script.chmod(0o755)
    run_hook(f"{script} 'a b'", "one\ntwo\n", {"NAME": "n"}, SECONDS, Event())
    assert (tmp_path / "out").read_text() == "a b n\none\ntwo\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("/nowhere/hook", "/nowhere/hook: No such file or directory"),
        ("sh -c 'echo a >&2; echo b >&2; exit 3'", "ended with code 3: b"),
        ("false", "ended with code 1: nothing on standard error"),
    ],
)
def test_a_hook_that_fails(command, said):
    with pytest.raises(NotNotified, match=said):
        run_hook(command, "ignored" * 100_000, {}, SECONDS, Event())


@pytest.mark.parametrize("started", [True, False])
def test_a_signal_ends_a_hook(started, tmp_path):
    cut_short, mark = Event(), tmp_path / "started"

    def cut() -> None:
        until(lambda: mark.exists() or not started, "the hook does not start")
        cut_short.set()

    cutting = Thread(target=cut)
    cutting.start()
    if not started:
        cutting.join()
    with pytest.raises(NotNotified, match=r"sh -c .*: cut short by a signal"):
        run_hook(f"sh -c 'touch {mark}; sleep 600'", "x" * 100_000, {}, SECONDS, cut_short)
    cutting.join()
    assert mark.exists() == started


def test_a_hook_that_takes_too_long_is_killed_with_all_that_it_started(tmp_path):
    named = {"HOOK": str(tmp_path)}
    with pytest.raises(NotNotified, match="expected to end within 0 s, and was killed"):
        run_hook("sh -c 'sleep 600 >&- 2>&- & wait'", "", named, 0.3, Event())
    until(lambda: not has_process(tmp_path), "what it started works on")


def has_process(folder: Path) -> bool:
    """Return True while a process has the name of the folder in its environment."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        # A process may end meanwhile, and be another user's.
        with suppress(OSError):
            if f"HOOK={folder}".encode() in environment.read_bytes():
                return True
    return False


def test_addresses_in_files_and_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("MIRROR_URL", "slack://a/b/c")
    (tmp_path / "urls").write_text("# two\njson://h\n\n  xml://h  \n")
    assert addresses(["mailto://h", "env:MIRROR_URL", f"file:{tmp_path}/urls"]) == [
        *("mailto://h", "slack://a/b/c", "json://h", "xml://h")
    ]
    with pytest.raises(NotNotified, match="environment variable MISSING_URL"):
        addresses(["env:MISSING_URL"])
    with pytest.raises(NotNotified, match="expected addresses in /nowhere, got"):
        addresses(["file:/nowhere"])


def test_a_mail():
    with mail_server() as server:
        send_message([server.url], "the title", "the\n  body\n", SECONDS, Event())
    [mail] = server.messages
    assert (mail["Subject"], mail["To"]) == ("the title", "ops@example.org")
    assert text_of(mail).split() == ["the", "body"]


def test_addresses_that_fail_are_named_without_their_secrets():
    with mail_server() as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = f"mailto://anna:verysecret@127.0.0.1:{closed.getsockname()[1]}?to=a@b.org&mode=insecure"
        with pytest.raises(NotNotified) as raised:
            send_message([server.url, refused, "nothing://verysecret"], "t", "b", SECONDS, Event())
    said = str(raised.value)
    assert said.startswith("notify.urls: not sent to address 2 (mailto): ")
    assert "; 3 (nothing): expected an address that Apprise knows" in said
    assert "secret" not in said
    assert "anna" not in said
    assert len(server.messages) == 1


def test_a_mail_server_that_is_silent_is_not_waited_for():
    with mail_server(is_silent=True) as silent, pytest.raises(NotNotified) as raised:
        send_message([silent.url], "t", "b", 1.5, Event())
    assert str(raised.value) == "notify.urls: not sent to address 1 (mailto): no answer within 2 s"
