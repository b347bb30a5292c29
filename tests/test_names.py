"""Names from outside: whatever is accepted stays below its folder, the rest is refused by one error."""

import os
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import HostileName
from pipeline.names import checked_member_path, checked_relative_path, checked_segment, escaped, is_usable

CHECKS = [checked_segment, checked_relative_path, checked_member_path]
ALLOWED = string.ascii_letters + string.digits + "-+_.: "
TRICKY = st.lists(
    st.sampled_from(
        [
            "..",
            ".",
            "/",
            "//",
            "a",
            " ",
            "\0",
            "\n",
            "\x7f",
            "\x85",
            "\u202e",
            "\ud800",
            "é",
            "~",
            "\\",
            "x" * 255,
        ]
    ),
    max_size=8,
).map("".join)
NAMES = st.text(max_size=40) | TRICKY | st.text(ALLOWED + "/", max_size=40)


def accepted(check, name):
    """Return the result of the check; None when it refuses the name, which only HostileName may do."""
    try:
        return check(name, "file of fileset X")
    except HostileName as error:
        assert str(error).startswith("file of fileset X: ")
        assert str(error).isprintable()
        return None


@given(st.sampled_from(CHECKS), NAMES)
@example(checked_member_path, "./../x")
@example(checked_relative_path, "a/../../x")
@example(checked_segment, "..")
def test_no_accepted_name_leaves_its_folder(check, name):
    kept = accepted(check, name)
    if kept is None:
        return
    joined = os.path.normpath(os.path.join("/mirror/data", kept))  # noqa: PTH118
    assert joined == f"/mirror/data/{kept}"
    assert joined != "/mirror/data/"


@given(st.sampled_from(CHECKS), NAMES)
def test_an_accepted_name_can_be_a_path_and_be_printed(check, name):
    kept = accepted(check, name)
    if kept is not None:
        assert kept.isprintable()
        assert max(len(os.fsencode(segment)) for segment in kept.split("/")) <= 255
        assert accepted(check, kept) == kept


@given(st.text(ALLOWED, min_size=1, max_size=255))
def test_a_segment_of_the_protocols_characters_is_accepted_unchanged(name):
    usual = name not in {".", ".."} and name == name.strip(" ")
    assert accepted(checked_segment, name) == (name if usual else None)
    assert is_usable(name) == usual


@given(st.text(max_size=20), st.characters(exclude_characters=ALLOWED), st.text(max_size=20))
def test_one_other_character_makes_a_segment_hostile(before, character, after):
    assert accepted(checked_segment, before + character + after) is None
    assert not is_usable(before + character + after)


@given(
    st.lists(
        st.text(ALLOWED, min_size=1, max_size=20).map(str.strip).filter(is_usable), min_size=1, max_size=5
    )
)
def test_a_relative_path_loses_only_what_says_nothing(segments):
    path = "/".join(segments)
    assert accepted(checked_relative_path, path) == path
    assert accepted(checked_relative_path, "./" + path.replace("/", "//./") + "/") == path
    assert accepted(checked_member_path, "./" + path.replace("/", "//./") + "/") == path


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "/a", "./", "a/..", "../a", "a\0", "a\nb", "\x1b[2J", "a\x7f"]
)
def test_names_that_no_check_accepts(check, name):
    assert accepted(check, name) is None


@pytest.mark.parametrize("check", [checked_relative_path, checked_member_path])
def test_the_limits_of_a_path(check):
    deepest, longest = "/".join(["a"] * 64), "/".join(["x" * 255] * 4)
    assert accepted(check, deepest) == deepest
    assert accepted(check, longest) == longest
    assert accepted(check, f"{deepest}/a") is None
    assert accepted(check, f"{longest}/a") is None
    assert accepted(check, "./" * 2000 + "a") is None


@pytest.mark.parametrize("check", [checked_relative_path, checked_member_path])
def test_names_of_temporary_files_are_refused(check):
    for name in (".0123.tag.unpacking", ".x.UnPacking", "a/.0123.tag.unpacking/b", "..unpacking"):
        assert accepted(check, name) is None
    for name in ("a.unpacking", ".unpacking.fits", "unpacking"):
        assert accepted(check, name) == name


@pytest.mark.parametrize("check", CHECKS)
def test_255_bytes_are_the_most(check):
    assert accepted(check, "x" * 255) == "x" * 255
    assert accepted(check, "x" * 256) is None


def test_the_limit_of_a_member_is_in_bytes():
    assert accepted(checked_member_path, "é" * 127) == "é" * 127
    assert accepted(checked_member_path, "a/" + "é" * 128) is None


@pytest.mark.parametrize("name", ["\udcff", "a/b\udc80c", "\ud800"])
def test_undecodable_bytes_are_refused(name):
    assert [accepted(check, name) for check in CHECKS] == [None] * 3


@pytest.mark.parametrize("name", ["a/b", "a//b", "a/"])
def test_a_segment_is_one(name):
    assert accepted(checked_segment, name) is None


def test_a_member_may_have_a_name_that_the_protocol_does_not_know():
    assert accepted(checked_member_path, "./ä b/c~,(1).fits") == "ä b/c~,(1).fits"
    assert accepted(checked_relative_path, "./ä b") is None


@pytest.mark.parametrize(
    ("text", "shown"),
    {
        "o1.chip é 星": "o1.chip é 星",
        "\x1b[31mred\x07\x7f": "\\x1b[31mred\\x07\\x7f",
        "a\nb\r\tc\x85\u2028": "a\\nb\\r\\tc\\x85\\u2028",
        "\u202etxt\u200b": "\\u202etxt\\u200b",
        "\udc80": "\\udc80",
    }.items(),
)
def test_what_is_shown_of_text_from_outside(text, shown):
    assert escaped(text) == shown


@given(st.text())
def test_what_is_shown_is_printable(text):
    assert escaped(text).isprintable()
    assert set(escaped(text, but="\n").replace("\n", "")) <= set(escaped(text))
