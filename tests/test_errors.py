"""Errors: what a fault of the machine says, and what of an error survives the way between processes."""

import errno
import os
import pickle

import pytest

from pipeline import errors
from pipeline.errors import (
    ContentMismatch,
    FilesFailed,
    MachineFault,
    MirrorError,
    ServerUnavailable,
    machine_fault,
    machine_faults,
)


def os_error(code: int, path: str | None = None) -> OSError:
    return OSError(code, os.strerror(code), path)


@pytest.mark.parametrize(
    ("error", "needed", "message"),
    [
        (
            os_error(errno.ENOSPC, "/m/x"),
            15_000_000,
            "unpacking f: No space left on device at /m/x. The disk is full: free disk space for 15.0 MB; "
            "the next run tries again.",
        ),
        (
            os_error(errno.EACCES, "/m/x"),
            15_000_000,
            "unpacking f: Permission denied at /m/x. Give the user that runs the mirror the right to write "
            "there, readers that to read; the next run tries again.",
        ),
        (
            OSError("no number"),
            None,
            "unpacking f: no number. See what is wrong with this machine; the next run tries again.",
        ),
    ],
)
def test_a_fault_of_the_machine(error, needed, message):
    assert str(machine_fault("unpacking f", error, needed)) == message


def test_a_fault_of_the_machine_in_a_block(tmp_path):
    missing = tmp_path / "none"
    message = f"^reading x: No such file or directory at {missing}"
    with pytest.raises(MachineFault, match=message) as raised, machine_faults("reading x"):
        missing.read_bytes()
    assert isinstance(raised.value.__cause__, FileNotFoundError)


def test_other_errors_pass_a_block_unchanged():
    with pytest.raises(ContentMismatch, match=r"^md5$"), machine_faults("reading x"):
        raise ContentMismatch("md5")


def test_the_message_of_several_failed_files_is_that_of_the_first_and_their_number():
    one = FilesFailed({"a": ContentMismatch("a: md5")})
    two = FilesFailed({"b": ContentMismatch("b: size"), "a": ServerUnavailable("a: 500")})
    assert (str(one), str(two)) == ("a: md5", "b: size (2 files failed in all)")


def test_the_reasons_of_failed_files_are_pickled():
    reasons = {"b": ContentMismatch("b: size"), "a": ServerUnavailable("a: 500")}
    copy = pickle.loads(pickle.dumps(FilesFailed(reasons)))
    assert str(copy) == "b: size (2 files failed in all)"
    assert [(name, type(reason), str(reason)) for name, reason in copy.reasons.items()] == [
        ("b", ContentMismatch, "b: size"),
        ("a", ServerUnavailable, "a: 500"),
    ]


def test_exit_codes_are_documented(pytestconfig):
    guide = (pytestconfig.rootpath / "docs" / "guide.md").read_text(encoding="utf-8")
    readme = (pytestconfig.rootpath / "README.md").read_text(encoding="utf-8")
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert {error.exit_code for error in (MirrorError, *MirrorError.__subclasses__())} <= codes
    for code in codes:
        assert f"\n| {code} | " in guide
        assert f"\n| {code} | " in readme


TIME = "2026-07-10T12:00:00Z"


@pytest.mark.parametrize(
    ("message", "later", "without"),
    [
        ("7 bytes. The next run tries again.", f"7 bytes. It is tried again from {TIME} on.", "7 bytes."),
        ("full; the next run tries again.", f"full; it is tried again from {TIME} on.", "full"),
        (
            "7 bytes. The next run tries again. (2 files failed in all)",
            f"7 bytes. It is tried again from {TIME} on. (2 files failed in all)",
            "7 bytes. The next run tries again. (2 files failed in all)",
        ),
        ("full", f"full. It is tried again from {TIME} on.", "full"),
        ("Nothing was kept.", f"Nothing was kept. It is tried again from {TIME} on.", "Nothing was kept."),
    ],
)
def test_a_message_says_when_the_next_try_is(message, later, without):
    assert errors.with_next_try(message, None) == message
    assert errors.with_next_try(message, TIME) == later
    assert errors.without_next_try(message) == without
    again = errors.with_next_try(later, None)
    assert again in {message, f"{message.removesuffix('.')}. The next run tries again."}
    if "files failed" not in message:
        assert errors.without_next_try(later).removesuffix(".") == without.removesuffix(".")
        assert errors.cause_in(later, ()) == errors.cause_in(message, ())
