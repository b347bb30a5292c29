"""The listing reader: what the protocol says, and any bytes at all."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datastore.listing import (
    FilesetRow,
    read_files,
    read_filesets,
    read_products,
    write_filesets,
)
from pipeline.errors import ContentMismatch, HostileName, ServerUnavailable
from pipeline.names import checked_member_path, checked_relative_path, checked_segment

READERS = (read_products, read_filesets, read_files)
MIXED = b"""# fileID          |bytes   |md5sum                          |type        |
results.fits      |8640    |c25ed3bde78a9c043c09120d976aa810|table       |
# fileID          |bytes   |md5sum                          |type        |component|
results.mdc       |270     |                                |text        |
x.tgz|5|c25ed3bde78a9c043c09120d976aa810|brand-new-type|XY01|
# fileID          |bytes   |md5sum                          |type        |chipname|
1001.fits|28800   |0e9407ab3a53ccd87a17339fcae3b352|chip        |XY02|

"""


def test_columns_are_those_of_the_nearest_header_above():
    rows = read_files(MIXED, "x")
    assert [(row.name, row.bytes, row.type, row.extra) for row in rows] == [
        ("results.fits", 8640, "table", {}),
        ("results.mdc", 270, "text", {}),
        ("x.tgz", 5, "brand-new-type", {"component": "XY01"}),
        ("1001.fits", 28800, "chip", {"chipname": "XY02"}),
    ]
    assert rows[1].md5 is None


def test_null_is_no_value():
    (row,) = read_filesets(b"# filesetID|time registered|type|stage|\na|2009-01-01T00:00:00Z|t|null|\n", "x")
    assert row.column("stage") is None
    assert row.column("nonsense") is None


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "body",
    [b"", b"\n", b"a|b|c|d|e|\n", b"[an error occurred]\n", b"# other|x|y|z|w|\n", b"\xff\xfe", b"#\n"],
)
def test_what_is_no_listing(reader, body):
    with pytest.raises(ServerUnavailable):
        reader(body, "http://x/index.txt")


@pytest.mark.parametrize("row", [b"a|2009|IPP", b"a|2009|IPP\n", b"a|2009\nb|2009"])
def test_a_last_row_that_is_cut_short(row):
    with pytest.raises(ServerUnavailable):
        read_filesets(b"# filesetID|time registered|type|\n" + row + b"\n", "x")


@pytest.mark.parametrize(
    "row", [b"a|-1||t|", b"a|many||t|", b"a|1|XYZ|t|", b"a|1||t|\na|1||t|", b"a|" + b"9" * 30 + b"||t|"]
)
def test_rows_of_files_that_make_no_sense(row):
    with pytest.raises(ContentMismatch):
        read_files(b"# fileID|bytes|md5sum|type|\n" + row + b"\n", "x")


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(body):
    for reader in READERS:
        for given_body in (body, b"# filesetID|time registered|type|\n# fileID|bytes|md5sum|type|\n" + body):
            with contextlib.suppress(ServerUnavailable, ContentMismatch):
                reader(given_body, "x")


FIELD = st.text("abcXYZ019-+_.: ", min_size=1, max_size=12).map(str.strip).filter(bool)


@given(
    st.lists(st.tuples(FIELD, FIELD, FIELD, FIELD), unique_by=lambda row: row[0], max_size=8),
    st.sampled_from(["stage", "filter"]),
)
def test_what_is_written_reads_back(fields, column):
    columns = ("filesetID", "time registered", "type", column)
    rows = [FilesetRow(*row[:3], columns, row) for row in fields]
    assert read_filesets(write_filesets(rows), "x") == rows


@given(st.text(max_size=300))
def test_no_accepted_name_leaves_its_folder(name):
    for check in (checked_segment, checked_relative_path, checked_member_path):
        try:
            accepted = check(name, "test")
        except HostileName:
            continue
        assert not accepted.startswith("/")
        assert ".." not in accepted.split("/")
        assert "\0" not in accepted
        assert all(0 < len(part.encode(errors="surrogateescape")) <= 255 for part in accepted.split("/"))


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "/a", "a\0b", "a\nb", "ä", " a", "a ", "x" * 256, "a|b", "a#b"]
)
def test_names_that_are_no_segment(name):
    with pytest.raises(HostileName):
        checked_segment(name, "test")
