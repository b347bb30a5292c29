"""Failures with one cause: the first is shown, the others are counted."""

import logging

import pytest

from pipeline.datastore.client import NoAnswer
from pipeline.errors import ContentMismatch, FilesFailed, MachineFault, MirrorError, ServerUnavailable
from tasks.runtime.causes import Failure, FirstOfEachCause


def record(failure: Failure | None) -> logging.LogRecord:
    made = logging.LogRecord("tasks", logging.WARNING, __file__, 1, "message", None, None)
    if failure is not None:
        made.failure = failure
    return made


def wrong_md5(name: str) -> MirrorError:
    text = f"http://h/ds/p/{name}/{name}.fits: expected md5 {name[-1] * 32}, got {'0' * 32}"
    return FilesFailed({f"{name}.fits": ContentMismatch(text)})


SAME = {
    "digests and addresses": (wrong_md5("fa"), wrong_md5("fb")),
    "names without a folder": (
        MirrorError("fa.fits of fa: not a tar archive"),
        MirrorError("fb.fits of fb: not a tar archive"),
    ),
    "classes of one kind": (ServerUnavailable("http://h/a: aborted"), NoAnswer("http://h/b: aborted")),
    "sizes": (
        MachineFault("needs 24.0 MB below /m; 1.5 GB are free"),
        MachineFault("needs 900 bytes below /m; 17 kB are free"),
    ),
}
OTHER = {
    "status codes": (
        ServerUnavailable("http://h/a: status 403"),
        ServerUnavailable("http://h/b: status 404"),
    ),
    "kinds": (MachineFault("no answer"), ServerUnavailable("no answer")),
    "words": (MachineFault("The disk is full"), MachineFault("The quota is used up")),
}


def causes(pair: tuple[MirrorError, MirrorError]) -> set[str]:
    return {Failure.of(f"fileset p/f{name}", error).cause for name, error in zip("ab", pair, strict=True)}


@pytest.mark.parametrize("name", SAME)
def test_one_cause(name):
    assert len(causes(SAME[name])) == 1


@pytest.mark.parametrize("name", OTHER)
def test_different_causes(name):
    assert len(causes(OTHER[name])) == 2


def test_a_fileset_and_a_product_do_not_share_a_cause():
    error = ServerUnavailable("no answer")
    assert Failure.of("product p", error).cause != Failure.of("fileset p/f", error).cause


def test_the_first_of_each_cause_is_shown_and_the_others_are_counted():
    shown = FirstOfEachCause()
    failures = [Failure.of(f"fileset p/f{number}", MachineFault("no space")) for number in range(6)]
    failures += [Failure.of(f"product p{number}", MachineFault("no answer")) for number in range(2)]
    failures += [Failure.of("fileset p/other", MachineFault("alone"))]
    passed = [failure.subject for failure in failures if shown.filter(record(failure))]
    assert passed == ["fileset p/f0", "product p0", "fileset p/other"]
    assert list(shown.repeated()) == [
        "5 more filesets failed for the same reason as fileset p/f0: p/f1, p/f2, p/f3 and 2 others, "
        "which the log names",
        "1 more product failed for the same reason as product p0: p1",
    ]


def test_all_other_messages_are_shown():
    shown = FirstOfEachCause()
    assert all(shown.filter(record(None)) for _ in range(3))
    assert list(shown.repeated()) == []


PROBLEMS = {
    "sizes": ("damaged: expected 300 bytes, it has 299", "damaged: expected 5000 bytes, it has 0"),
    "checksums": ("expected CRC-32 12ab34cd, it has 0a0a0a0a", "expected CRC-32 56781234, it has abcdefab"),
    "digests": (f"expected md5 {'a' * 32}, found {'b' * 32}", f"expected md5 {'c' * 32}, found {'d' * 32}"),
    "names": ("upstream lists other files: a.fits is gone", "upstream lists other files: b.tgz is gone"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_of_one_cause_are_one_line_with_a_count(name):
    one, other = PROBLEMS[name]
    console = FirstOfEachCause()
    found = [("store/p/a", one), *((f"store/p/b{number}", other) for number in range(4))]
    problems = [*found, ("store/p/c", "missing")]
    shown = [path for path, what in problems if console.filter(record(Failure.of_problem(path, what)))]
    assert shown == ["store/p/a", "store/p/c"]
    assert list(console.repeated()) == [
        "4 more files had the same problem as file store/p/a: store/p/b0, store/p/b1, store/p/b2 "
        "and 1 other, which the log names"
    ]
