"""Reading of header cards: what is found in valid files, and how damaged ones end."""

import gzip

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from support.fits_headers import cards_of, header_of, write_image

from pipeline.catalog.headers.cards import BLOCK, CARD, MAX_HEADER_BLOCKS, Cards, read_units
from pipeline.errors import BundleUnusable


def card(text: str) -> bytes:
    return text.ljust(CARD).encode("latin-1")


def header(*texts: str) -> bytes:
    raw = b"".join(map(card, [*texts, "END"]))
    return raw.ljust(-(-len(raw) // BLOCK) * BLOCK)


SIMPLE = (
    "SIMPLE  =                    T",
    "BITPIX  =                    8",
    "NAXIS   =                    0",
)


@given(
    text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
    number=st.floats(allow_nan=False, allow_infinity=False),
    count=st.integers(-(10**15), 10**15),
)
def test_values_are_those_that_astropy_wrote(text, number, count):
    made = fits.Header([("TEXT", text), ("NUMBER", number), ("COUNT", count), ("HIERARCH FPA.FILTER", text)])
    cards = cards_of(made)
    assert (cards.text("TEXT") or "") == text.strip()
    assert (cards.text("FPA.FILTER") or "") == text.strip()
    assert cards.number("NUMBER") == fits.Header.fromstring(made.tostring())["NUMBER"]
    assert cards.integer("COUNT") == count


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NAME    = 'O''Neil / x'          / comment", "O'Neil / x"),
        ("NAME    =             1.5D+03 / comment", "1.5D+03"),
        ("NAME    =                    T", "T"),
        ("NAME    = ''", None),
        ("NAME    =                      / undefined", None),
        ("NAME      is a comment", None),
        ("NAME    = 'no end", "'no end"),
        ("NAME    = 'caf\xe9'", "café"),
    ],
)
def test_a_value_is_read_as_it_stands(text, value):
    assert Cards(card(text)).text("NAME") == value


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("1.5D+03", 1500.0),
        ("'NaN'", None),
        ("'45.0'", 45.0),
        ("NaN", None),
        ("1E999", None),
        ("(1, 2)", None),
    ],
)
def test_only_finite_numbers_are_numbers(value, number):
    assert Cards(card(f"NAME    = {value}")).number("NAME") == number


def test_the_first_keyword_with_a_value_counts_and_the_first_card_of_a_keyword():
    cards = Cards(card("B       = ' '") + card("C       = 'c'") + card("C       = 'd'"))
    assert cards.text("A", "B", "C") == "c"
    assert cards.has_any("A", "B")
    assert not cards.has_any("A", "D")


def test_long_keywords_are_those_of_hierarch_cards_alone():
    cards = Cards(
        card("COMMENT HIERARCH FPA.FILTER = 'no'")
        + card("HIERARCH FPA.FILTERID = 'no'")
        + card("HIERARCH FPA.FILTER= 'r.00000' / filter")
    )
    assert cards.text("FPA.FILTER") == "r.00000"


def test_strings_that_go_on_do_not_disturb_the_cards_after_them(tmp_path):
    path = write_image(tmp_path / "long.fits", header_of(LONG="x" * 200, AFTER=7))
    (unit,) = read_units(path)
    assert unit.cards.integer("AFTER") == 7


def test_the_word_end_ends_no_header_within_a_card_or_as_the_beginning_of_a_keyword(tmp_path):
    path = tmp_path / "end.fits"
    path.write_bytes(header(*SIMPLE, "COMMENT the END     of it", "ENDTIME = 5", "AFTER   = 7"))
    (unit,) = read_units(path)
    assert unit.cards.integer("AFTER") == 7


@pytest.mark.parametrize("compressed", [False, True])
def test_data_are_skipped_unit_by_unit(tmp_path, compressed):
    path = tmp_path / "three.fits"
    units = [
        fits.PrimaryHDU(np.zeros((100, 100))),
        fits.BinTableHDU.from_columns([fits.Column("a", "PJ()", array=[[1, 2], [3]])], name="table"),
        fits.ImageHDU(np.zeros((3, 4, 5), np.int16), name="cube"),
        fits.ImageHDU(name="empty"),
    ]
    fits.HDUList(units).writeto(path)
    if compressed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    found = list(read_units(path))
    assert [unit.cards.text("EXTNAME") for unit in found] == [None, "TABLE", "CUBE", "EMPTY"]
    assert [unit.number for unit in found] == [0, 1, 2, 3]
    assert [unit.missing for unit in found] == [0, 0, 0, 0]


def test_random_groups_are_skipped(tmp_path):
    path = tmp_path / "groups.fits"
    groups = fits.GroupData(np.zeros((7, 1, 30, 40)), bitpix=-32, parnames=["a"], pardata=[np.zeros(7)])
    fits.HDUList([fits.GroupsHDU(groups), fits.ImageHDU(name="after")]).writeto(path)
    assert [unit.cards.text("EXTNAME") for unit in read_units(path)] == [None, "AFTER"]


def test_records_after_the_last_unit_are_no_unit(tmp_path):
    path = write_image(tmp_path / "image.fits", fits.Header())
    with path.open("ab") as file:
        file.write(b"\0" * 100)
    assert len(list(read_units(path))) == 1


def test_cut_data_are_told_in_bytes(tmp_path):
    path = write_image(tmp_path / "image.fits", fits.Header(), (100, 100))
    path.write_bytes(path.read_bytes()[: BLOCK + 39_000])
    (unit,) = read_units(path)
    assert unit.missing == 1000
    path.write_bytes(gzip.compress(path.read_bytes()))
    units = read_units(path)
    assert next(units).number == 0
    with pytest.raises(BundleUnusable, match="unit 0 at byte 0: the file is cut off, 1000 bytes of the data"):
        next(units)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "unit 0 at byte 0: expected the keyword SIMPLE of a FITS file, got b''"),
        (
            b"<html>\n" * 500,
            "unit 0 at byte 0: expected the keyword SIMPLE of a FITS file, got b'<html>\\\\n<'",
        ),
        (header(*SIMPLE)[:1000], "unit 0 at byte 0: the header ends after 1000 bytes without END"),
        (
            header(*SIMPLE) + header("XTENSION= 'IMAGE   '")[:200],
            "unit 1 at byte 2880: the header ends after 200 bytes without END",
        ),
        (
            header(*SIMPLE).replace(b"END", b"DNE") * (MAX_HEADER_BLOCKS + 1),
            f"expected END within {MAX_HEADER_BLOCKS} blocks",
        ),
        (header(*SIMPLE[:2]), "expected a whole number as NAXIS, got None"),
        (header(*SIMPLE[:2], "NAXIS   = 1"), "expected a whole number as NAXIS1, got None"),
        (header(*SIMPLE[:2], "NAXIS   = 1", "NAXIS1  = -5"), "expected a whole number as NAXIS1, got '-5'"),
        (header(*SIMPLE[:2], "NAXIS   = 10000"), "expected at most 999 as NAXIS, got 10000"),
        (
            header(SIMPLE[0], "BITPIX  = 7", SIMPLE[2]),
            "expected 8, 16, 32, 64, -32 or -64 as BITPIX, got '7'",
        ),
        (
            header(*SIMPLE[:2], "NAXIS   = 99", *(f"NAXIS{n + 1:<3}= {'9' * 60}" for n in range(99))),
            "expected at most 4611686018427387904 bytes of data",
        ),
        (gzip.compress(header(*SIMPLE))[:30], "expected a gzip file, got: "),
        (b"\x1f\x8b\x08\0" + b"\xff" * 100, "expected a gzip file, got: "),
    ],
)
def test_damage_is_one_error_with_its_place(tmp_path, content, message):
    path = tmp_path / "damaged.fits"
    path.write_bytes(content)
    with pytest.raises(BundleUnusable, match=message):
        list(read_units(path))


@pytest.mark.parametrize("compressed", [False, True])
def test_sizes_beyond_all_files_end_the_reading(tmp_path, compressed):
    vast = header(*SIMPLE[:2], "NAXIS   = 2", "NAXIS1  = " + "9" * 9, "NAXIS2  = " + "9" * 9)
    path = tmp_path / "vast.fits"
    path.write_bytes(gzip.compress(vast) if compressed else vast)
    assert len(list(read_units(path))) == 1


@given(content=st.binary(max_size=400), place=st.integers(0, 3000))
def test_any_bytes_are_units_or_one_error(tmp_path_factory, content, place):
    path = tmp_path_factory.mktemp("any") / "any.fits"
    good = header(*SIMPLE) + header("XTENSION= 'IMAGE   '", *SIMPLE[1:])
    path.write_bytes(good[:place] + content + good[place + len(content) :])
    try:
        for unit in read_units(path):
            unit.cards.number("BITPIX", "CHIP.SEEING")
    except BundleUnusable as error:
        assert "expected" in str(error) or "without END" in str(error)
