"""Reader of Metadata Config documents: types of values, structure, and what is refused with its line."""

import gzip
import math
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.bundle import mdc
from pipeline.bundle.mdc.reader import MAX_WARNINGS
from pipeline.errors import BundleUnusable


def value_of(line: str):
    return mdc.read(f"x {line}\n".encode(), "test.mdc")["x"]


def problem_of(document: bytes) -> str:
    with pytest.raises(BundleUnusable) as caught:
        mdc.read(document, "test.mdc")
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("STR two words  # why", "two words"),
        ("STRING\tsame\t", "same"),
        ("STR", ""),
        ("STR # only a comment", ""),
        ("STR NULL", None),
        ("STR null", "null"),
        ("S32 NULL", None),
        ("UTC NULL", None),
        ("BOOL t", True),
        ("BOOL T", True),
        ("BOOL true", True),
        ("BOOL 1", True),
        ("BOOL f", False),
        ("BOOL F", False),
        ("BOOL false", False),
        ("BOOL 0", False),
        ("S8 -128", -128),
        ("S8 +127", 127),
        ("U8 255", 255),
        ("U16 65535", 65535),
        ("S16 -32768", -32768),
        ("U32 4294967295", 4294967295),
        ("S32 -2147483648", -2147483648),
        ("U64 18446744073709551615", 2**64 - 1),
        ("S64 -9223372036854775808", -(2**63)),
        ("U8 007", 7),
        ("F32 1.5e3", 1500.0),
        ("F64 -.5", -0.5),
        ("F64 inf", math.inf),
        ("F64 -inf", -math.inf),
        ("F32 +inf", math.inf),
        ("C32 1.5-2i", 1.5 - 2j),
        ("C64 -1e3+2.5e-1j", -1000 + 0.25j),
        ("C64 2i", 2j),
        ("C64 3", 3 + 0j),
    ],
)
def test_a_value_is_what_its_type_makes_of_it(line, value):
    read = value_of(line)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("line", ["F32 nan", "F64 NaN", "F64 -nan"])
def test_nan_is_a_number_that_is_none(line):
    assert math.isnan(value_of(line))


def test_utc_is_aware_and_the_other_scales_are_naive():
    noon = datetime(2009, 7, 29, 12, 0, 0, 250_000)
    for text in ("2009-07-29T12:00:00.25Z", "2009-07-29T12:00:00.25", "2009-07-29 02:00:00.25-10:00"):
        assert value_of(f"UTC {text}") == noon.replace(tzinfo=UTC)
        assert value_of(f"UTC {text}").utcoffset() == timedelta(0)
        for scale in ("UT1", "TAI", "TT"):
            assert value_of(f"{scale} {text}") == noon
            assert value_of(f"{scale} {text}").tzinfo is None


def test_a_leap_second_is_the_first_instant_after_it():
    assert value_of("UTC 2008-12-31T23:59:60.5Z") == datetime(2009, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "line",
    [
        "S8 128",
        "S8 -129",
        "U8 256",
        "U8 -1",
        "U16 65536",
        "S16 32768",
        "U32 4294967296",
        "S32 2147483648",
        "U64 18446744073709551616",
        "S64 9223372036854775808",
        "U8 1_0",
        "U8 1.0",
        "U8 ٣",
        "S64 " + "9" * 5000,
        "S32",
        "F32",
        "F64 1_0.0",
        "F64 one",
        "F64 ٣",
        "C64 ٣",
        "F64 1 2",
        "C64 i+",
        "C64",
        "BOOL yes",
        "BOOL",
        "UTC yesterday",
        "UTC 2009-02-30",
        "UTC 0001-01-01T00:00:00+10:00",
        "UTC 9999-12-31T23:59:60Z",
        "@y S32 1",
        "CELL a b",
        "",
    ],
)
def test_a_value_that_is_none_of_its_type_is_refused_with_its_line(line):
    message = problem_of(f"# first\nx {line}\n".encode())
    assert message.startswith("test.mdc, line 2: expected ")


def test_a_range_is_named_in_the_message():
    assert "expected an integer from 0 to 255 as U8 of x, got '256'" in problem_of(b"x U8 256\n")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("@x U8 2,3 5 7 # primes", (2, 3, 5, 7)),
        ("@x U8 2, 3 ,\t5,,7,", (2, 3, 5, 7)),
        ("@x STR a b,c", ("a", "b", "c")),
        ("@x F32 1.5", (1.5,)),
        ("@x F32 1,NULL", (1.0, None)),
        ("@x F32 NULL", None),
        ("@x F32 , NULL ,", None),
        ("@x F32", ()),
        ("@x BOOL T f", (True, False)),
    ],
)
def test_a_vector_is_a_tuple(line, value):
    scope = mdc.read(line.encode(), "test.mdc")
    assert scope["x"] == value
    assert "@x" not in scope


def test_entries_keep_order_type_comment_and_line():
    scope = mdc.read(b"\n# head\n\tb STRING v#1 # 2\r\n  a S32 5\r\n", "test.mdc")
    assert scope.entries == [mdc.Entry("b", "STR", "v", "1 # 2", 3), mdc.Entry("a", "S32", 5, "", 4)]
    assert scope.warnings == []


def test_looking_up():
    scope = mdc.read(b"m MULTI\nm S8 1\na S8 9\nm S8 2\nn STR NULL\n", "test.mdc")
    assert (scope["m"], scope.get("m"), scope.all("m"), scope.all("a")) == (1, 1, [1, 2], [9])
    assert (scope.get("no"), scope.get("no", 7), scope.all("no")) == (None, 7, [])
    assert "n" in scope
    assert "no" not in scope
    with pytest.raises(KeyError):
        scope["no"]


def test_scopes_nest_and_may_be_empty():
    scope = mdc.read(b"a METADATA # deep\n b METADATA\n END\n c S8 1\nEND\n", "test.mdc")
    assert scope.entries[0].comment == "deep"
    assert scope["a"]["b"].entries == []
    assert scope["a"]["c"] == 1


def test_the_first_of_a_repeated_name_stands_and_a_warning_is_due():
    document = b"a S8 1\na S8 2\ns METADATA\n x S8 1\n x S8 2\nEND\ns METADATA\n y S8 1\nEND\n"
    scope = mdc.read(document, "test.mdc")
    assert scope["a"] == 1
    assert [entry.name for entry in scope["s"].entries] == ["x"]
    assert scope["s"]["x"] == 1
    assert [warning.split(";")[0] for warning in scope.warnings] == [
        "test.mdc, line 2: expected a once, as it is not MULTI",
        "test.mdc, line 5: expected x once, as it is not MULTI",
        "test.mdc, line 7: expected s once, as it is not MULTI",
    ]


def test_the_last_of_a_repeated_name_stands_in_the_first_place_when_asked():
    scope = mdc.read(b"a S8 1\nb S8 5\na STR two\n", "test.mdc", overwrite=True)
    assert [(entry.name, entry.value) for entry in scope.entries] == [("a", "two"), ("b", 5)]
    assert scope.warnings == []


def test_warnings_are_bounded():
    scope = mdc.read(b"a S8 1\n" * (MAX_WARNINGS + 6), "test.mdc")
    assert len(scope.warnings) == MAX_WARNINGS + 1
    assert scope.warnings[-1] == "test.mdc: 5 more names repeated"


def test_a_name_may_repeat_from_multi_on():
    assert mdc.read(b"a S8 1\na MULTI\na S8 2\na METADATA\nEND\n", "test.mdc").all("a")[:2] == [1, 2]


def test_multi_holds_in_its_own_scope():
    scope = mdc.read(b"a MULTI\ns METADATA\n a S8 1\n a S8 2\nEND\n", "test.mdc")
    assert scope["s"].all("a") == [1]


def test_update_merges_and_reset_replaces():
    document = b"s METADATA\n a S8 1\nEND\nb S8 0\ns METADATA %s\n a S8 2\n c S8 3\nEND\n"
    merged = mdc.read(document % b"UPDATE", "test.mdc")
    assert [(entry.name, entry.value) for entry in merged["s"].entries] == [("a", 1), ("c", 3)]
    assert mdc.read(document % b"UPDATE", "test.mdc", overwrite=True)["s"]["a"] == 2
    replaced = mdc.read(document % b"RESET", "test.mdc")
    assert [(entry.name, entry.value) for entry in replaced["s"].entries] == [("a", 2), ("c", 3)]
    assert [entry.name for entry in replaced.entries] == ["b", "s"]
    assert replaced.warnings == []


def test_update_of_nothing_begins_a_scope():
    assert mdc.read(b"s METADATA UPDATE\n a S8 1\nEND\n", "test.mdc")["s"]["a"] == 1


def test_multi_update_goes_on_and_multi_reset_begins_anew():
    document = b"a MULTI\na S8 1\na S8 2\nb S8 9\na MULTI %s\na S8 3\n"
    assert mdc.read(document % b"UPDATE", "test.mdc").all("a") == [1, 2, 3]
    again = mdc.read(document % b"RESET", "test.mdc")
    assert again.all("a") == [3]
    assert [entry.name for entry in again.entries] == ["b", "a"]


def test_rows_of_a_declared_type():
    scope = mdc.read(b"TYPE CELL chip type # two\namp00 CELL ccd00 NULL # first\n", "test.mdc")
    assert scope.types == {"CELL": ("chip", "type")}
    assert scope.entries[0][:2] == ("amp00", "CELL")
    assert scope.entries[0].comment == "first"
    assert [(field.name, field.type, field.value) for field in scope["amp00"].entries] == [
        ("chip", "STR", "ccd00"),
        ("type", "STR", None),
    ]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"END\n", "line 1: expected END only where a scope is open"),
        (b"s METADATA\nEND s\n", "line 2: expected nothing after END, got 's'"),
        (b"a S8 1\ns METADATA\n t METADATA\n END\n", "expected END for the scope of line 2"),
        (b"s METADATA AGAIN\nEND\n", "line 1: expected UPDATE, RESET or nothing after METADATA of s"),
        (b"a MULTI 5\n", "line 1: expected UPDATE, RESET or nothing after MULTI of a"),
        (b"a S8 1\na METADATA UPDATE\nEND\n", "line 2: expected a to be a METADATA scope to merge into"),
        (b"TYPE C f\nr C 1\nr METADATA UPDATE\nEND\n", "line 3: expected r to be a METADATA scope"),
        (b"TYPE C f g\nr C 1\n", "line 2: expected 2 words for C r"),
        (b"TYPE C f\ns METADATA\n r C 1\nEND\n", "line 3: expected a type after the name r, got 'C'"),
        (b"TYPE C\n", "line 1: row type C: expected names of fields"),
        (b"TYPE C f f\n", "line 1: row type C: expected names of fields, each once"),
        (b"TYPE C f\nTYPE C g\n", "line 2: row type C: expected the fields as before"),
        (b"TYPE STR f\n", "line 1: expected a name for a row type, got 'STR'"),
        (b"TYPE\n", "line 1: expected a name for a row type, got ''"),
        (b"@END S8 1\n", "line 1: expected a name"),
        (b"@s METADATA\nEND\n", "line 1: expected a name"),
        (b".a S8 1\n", "line 1: expected a name"),
        (b"a/b S8 1\n", "line 1: expected a name"),
        (b"@ S8 1\n", "line 1: expected a name"),
        (b"a\n", "line 1: expected a type after the name a, got nothing"),
        (b"a str x\n", "line 1: expected a type after the name a, got 'str'"),
        (b"<html>\n", "line 1: expected a name"),
        (b"\x1f\x8b rubbish", "expected a whole gzip-compressed document"),
        (
            gzip.compress(b"a S8 1\n", mtime=0)[:10] + b"\xff" * 30,
            "expected a whole gzip-compressed document",
        ),
        (gzip.compress(b"a S8 1\n")[:-3], "expected a whole gzip-compressed document"),
        (gzip.compress(b"a S8 1\n") + b"x", "expected a whole gzip-compressed document"),
    ],
)
def test_what_is_no_document_is_refused(document, said):
    message = problem_of(document)
    assert message.startswith("test.mdc")
    assert said in message


def test_gzip_is_found_by_its_magic_and_may_have_members():
    document = gzip.compress(b"a S8 1\n") + gzip.compress(b"b S8 2\n")
    scope = mdc.read(document, "plain.mdc")
    assert (scope["a"], scope["b"]) == (1, 2)


def test_a_gzip_bomb_is_refused_before_it_is_read_whole():
    bomb = gzip.compress(b" " * (mdc.MAX_DOCUMENT_BYTES + 1), compresslevel=1)
    assert f"at most {mdc.MAX_DOCUMENT_BYTES} bytes" in problem_of(bomb)
    at_limit = gzip.compress(b"a S8 1\n".ljust(mdc.MAX_DOCUMENT_BYTES), compresslevel=1)
    assert mdc.read(at_limit, "test.mdc")["a"] == 1


def test_no_more_of_a_bomb_is_inflated_than_is_allowed():
    bomb = gzip.compress(bytes(mdc.MAX_DOCUMENT_BYTES), compresslevel=1) * 8
    tracemalloc.start()
    try:
        problem_of(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * mdc.MAX_DOCUMENT_BYTES


def test_too_many_lines_are_refused():
    assert f"{mdc.MAX_LINES} lines" in problem_of(b"\n" * (mdc.MAX_LINES + 1))


def test_utf8_is_read_as_such_and_other_bytes_as_latin1():
    assert mdc.read("a STR Haleakalā\n".encode(), "test.mdc")["a"] == "Haleakalā"
    assert mdc.read(b"a STR caf\xe9\xff\n", "test.mdc")["a"] == "caf\xe9\xff"


def test_only_tab_blank_and_carriage_return_are_blanks():
    assert mdc.read("a STR \x0b\x1c\x85\xa0\u2003\n".encode(), "test.mdc")["a"] == "\x0b\x1c\x85\xa0\u2003"


def test_an_empty_document_is_an_empty_scope():
    assert mdc.read(b"", "test.mdc") == mdc.Scope()
