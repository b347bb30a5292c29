"""Errors reach the process that reports them as they were raised."""

import pickle

import pytest

from pipeline import errors
from pipeline.datastore.client import UnknownFileset
from tasks.runtime.errors import Bug, Stopped
from tasks.runtime.processes import ProcessLost

OURS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MirrorError)
]
PLAIN = [
    *(kind for kind in OURS if kind is not errors.FilesFailed),
    UnknownFileset,
    Bug,
    Stopped,
    ProcessLost,
]


@pytest.mark.parametrize("kind", PLAIN)
def test_an_error_keeps_kind_and_message(kind):
    arrived = pickle.loads(pickle.dumps(kind("expected this, got that")))
    assert type(arrived) is kind
    assert str(arrived) == "expected this, got that"


def test_failed_files_keep_their_reasons():
    reasons = {"a.fits": errors.ContentMismatch("wrong md5"), "b.fits": errors.ServerUnavailable("no answer")}
    arrived = pickle.loads(pickle.dumps(errors.FilesFailed(reasons)))
    assert str(arrived) == "wrong md5 (2 files failed in all)"
    assert {name: (type(each), str(each)) for name, each in arrived.reasons.items()} == {
        "a.fits": (errors.ContentMismatch, "wrong md5"),
        "b.fits": (errors.ServerUnavailable, "no answer"),
    }
