"""Answers that are no HTTP: each is an error of the server, for listings, files and redirects alike."""

import gc
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted_server import answer, scripted

from pipeline.datastore.client.http import DataStoreClient
from pipeline.datastore.client.limits import Limits
from pipeline.datastore.client.retry import RetryPolicy
from pipeline.datastore.client.transfer import Transfer
from pipeline.datastore.listing import FileRow
from pipeline.errors import ContentMismatch, MirrorError, ServerUnavailable

LISTING = b"# productID|Most recent|Time registered|type|Description|\np|none|null|t|d|\n"
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 5\r\n"
ROW = FileRow("f.fits", len(LISTING), None, "fits", {})
WHOLE = b"%x\r\n%b\r\n0\r\n\r\n" % (len(LISTING), LISTING)


@pytest.fixture
def ask(tmp_path):
    """Asks a server with this answer for a listing and for a file, whose content is the listing."""

    def ask(said: bytes) -> tuple[list[MirrorError], int]:
        errors = []
        with scripted(lambda _: said) as server:
            policy = RetryPolicy(attempts=2, first_pause=0, sleep=lambda _: None)
            store = DataStoreClient(server.url, Limits(connections=1, timeout=1), policy)
            url = store.file_url("p", "f", ROW.name)
            transfer = Transfer(store, policy, url, ROW, tmp_path / "x.part", lambda _: None)
            for work in (store.products, transfer.fetch):
                try:
                    work()
                except (ServerUnavailable, ContentMismatch) as error:
                    errors.append(error)
            store.close()
        gc.collect(0)
        return errors, len(server.asked)

    return ask


SIZES = [
    b"-5",
    b"-1",
    b"-ffffffffffffffff",
    b"",
    b"zz",
    b"f" * 30,
    b"\xff",
    b"0x",
    b"+",
    b"-",
    b"-0;x",
    b"1_",
]


@pytest.mark.parametrize("size", SIZES, ids=ascii)
@pytest.mark.parametrize("behind", ["at once", "a good chunk", "a redirect"])
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_chunk_sizes(size, behind, ask):
    said = CHUNKED
    if behind == "a good chunk":
        said += b"5\r\n" + LISTING[:5] + b"\r\n"
    if behind == "a redirect":
        said = REDIRECT + CHUNKED.removeprefix(b"HTTP/1.1 200 OK\r\n")
    errors, asked = ask(said + size + b"\r\n" + WHOLE)
    if size.startswith(b"-0"):
        return  # the last chunk: no listing, and a file that is too short
    assert len(errors) == 2
    assert asked >= 4


FIELDS = [
    b"Content-Length: -5",
    b"Content-Length: " + b"9" * 5000,
    b"Content-Length: 5, 6",
    b"Content-Length: \xb2",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: \xff",
    b"Transfer-Encoding: gzip",
    b"Content-Encoding: \xff\xfe",
    b"Retry-After: " + b"9" * 5000,
    b"Content-Range: bytes 0-" + b"9" * 5000,
    b"Location: " + b"http://[" * 20,
    b": no name",
    b"no colon",
    b"\x00: y",
    b" folded",
    b"Connection: \xff",
]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: ascii(field[:30]))
@pytest.mark.parametrize("status", [b"200 OK", b"206 Partial Content", b"302 Found", b"503 Busy", b"416 No"])
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_fields(field, status, ask):
    ask(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n" + field + b"\r\n\r\n" + LISTING)


EDITS = st.lists(
    st.tuples(
        st.integers(0, 400), st.integers(0, 3), st.binary(max_size=4) | st.sampled_from([b"-", b"\r\n"])
    ),
    min_size=1,
    max_size=4,
)
SOUND = [
    CHUNKED + WHOLE,
    REDIRECT + b"\r\nmoved",
    REDIRECT + CHUNKED.removeprefix(b"HTTP/1.1 200 OK\r\n") + WHOLE,
    answer(body=LISTING, Connection="close"),
    b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + CHUNKED + WHOLE,
]


@settings(max_examples=150)
@given(st.sampled_from(SOUND), EDITS)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_any_damage_to_an_answer(sound, edits):
    said = sound
    for at, length, piece in edits:
        said = said[:at] + piece + said[at + length :]
    with scripted(lambda _: said + (b"" if b"close" in said else b"\r\n")) as server:
        policy = RetryPolicy(attempts=1, first_pause=0)
        store = DataStoreClient(server.url, Limits(connections=1, timeout=0.2), policy)
        with suppress(ServerUnavailable):
            assert len(store.products()) <= 2
        store.close()
    gc.collect(0)
