"""Sentences for what goes wrong between this machine and the server."""

import socket
from itertools import pairwise

import pytest
import requests
import urllib3
from support.scripted_server import answer, scripted

from pipeline.datastore.client.http import DataStoreClient
from pipeline.datastore.client.limits import Limits
from pipeline.datastore.client.retry import RetryPolicy
from pipeline.datastore.client.transport_errors import describe
from pipeline.errors import ServerUnavailable

CHUNKED = answer(Transfer_Encoding="chunked", Connection="close", Content_Length="")
ANSWERS = {
    "closed": (b"", "connection closed by {peer} without a response"),
    "cut": (
        answer(body=b"# productID", Content_Length="999", Connection="close"),
        "connection closed by {peer} before the end",
    ),
    "cut before a chunk": (CHUNKED, "connection closed by {peer} before the end"),
    "no HTTP": (
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "no valid HTTP response from {peer} (BadStatusLine: SSH-2.0-OpenSSH_9.6)",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_cause_comes_first_and_then_what_happens_next(name):
    said, cause = ANSWERS[name]
    with scripted(lambda _: said) as server:
        store = DataStoreClient(
            server.url, Limits(connections=1, timeout=20), RetryPolicy(attempts=1, first_pause=1)
        )
        with pytest.raises(ServerUnavailable) as raised:
            store.products()
        store.close()
    peer = server.url.removeprefix("http://").removesuffix("/ds")
    assert (
        str(raised.value) == f"{server.url}/index.txt: {cause.format(peer=peer)}. The next run tries again."
    )


def raised_by(*causes: BaseException) -> BaseException:
    """The last of the errors, each raised from the one before it."""
    for inner, outer in pairwise(causes):
        outer.__cause__ = inner
    return causes[-1]


URL = "http://ipp:secret@store.example:8080/ds/index.txt"
POOL = urllib3.HTTPConnectionPool("store.example")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
PEER = "store.example:8080"


@pytest.mark.parametrize(
    ("causes", "sentence"),
    [
        (
            [UNKNOWN, requests.ConnectionError()],
            "cannot resolve host store.example (Name or service not known)",
        ),
        (
            [UNKNOWN, urllib3.exceptions.ProxyError("no", UNKNOWN), requests.exceptions.ProxyError()],
            "cannot resolve host of the proxy (Name or service not known)",
        ),
        ([ConnectionRefusedError(111, "x"), requests.ConnectionError()], f"connection refused by {PEER}"),
        ([ConnectionResetError(104, "x"), requests.ConnectionError()], f"connection reset by {PEER}"),
        ([TimeoutError("timed out"), requests.ReadTimeout()], f"no response from {PEER} within 60 s"),
        ([urllib3.exceptions.ReadTimeoutError(POOL, "/", "x")], f"no response from {PEER} within 60 s"),
        (
            [OSError(113, "No route to host"), requests.ConnectionError()],
            f"cannot reach {PEER} (No route to host)",
        ),
        (
            [requests.exceptions.InvalidHeader("odd")],
            f"no valid HTTP response from {PEER} (InvalidHeader: odd)",
        ),
    ],
    ids=["resolve", "resolve proxy", "refused", "reset", "timeout", "urllib3 timeout", "no route", "other"],
)
def test_foreign_errors_and_their_sentences(causes, sentence):
    assert describe(raised_by(*causes), URL, "no response", 60.0) == sentence
