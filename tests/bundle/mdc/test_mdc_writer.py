"""Writer of Metadata Config documents: what it writes is read as equal, anything else is not added."""

import math
from datetime import UTC, datetime

import pytest

from pipeline.bundle import mdc
from pipeline.errors import BundleUnusable


def sample() -> mdc.Scope:
    scope = mdc.Scope()
    scope.add("name", "STRING", "two words", comment="why # not")
    scope.add("none", "F32", None)
    scope.add("nan", "F64", math.nan)
    scope.add("z", "C64", 1.5 - 2j)
    scope.add("primes", "U8", [2, 3, 5])
    scope.add("at", "UTC", datetime(2009, 7, 29, 3, 2, 13, tzinfo=UTC))
    scope.add("tai", "TAI", datetime(2009, 7, 29, 3, 2, 13, 5))
    scope.add_type("CELL", ["chip", "type"])
    scope.add("amp00", "CELL", ["ccd00", None])
    for number in (1, 2):
        scope.add_scope("row", multi=True).add("number", "S32", number)
    scope.add_scope("empty")
    return scope


def test_the_exact_text():
    assert mdc.write(sample()).decode().split("\n") == [
        "TYPE             CELL      chip type       ",
        "name             STR       two words        # why # not",
        "none             F32       NULL            ",
        "nan              F64       nan             ",
        "z                C64       1.5-2.0i        ",
        "@primes          U8        2,3,5           ",
        "at               UTC       2009-07-29T03:02:13Z",
        "tai              TAI       2009-07-29T03:02:13.000005",
        "amp00            CELL      ccd00 NULL      ",
        "row              MULTI",
        "row              METADATA",
        "   number           S32       1               ",
        "END",
        "row              METADATA",
        "   number           S32       2               ",
        "END",
        "empty            METADATA",
        "END",
        "",
    ]


def test_what_was_written_is_read_as_equal():
    assert mdc.read(mdc.write(sample()), "test.mdc") == sample()


def test_a_comment_of_a_scope_and_a_multi_without_entries_come_back():
    scope = mdc.read(b"m MULTI\ns METADATA # why\nEND\n", "test.mdc")
    again = mdc.read(mdc.write(scope), "test.mdc")
    assert again == scope
    assert again.multi == {"m"}
    assert again.entries[0].comment == "why"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("STR", "NULL"),
        ("STR", "a#b"),
        ("STR", "a\nb"),
        ("STR", " a"),
        ("STR", "a\r"),
        ("STR", "\udc80"),
        ("STR", 5),
        ("STR", ["a b"]),
        ("STR", ["a", ""]),
        ("STR", [None]),
        ("S8", 128),
        ("S8", 1.5),
        ("U64", -1),
        ("F32", "x"),
        ("F32", [1.0, "x"]),
        ("BOOL", "maybe"),
        ("UTC", datetime(2009, 7, 29)),
        ("TAI", datetime(2009, 7, 29, tzinfo=UTC)),
        ("UTC", "2009-07-29"),
        ("METADATA", None),
        ("MULTI", None),
        ("CELL", ["a"]),
        ("CELL", ["a", "b c"]),
        ("CELL", ["a", "NULL"]),
        ("CELL", ["a", "#"]),
        ("CELL", ["a", ""]),
        ("CELL", "ab"),
        ("CELL", ["a", "\udc80"]),
        ("NOTYPE", "x"),
    ],
)
def test_what_would_not_be_read_again_is_not_added(kind, value):
    scope = mdc.Scope()
    scope.add_type("CELL", ["chip", "type"])
    with pytest.raises(BundleUnusable, match=r"^x: expected "):
        scope.add("x", kind, value)
    assert scope.entries == []


@pytest.mark.parametrize("name", ["", "END", "TYPE", ".x", "a b", "@x", "é", "x\n"])
def test_what_is_no_name_is_not_added(name):
    scope = mdc.Scope()
    with pytest.raises(BundleUnusable):
        scope.add(name, "S8", 1)
    with pytest.raises(BundleUnusable):
        scope.add_scope(name)
    with pytest.raises(BundleUnusable):
        scope.add_type("T", [name])


@pytest.mark.parametrize("comment", [" x", "a\nb", "x\t", "\ud800"])
def test_a_comment_that_would_change_is_not_added(comment):
    with pytest.raises(BundleUnusable):
        mdc.Scope().add("x", "S8", 1, comment=comment)


def test_a_name_is_added_again_with_multi_only():
    scope = mdc.Scope()
    scope.add("x", "S8", 1)
    with pytest.raises(BundleUnusable, match="x: expected this name once"):
        scope.add("x", "S8", 2)
    scope.add("x", "S8", 2, multi=True)
    scope.add("x", "S8", 3)
    assert scope.all("x") == [1, 2, 3]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"a S8 1\n", b"a S8 2\n"),
        (b"a S8 1\n", b"a U8 1\n"),
        (b"a S8 1\n", b"b S8 1\n"),
        (b"a S8 1\n", b"a S8 1 # c\n"),
        (b"a S8 1\n", b"a S8 1\nb S8 1\n"),
        (b"a S8 1\nb S8 1\n", b"b S8 1\na S8 1\n"),
        (b"a S8 1\n", b"a MULTI\na S8 1\n"),
        (b"s METADATA\nEND\n", b"s METADATA\n a S8 1\nEND\n"),
        (b"TYPE C f\n", b"TYPE C g\n"),
        (b"@x F64 1\n", b"@x F64 nan\n"),
    ],
)
def test_scopes_that_differ_are_not_equal(one, other):
    assert mdc.read(one, "one") != mdc.read(other, "other")
    assert mdc.read(one, "one") == mdc.read(one, "again")


def test_a_scope_is_equal_to_a_scope_only():
    assert mdc.Scope() != 5
    with pytest.raises(TypeError):
        iter(mdc.Scope())
