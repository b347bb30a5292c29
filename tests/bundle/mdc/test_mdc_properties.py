"""Any document: nothing but BundleUnusable is raised, what is written is read again, time is linear."""

import gzip
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.mdc_documents import scopes
from support.processor_time import takes_at_most

from pipeline.bundle import mdc
from pipeline.errors import BundleUnusable

unhurried = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])

fragments = st.sampled_from(
    [
        *("a", "b", "@a", "@b", "END", "TYPE", "METADATA", "MULTI", "UPDATE", "RESET", "STR", "S8", "U64"),
        *("F32", "C64", "BOOL", "UTC", "CELL", "NULL", "1", "-1", "1e9", "nan", "1i", "T"),
        *("2009-07-29T03:02:13Z", "23:59:60", "#", ",", "\t", "\r", "\n", "\n", "\n", "\x00", "\xa0", "é"),
    ]
)
statements = st.sampled_from(
    [
        *(
            "a S8 1",
            "a STR x",
            "b STR y",
            "a METADATA",
            "b METADATA",
            "b METADATA UPDATE",
            "b METADATA RESET",
        ),
        *(
            "a MULTI",
            "b MULTI",
            "a MULTI RESET",
            "b MULTI UPDATE",
            "TYPE C f",
            "TYPE C f g",
            "a C x",
            "b C x y",
        ),
        *("@a STR x, y", "END", "END", "END"),
    ]
)
lines_of_fragments = st.lists(fragments, max_size=40).map(lambda parts: " ".join(parts).encode())


def readable(document: bytes) -> None:
    """Reading, writing and rewriting give a result or BundleUnusable."""
    for overwrite in (False, True):
        try:
            scope = mdc.read(document, "any.mdc", overwrite=overwrite)
        except BundleUnusable:
            return
        assert mdc.read(mdc.write(scope), "again.mdc") == scope
    assert mdc.rewrite(document, "any.mdc", lambda string: string.value) == document
    try:
        changed = mdc.rewrite(document, "any.mdc", lambda *_: "/new")
    except BundleUnusable:
        return
    mdc.read(changed, "changed.mdc")


@given(scopes())
@settings(unhurried, max_examples=60)
def test_what_is_written_is_read_as_equal(scope):
    assert mdc.read(mdc.write(scope), "written.mdc") == scope


@given(st.binary(max_size=300))
@unhurried
def test_any_bytes(document):
    readable(document)


@given(st.binary(max_size=300))
@unhurried
def test_any_bytes_behind_the_magic_of_gzip(document):
    readable(b"\x1f\x8b" + document)
    readable(gzip.compress(document))


@given(lines_of_fragments)
@settings(unhurried, max_examples=200)
def test_any_lines_of_the_words_of_the_format(document):
    readable(document)


@given(st.lists(statements, max_size=14))
@settings(unhurried, max_examples=500)
def test_any_order_of_good_lines(lines):
    lines += ["END"] * (sum("METADATA" in line for line in lines) - lines.count("END"))
    readable("\n".join(lines).encode())


@given(scopes(), st.data())
@settings(unhurried, max_examples=80)
def test_any_damage_to_a_good_document(scope, data):
    document = bytearray(mdc.write(scope))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(document)))
        document[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | lines_of_fragments
        )
    readable(bytes(document))
    readable(gzip.compress(bytes(document))[: data.draw(st.integers(1, 60))])


@given(st.text())
@unhurried
def test_any_value_is_added_and_read_again_or_refused(value):
    for kind in ("STR", "S8", "F64", "C32", "UTC", "BOOL"):
        scope = mdc.Scope()
        try:
            scope.add("x", kind, value)
        except BundleUnusable:
            continue
        assert mdc.read(mdc.write(scope), "test.mdc") == scope


def dbinfo_rows(n: int) -> bytes:
    row = b"row METADATA\n a S64 5\n b F32 1.5 # c\n c STR neb://any/x\n d UTC 2009-07-29T03:02:13Z\nEND\n"
    return b"row MULTI\n" + row * (n // 6)


SHAPES = {
    "rows": dbinfo_rows,
    "deep": lambda n: b"a METADATA\n" * n + b"END\n" * n,
    "repeated": lambda n: b"a S32 1\n" * n,
    "multi": lambda n: b"a MULTI\n" + b"a S32 1\n" * n,
    "reset": lambda n: b"a MULTI\n" + b"b S8 1\na MULTI RESET\na S32 1\nb METADATA RESET\nEND\n" * (n // 4),
    "update": lambda n: b"a METADATA UPDATE\nEND\n" * n,
    "new names": lambda n: b"".join(b"n%d S32 1\n" % i for i in range(n)),
    "types": lambda n: b"".join(b"TYPE Q%d f\nn%d Q%d x\n" % (i, i, i) for i in range(n // 3)),
    "one text": lambda n: b"a STR " + b"x y\t" * 20 * n,
    "one blank": lambda n: b"a STR " + b" " * 80 * n + b"x",
    "one comment": lambda n: b"a STR x" + b" # " * 50 * n,
    "one vector": lambda n: b"@a F64 " + b"1.5, " * n,
    "one row": lambda n: b"TYPE Q " + b" ".join(b"f%d" % i for i in range(n)) + b"\na Q " + b"x " * n,
    "one number": lambda n: b"a F64 " + b"1" * 50 * n,
    "one integer": lambda n: b"a S64 " + b"0" * 50 * n,
    "one name": lambda n: b"a" * 50 * n + b" S8 1",
    "one word": lambda n: b"a" * 50 * n,
}


def work(document: bytes) -> None:
    """Read, write, compare and rewrite."""
    with suppress(BundleUnusable):
        scope = mdc.read(document, "large.mdc")
        assert mdc.read(mdc.write(scope), "again.mdc") == scope
        mdc.rewrite(document, "large.mdc", lambda *_: "new")


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES)
def test_four_times_the_document_takes_about_four_times_as_long(shape):
    n = 4000
    assert takes_at_most(9, work, SHAPES[shape](n), SHAPES[shape](4 * n))


def test_no_depth_is_too_deep():
    depth = 20_000
    scope = mdc.read(b"a METADATA\n" * depth + b"x STR y\n" + b"END\n" * depth, "deep.mdc")
    written = mdc.write(scope)
    assert mdc.read(written, "again.mdc") == scope
    assert len(written) < 100 * depth
    assert repr(scope) == "<Scope of 1 entries>"
    scope.add("at", "UTC", datetime(2009, 1, 1, tzinfo=UTC))
    assert mdc.read(written, "again.mdc") != scope
