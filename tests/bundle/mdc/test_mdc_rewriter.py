"""Editing of Metadata Config documents: the values that change, and every other byte as it was."""

import gzip

import pytest

from pipeline.bundle import mdc
from pipeline.errors import BundleUnusable

DOCUMENT = (
    b"# head \t\r\n"
    b"a  STR \told value\t  # why\r\n"
    b"\n"
    b"\ts METADATA # sub\n"
    b"a STRING x#y\n"
    b"   n S32   5\n"
    b"   none STR NULL\n"
    b"END \n"
    b"a STR again\n"
    b"@v STR  p, q ,r # words\n"
    b"TYPE CELL chip type\n"
    b"amp CELL  one   two\t# row\n"
    b"last STR end"
)


def shouted(string):
    return string.value.upper() if string.value else None


def test_only_the_values_of_strings_change():
    assert mdc.rewrite(DOCUMENT, "test.mdc", shouted) == (
        b"# head \t\r\n"
        b"a  STR \tOLD VALUE\t  # why\r\n"
        b"\n"
        b"\ts METADATA # sub\n"
        b"a STRING X#y\n"
        b"   n S32   5\n"
        b"   none STR NULL\n"
        b"END \n"
        b"a STR AGAIN\n"
        b"@v STR  P, Q ,R # words\n"
        b"TYPE CELL chip type\n"
        b"amp CELL  ONE   TWO\t# row\n"
        b"last STR END"
    )


def test_the_callback_learns_where_a_value_is():
    seen = {}

    def look(string):
        seen[string.line, string.value] = (
            string.path,
            string.name,
            len(string.scopes),
            string.scopes[-1].get("n"),
            string.scopes[0].get("last"),
            string.word,
        )

    assert mdc.rewrite(DOCUMENT, "test.mdc", look) is DOCUMENT
    assert seen == {
        (2, "old value"): ((), "a", 1, None, "end", None),
        (5, "x"): (("s",), "a", 2, 5, "end", None),
        (7, None): (("s",), "none", 2, 5, "end", None),
        (9, "again"): ((), "a", 1, None, "end", None),
        (10, "p"): ((), "v", 1, None, "end", 0),
        (10, "q"): ((), "v", 1, None, "end", 1),
        (10, "r"): ((), "v", 1, None, "end", 2),
        (12, "one"): (("amp",), "chip", 2, None, "end", 0),
        (12, "two"): (("amp",), "type", 2, None, "end", 1),
        (13, "end"): ((), "last", 1, None, "end", None),
    }


def test_one_word_of_a_row_and_of_a_vector():
    def second(string):
        return {"q": "longer", "two": "NULL"}.get(string.value)

    changed = mdc.rewrite(DOCUMENT, "test.mdc", second)
    assert b"@v STR  p, longer ,r # words\n" in changed
    assert b"amp CELL  one   NULL\t# row\n" in changed


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        (b"a STR", b"a STR new"),
        (b"a STR\r\n", b"a STR\rnew\n"),
        (b"a STR  # why", b"a STR  new# why"),
        (b"a STR#why", b"a STR new#why"),
        (b"a STR NULL", b"a STR new"),
    ],
)
def test_an_empty_value_gets_its_blank(line, changed):
    assert mdc.rewrite(line, "test.mdc", lambda *_: "new") == changed
    assert mdc.read(changed, "test.mdc")["a"] == "new"


@pytest.mark.parametrize("new", ["a#b", "a\nb", " a", "a\r", "\udc80"])
def test_a_value_that_no_line_can_hold_is_refused(new):
    with pytest.raises(
        BundleUnusable, match=r"test\.mdc, line 2: expected a new value that the line can hold"
    ):
        mdc.rewrite(b"\na STR x\n", "test.mdc", lambda *_: new)


@pytest.mark.parametrize("line", [b"@a STR x y", b"TYPE C f g\na C x y"])
@pytest.mark.parametrize("new", ["a b", ""])
def test_a_word_that_would_be_none_or_two_is_refused(line, new):
    with pytest.raises(BundleUnusable):
        mdc.rewrite(line, "test.mdc", lambda *_: new)


def test_bytes_that_are_no_utf8_stay():
    document = b"# \xff\xfe\na STR x\xe9 # \x80\nb STR \xe9\n"
    changed = mdc.rewrite(document, "test.mdc", lambda string: "new" if string.name == "b" else None)
    assert changed == b"# \xff\xfe\na STR x\xe9 # \x80\nb STR new\n"
    with pytest.raises(BundleUnusable, match="no UTF-8"):
        mdc.rewrite(document, "test.mdc", lambda *_: "ā")


def test_a_gzip_document_comes_back_gzipped_and_the_same_every_time():
    first, second = gzip.compress(DOCUMENT, mtime=1), gzip.compress(DOCUMENT, 1, mtime=2)
    changed = mdc.rewrite(first, "test.mdc", shouted)
    assert gzip.decompress(changed) == mdc.rewrite(DOCUMENT, "test.mdc", shouted)
    assert changed == mdc.rewrite(second, "test.mdc", shouted)
    assert changed[4:8] == bytes(4)
    assert mdc.rewrite(first, "test.mdc", lambda *_: None) is first


def test_what_update_and_reset_would_hide_is_rewritten_too():
    document = b"s METADATA\na STR 1\nEND\ns METADATA UPDATE\na STR 2\nEND\ns METADATA RESET\na STR 3\nEND\n"
    changed = mdc.rewrite(document, "test.mdc", lambda _: "x")
    assert changed.count(b"a STR x\n") == 3


def test_very_deep_documents_are_refused():
    deep = mdc.MAX_REWRITTEN_DEPTH + 1
    with pytest.raises(BundleUnusable, match="deep"):
        mdc.rewrite(b"s METADATA\n" * deep + b"END\n" * deep, "test.mdc", shouted)


def test_a_document_that_reads_is_rewritten_whatever_reset_took_away():
    document = (
        b"a S8 1\na METADATA RESET\nTYPE C f\nEND\n"
        b"a METADATA RESET\nTYPE C f g\nEND\na METADATA UPDATE\nr C x y\nEND\n"
    )
    mdc.read(document, "test.mdc")
    assert b"r C N y" in mdc.rewrite(document, "test.mdc", lambda string: "N" if string.name == "f" else None)


def test_strings_in_scopes_that_a_reader_passes_over():
    document = b"s S8 1\ns METADATA\n t METADATA\n  a STR 1\n END\n t METADATA\n  a STR 2\n END\nEND\n"
    paths = []
    mdc.rewrite(document, "test.mdc", lambda string: paths.append((string.path, string.value)))
    assert sorted(paths) == [(("s", "t"), "1"), (("s", "t"), "2")]
