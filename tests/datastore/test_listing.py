"""Listings as the original server prints them, as they arrive damaged, and as they are kept here."""

import contextlib
import itertools
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.processor_time import takes_at_most
from support.wire import recorded

from pipeline.datastore.listing import (
    FileRow,
    FilesetRow,
    LeftOut,
    ProductRow,
    read_files,
    read_filesets,
    read_products,
    registered_order,
    registered_time,
    write_filesets,
)
from pipeline.errors import ContentMismatch, ServerUnavailable

PRODUCTS = b"# productID|Most recent|Time registered|type|Description|\n"
FILESETS = b"# filesetID|time registered|type|stage|filter|\n"
FILES = b"# fileID|bytes|md5sum|type|component|\n"
MD5 = "0455abb6d9c60aacabd053ecc2a68fd4"
READERS = [(read_products, PRODUCTS), (read_filesets, FILESETS), (read_files, FILES)]
MORE_COLUMNS = ("target_id", "stage", "stage_id", "exp_name", "data_group", "filter")


@pytest.fixture
def left_out() -> LeftOut:
    return LeftOut()


def test_the_recorded_root():
    rows = read_products(recorded("01_root_index.txt").body, "root")
    assert [row.name for row in rows] == [
        *("md-all-rel-200907", "empty-product", "oddities", "bench", "unkprod", "pstampresults"),
    ]
    assert rows[1] == ProductRow(
        "empty-product", None, "2026-11-23T21:24:59Z", "ipp-dist", "A product without filesets"
    )
    assert rows[4].type == "newtype"
    assert rows[5].most_recent == "web_1002"


def test_the_recorded_product():
    rows = read_filesets(recorded("02_product_index.txt").body, "product")
    assert [row.name for row in rows] == [
        "o4741g0234o.chip.14517.31.1",
        "o4741g0235o.chip.14518.32.1",
        "o4741g0236o.camera.9001.33.1",
        "stack.2001.34.1",
        "o4741g0239o.chip.14520.37.1",
        "o4741g0237o.warp.7001.35.1",
    ]
    assert {row.columns for row in rows} == {("filesetID", "time registered", "type", *MORE_COLUMNS)}
    assert rows[3].column("exp_name") == "stack.2001"
    assert [rows[4].column(column) for column in MORE_COLUMNS] == [None] * 6
    assert rows[0].column("no such column") is None


def test_recorded_answers_to_since():
    newer = read_filesets(recorded("03_product_since_known.txt").body, "since")
    assert newer == read_filesets(recorded("02_product_index.txt").body, "product")[2:]
    assert read_filesets(recorded("04_product_since_newest.txt").body, "since") == []
    assert read_filesets(recorded("06_product_empty.txt").body, "product") == []


def test_the_recorded_fileset():
    rows = read_files(recorded("08_fileset_index.txt").body, "fileset")
    assert rows[0] == FileRow("dbinfo.chip.14517.mdc", 2576, MD5, "text", {"component": "dbinfo"})
    assert [row.component for row in rows] == ["dbinfo", "dirinfo", "XY01", "XY02", "XY03", "XY10", "XY14"]
    assert sum(row.bytes for row in rows) == 188_812


def test_the_recorded_fileset_whose_columns_change():
    rows = read_files(recorded("09_fileset_mixed_pstamp_1001.txt").body, "fileset")
    assert [row.name for row in rows] == [
        "results.fits",
        "results.mdc",
        "1001_1_ota01_XY01.fits",
        "1001_2_ota02_XY02.fits",
        "1001_3_ota14_XY14.fits",
    ]
    assert [row.type for row in rows] == ["table", "text", "chip", "chip", "chip"]
    assert [row.extra for row in rows] == [{}] * 5
    assert read_files(recorded("11_fileset_empty.txt").body, "fileset") == []


@pytest.mark.parametrize("reader", [read_products, read_filesets, read_files])
@pytest.mark.parametrize(
    "name",
    [
        "05_product_since_unknown.txt",
        "07_product_unknown.txt",
        "39e_since_slash.txt",
        "62_dbdown_product.txt",
        "21_file_head.txt",
    ],
)
def test_recorded_answers_that_are_no_listing(name, reader):
    with pytest.raises(ServerUnavailable, match=r"http://x: expected a listing with a '# \w+ID \|…' line"):
        reader(recorded(name).body, "http://x")


def test_a_listing_of_another_level_is_no_listing():
    for reader, own in READERS:
        for _, header in READERS:
            if header != own:
                with pytest.raises(ServerUnavailable):
                    reader(header, "http://x")


def test_columns_are_found_by_name_wherever_they_stand():
    (row,) = read_filesets(b"#filesetID|time registered|type|filter|new|stage\nf|t|T|r| 5 |chip|\n", "x")
    assert [row.column(name) for name in ("stage", "filter", "new", "type")] == ["chip", "r", "5", "T"]
    (row,) = read_files(b"# fileID|bytes|md5sum|type|chipname|component|\nf|1||t|X|Y|\n", "x")
    assert (row.extra, row.component) == ({"chipname": "X", "component": "Y"}, "Y")


def test_the_columns_in_force_are_those_of_the_nearest_header_above():
    rows = read_filesets(
        FILESETS
        + b"a|t|T|chip|r|\n# filesetID|time registered|type|filter|\nb|t|T|g|\n"
        + FILESETS
        + b"c|t|T|x|",
        "x",
    )
    assert [(row.column("stage"), row.column("filter")) for row in rows] == [
        ("chip", "r"),
        (None, "g"),
        ("x", None),
    ]


def test_a_row_may_be_shorter_or_longer_than_its_header():
    short, long = read_filesets(FILESETS + b"a|t|T|\nb|t|T|chip|r|more|\n", "x")
    assert (short.column("stage"), short.column("filter")) == (None, None)
    assert (long.column("filter"), long.fields[5]) == ("r", "more")


def test_lines_that_say_nothing_are_skipped():
    body = (
        b"\n# made by hand\n#\n"
        + FILESETS
        + b"\n   \t\n# filesetID|too few|\n##\na|t|T|chip|\n#|\nb|t|T|x|\n\n"
    )
    rows = read_filesets(body, "x")
    assert [(row.name, row.column("stage")) for row in rows] == [("a", "chip"), ("b", "x")]


def test_lines_may_end_as_on_windows():
    for reader, body in [
        (read_products, recorded("01_root_index.txt").body),
        (read_filesets, recorded("02_product_index.txt").body),
        (read_files, recorded("09_fileset_mixed_pstamp_1001.txt").body),
    ]:
        assert reader(body.replace(b"\n", b"\r\n"), "x") == reader(body, "x")


def test_rows_before_the_header_make_it_no_listing():
    with pytest.raises(ServerUnavailable, match="expected a listing"):
        read_filesets(b"a|t|T|chip|r|\n" + FILESETS, "x")


def test_a_listing_that_is_cut_off_within_a_row_is_refused_wherever_it_was_cut():
    body = recorded("02_product_index.txt").body.rstrip(b"\n")
    whole = read_filesets(body, "x")
    ends = {index + 1 for index in range(len(body)) if body[index : index + 1] in b"|\n"}
    for length in range(body.index(b"\n") + 1, len(body)):
        try:
            rows = read_filesets(body[:length], "http://x")
        except ServerUnavailable as error:
            assert "http://x, line " in str(error)
            continue
        assert length in ends or body[length : length + 1] == b"\n"
        assert [row.name for row in rows] == [row.name for row in whole[: len(rows)]]


@pytest.mark.parametrize(("reader", "header"), READERS)
@pytest.mark.parametrize("rubbish", [b"\xff\xfe\x00", "filesetID|é|".encode(), bytes(range(256))])
def test_rubbish_is_refused_and_shown_escaped(rubbish, reader, header):
    for body in (rubbish, rubbish + b"|\n" + header):
        with pytest.raises(ServerUnavailable, match="http://x: expected a listing with a '# ") as raised:
            reader(body, "http://x")
        assert str(raised.value).replace("…", "").isascii()


def test_of_two_rows_of_one_name_the_later_one_holds(left_out):
    rows = read_filesets(FILESETS + b"a|t|T|\nb|t|T|\na |t2|T|\n", "http://x", left_out)
    assert [(row.name, row.registered) for row in rows] == [("b", "t"), ("a", "t2")]
    assert left_out.messages() == [
        "http://x: 'a' is listed more than once, and its last row holds. The row is left out."
    ]
    assert (left_out.damaged, left_out.repeated) == (0, 1)
    (product,) = read_products(PRODUCTS + b"p|a|t|T|one|\np|b|t|T|other|\n", "http://x")
    assert product.description == "other"


def test_a_file_that_is_listed_twice():
    with pytest.raises(ContentMismatch, match="'a' is listed twice"):
        read_files(FILES + b"a|1||t|\n a|1||t|\n", "x")


FREE_TEXT = [
    *("déjà vu".encode(), b"d\xe9j\xe0 vu", b"seeing < 1'' # cloudy", b"x # y|", b"\x80\xff"),
    *(b"clouds\nwind", b"clouds\n\nwind", b"clouds\r\n# wind", b"clouds\n", b"a\nb\nc"),
]


@pytest.mark.parametrize("text", FREE_TEXT)
def test_free_text_costs_no_row_and_no_other_column(text, left_out):
    header = b"# filesetID|time registered|type|stage|comment|\n"
    body = header + b"a|t|T|chip|fine|\nb|t|T|warp|" + text + b"|\nc|t|T|diff|fine|\n"
    rows = read_filesets(body, "http://x", left_out)
    assert [(row.name, row.registered, row.column("stage")) for row in rows] == [
        *(("a", "t", "chip"), ("b", "t", "warp"), ("c", "t", "diff")),
    ]
    assert left_out.messages() == []
    kept = write_filesets(rows)
    assert read_filesets(kept, "again") == rows
    if b"\n" not in text and b"|" not in text:
        assert text in kept


@pytest.mark.parametrize("text", FREE_TEXT)
def test_free_text_in_the_description_of_a_product_costs_no_product(text):
    body = PRODUCTS + b"p|none|t|T|" + text + b"|\nq|f|t|T|fine|\n"
    assert [(row.name, row.most_recent, row.type) for row in read_products(body, "x")] == [
        *(("p", None, "T"), ("q", "f", "T")),
    ]


def test_of_many_odd_rows_the_first_are_named_and_the_others_counted(left_out):
    for times in (1, 2):
        rows = read_filesets(FILESETS + b"x|\n" * 1000 + b"a|t|T|chip|r|\n", "http://x", left_out)
        assert [row.name for row in rows] == ["a"]
        assert len(left_out.messages()) == 21
        assert left_out.messages()[-1] == f"{1000 * times - 20} more rows are left out."


def test_rows_left_out_of_a_listing_that_is_invalid_do_not_count(left_out):
    with pytest.raises(ServerUnavailable):
        read_filesets(FILESETS + b"x|\na|t|T|chip", "http://x", left_out)
    assert left_out == LeftOut()


def test_a_row_of_very_many_lines_takes_time_in_proportion():
    def read(body: bytes) -> None:
        with contextlib.suppress(ServerUnavailable):
            read_filesets(body, "x")

    bodies = (FILESETS + b"x\n" * lines for lines in (25_000, 100_000))
    assert takes_at_most(12, read, *bodies, slack=0.012)


def test_a_row_whose_end_is_missing_does_not_swallow_the_next(left_out):
    body = FILESETS + b"a|t|T|chip|r|\nb|t|T|ch\nc|t|T|warp|r|\nd|t\ne|t|T|warp|r|\n"
    rows = read_filesets(body, "http://x", left_out)
    assert [(row.name, row.column("stage")) for row in rows] == [
        *(("a", "chip"), ("b", "ch"), ("c", "warp"), ("e", "warp")),
    ]
    assert left_out.messages() == [
        "http://x, line 5: expected at least 3 fields, got 2: 'd|t|'. The row is left out."
    ]


DAMAGED_ROWS = [b"x|", b"x|t|", b"\xe9|t|T|", b"x|\xe9|T|", b"|", b"#x|t|T|D|D|", b" # x|t|T|chip|r|\r"]


@pytest.mark.parametrize("row", DAMAGED_ROWS)
def test_a_row_that_makes_no_sense_is_left_out_alone(row, left_out):
    rows = read_filesets(FILESETS + b"a|t|T|chip|r|\n" + row + b"\nb|t|T|warp|r|\n", "http://x", left_out)
    assert [row.name for row in rows] == ["a", "b"]
    assert "http://x, line 3: expected " in left_out.messages()[0]
    products = read_products(PRODUCTS + b"p|f|t|T|D|\n" + row + b"\nq|f|t|T|D|\n", "http://y", left_out)
    assert [row.name for row in products] == ["p", "q"]
    assert "http://y, line 3: expected " in left_out.messages()[1]
    assert left_out.damaged == 2


def test_a_file_whose_name_begins_with_the_sign_of_a_comment_costs_its_fileset():
    with pytest.raises(ServerUnavailable, match=r"http://x, line 3: expected a name without '#', got '#b\|"):
        read_files(FILES + b"a|1||t|\n#b|1||t|\n", "http://x")


def test_the_fifth_column_is_the_component_when_it_has_no_name():
    for header in (b"# fileID|bytes|md5sum|type|\n", b"# fileID|bytes|md5sum|type||\n"):
        named, empty, short = read_files(header + b"a|1||tgz|XY01|\nb|1||tgz||\nc|1||text|\n", "x")
        assert (named.component, named.is_bundle) == ("XY01", True)
        assert not empty.is_bundle
        assert short.component is None
    (row,) = read_files(b"# fileID|bytes|md5sum|type||component|\na|1||tgz|XY01|XY02|\n", "x")
    assert row.component == "XY02"
    (row,) = read_files(b"# fileID|bytes|md5sum|type|chipname|\na|1||tgz|XY01|\n", "x")
    assert row.component is None


@pytest.mark.parametrize("size", ["", "-1", "+1", "1.0", "1e3", "0x10", "1 0", "null", "9" * 20, "9" * 15])
def test_a_size_that_is_no_number_or_beyond_any_disk(size):
    with pytest.raises(ContentMismatch, match=r"expected a size in bytes \(at most 10\*\*14\) for file 'f'"):
        read_files(FILES + f"f|{size}||t|\n".encode(), "x")


@pytest.mark.parametrize("md5", ["null", MD5[:-1], MD5 + "0", "g" * 32])
def test_an_md5_that_is_none(md5):
    with pytest.raises(ContentMismatch, match="expected an md5 of 32 hex digits for file 'f'"):
        read_files(FILES + f"f|1|{md5}|t|\n".encode(), "x")


def test_an_md5_in_upper_case_is_the_same():
    (row,) = read_files(FILES + f"f|1|{MD5.upper()}|t|\n".encode(), "x")
    assert row.md5 == MD5


@pytest.mark.parametrize(("reader", "header"), READERS)
@pytest.mark.parametrize("filling", ["|", "x", "x|"])
def test_a_row_of_megabytes_is_not_split(reader, header, filling, left_out):
    body = header + b"a|1||t|" + filling.encode() * 70_000 + b"|\n"
    said = "http://x, line 2: expected at most 65536 bytes, got "
    if reader is read_files:
        with pytest.raises(ServerUnavailable, match=said):
            reader(body, "http://x")
    else:
        assert reader(body, "http://x", left_out) == []
        assert said in left_out.messages()[0]
    columns = header.rstrip(b"\n") + filling.encode() * 70_000 + b"\n"
    assert reader(header + columns, "x") == []


def test_a_missing_md5_and_an_unknown_type():
    assert read_files(FILES + b"f|0|  |brand-new|\n", "x") == [FileRow("f", 0, None, "brand-new", {})]


@pytest.mark.parametrize(
    "text", ["null", "", "9", "²", "20300101", "2026-13-01T00:00:00Z", "2026-01-01T00:00:13.5Z", "2026-01-01"]
)
def test_what_is_no_time_of_registration_is_the_earliest(text):
    assert registered_order(text) == ""
    assert registered_order(text) < registered_order("2009-08-01T03:03:25Z")


def test_the_time_of_registration():
    assert registered_time("2009-07-29T03:02:13Z") == datetime(2009, 7, 29, 3, 2, 13, tzinfo=UTC)
    for text in ("null", "", "2009-07-29", "2009-07-29T03:02:13", "2009-02-30T00:00:00Z", "9" * 500):
        assert registered_time(text) is None


BYTES = st.binary(max_size=300) | st.text("|#\n\r \t\v\fnulidfesTypoghmDr0a1:-.\0\x1f", max_size=300).map(
    str.encode
)


@given(st.sampled_from(READERS), BYTES, st.booleans())
def test_any_bytes_are_rows_or_one_of_the_documented_errors(reader, body, with_header):
    read, header = reader
    try:
        rows = read(header + body if with_header else body, "http://x")
    except ServerUnavailable as error:
        assert "http://x" in str(error)
    except ContentMismatch as error:
        assert read is read_files
        assert "http://x" in str(error)
    else:
        assert len(rows) <= body.count(b"\n") + 1


@given(BYTES)
@example(b"\v#a|t|T|\n")
@example(b"a|t|T|\n# filesetID|x|y||\nb|t|T|\n")
def test_whatever_is_read_is_kept(body):
    try:
        rows = read_filesets(FILESETS + body, "x")
    except ServerUnavailable:
        return
    assert read_filesets(write_filesets(rows), "again") == rows


VALUE = st.text("abyzAXZ019-+_.:", min_size=1, max_size=8)
COLUMN_SETS = st.sampled_from([("stage",), ("stage", "filter"), ("filter", "stage", "x y"), ()])


@st.composite
def fileset_rows(draw):
    names = draw(st.lists(VALUE, unique=True, max_size=8))
    rows = []
    for name in names:
        columns = ("filesetID", "time registered", "type", *draw(COLUMN_SETS))
        fields = (name, draw(VALUE), draw(VALUE), *draw(st.lists(VALUE | st.just(""), max_size=4)))
        rows.append(FilesetRow(fields[0], fields[1], fields[2], columns, fields))
    return rows


@given(fileset_rows())
def test_what_is_written_reads_back(rows):
    body = write_filesets(rows)
    assert read_filesets(body, "x") == rows
    changes = sum(one.columns != other.columns for one, other in itertools.pairwise(rows))
    assert body.count(b"#") == changes + 1


def is_read_in_proportion(make: Callable[[int], bytes]) -> bool:
    """Return True if four times as much is read in about four times the time."""
    return takes_at_most(12, lambda body: read_filesets(body, "x"), make(25_000), make(100_000), slack=0.012)


@pytest.mark.long
def test_reading_takes_time_in_proportion_to_the_rows():
    def listing(rows: int) -> bytes:
        return FILESETS + b"".join(
            b"o%d.chip.%d.1.1|2009-07-29T03:02:13Z|T|chip|\n" % (i, i) for i in range(rows)
        )

    assert is_read_in_proportion(listing)


@pytest.mark.long
@pytest.mark.parametrize("piece", [b"#\n", b"# filesetID|a|b|\n", b"\n", b" \r\n", b"x|y\n|"])
def test_lines_of_rubbish_take_time_in_proportion(piece):
    assert is_read_in_proportion(lambda lines: FILESETS + piece * lines)
