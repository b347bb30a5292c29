"""Selection of files and members: what it chooses, and which filesets lack something of it."""

import pytest
from support.audit import opened_below

from pipeline.config import Product
from pipeline.datastore.listing import FileRow, FilesetRow
from pipeline.mirror.state.file_selection import (
    FileSelection,
    chosen_rows,
    lacking_filesets,
    matches_nothing,
    may_lack,
    note_file_selection,
    record_left_out,
)
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.markers import Fileset, mark_done

ROWS = [
    FileRow("dirinfo.mdc", 3, None, "text", {"component": "dirinfo"}),
    FileRow("f.exposure.tgz", 4, None, "tgz", {"component": "exposure"}),
    FileRow("f.XY01.tgz", 5, None, "tgz", {"component": "XY01"}),
    FileRow("note.txt", 6, None, "text", {}),
]
INDEX = b"""# fileID|bytes|md5sum|type|component|
dirinfo.mdc|3|00000000000000000000000000000000|text|dirinfo|
f.exposure.tgz|4|00000000000000000000000000000000|tgz|exposure|
f.XY01.tgz|5|00000000000000000000000000000000|tgz|XY01|
note.txt|6|00000000000000000000000000000000|text||
"""
CHOSEN = {
    "": "dirinfo f.exposure f.XY01 note",
    "components=exposure": "dirinfo f.exposure",
    "components=XY*": "dirinfo f.XY01",
    "files=*.txt": "dirinfo note",
    "files=*.txt components=exposure": "dirinfo f.exposure note",
    "components=none": "dirinfo",
    "members=*.cmf": "dirinfo f.exposure f.XY01 note",
}


def product(text: str) -> Product:
    return Product.model_validate({"name": "p", **dict(each.split("=") for each in text.split())})


@pytest.mark.parametrize("text", CHOSEN)
def test_which_files_are_chosen(text, tmp_path):
    selection = FileSelection.of(product(text))
    rows = chosen_rows(Layout(tmp_path), selection, Fileset("p", "f", "t"), ROWS)
    assert " ".join(row.name.rpartition(".")[0] for row in rows) == CHOSEN[text]


def test_members_are_chosen_by_their_paths():
    selection = FileSelection.of(product("members=*.cmf"))
    assert [selection.unpacks(path) for path in ("a.cmf", "deep/b.cmf", "a.fits")] == [True, True, False]
    assert FileSelection().unpacks("a.fits")


@pytest.fixture
def layout(tmp_path) -> Layout:
    """A mirror with one fileset: the exposure without the chip, and of that the members ``*.smf``."""
    layout = Layout(tmp_path)
    fileset = Fileset.of("p", FilesetRow("f", "t", "T", ("filesetID",), ("f",)))
    store = layout.store("p", "f")
    store.mkdir(parents=True)
    (store / "index.txt").write_bytes(INDEX)
    part = {"components": ["exposure"], "left_out": 2, "left_out_bytes": 11, "members": ["*.smf"]}
    record_left_out(layout, fileset, part)
    files = [{"name": "dirinfo.mdc"}, {"name": "f.exposure.tgz"}]
    mark_done(layout, MarkerKind.DOWNLOADED, fileset, "t", {"files": files})
    note_file_selection(layout, product("components=exposure members=*.smf"), ())
    return layout


LACKING = {
    "components=exposure members=*.smf": {},
    "components=none members=*.smf": {},
    "components=exposure members=*.cmf": {"f": False},
    "components=exposure": {"f": False},
    "components=* members=*.smf": {"f": True},
    "components=exposure files=*.txt members=*.smf": {"f": True},
    "": {"f": True},
}


def lacking(layout: Layout, settings: Product) -> dict[str, bool]:
    return lacking_filesets(layout, settings, may_lack(layout, settings))


@pytest.mark.parametrize("text", LACKING)
def test_which_filesets_lack_something(text, layout):
    assert lacking(layout, product(text)) == LACKING[text]
    note_file_selection(layout, product(text), ())
    with opened_below(layout.root) as opened:
        assert lacking(layout, product(text)) == {}
    assert opened == ["state/p/file_selection.json"]


def test_filesets_that_were_passed_over_may_lack_something_later(layout):
    note_file_selection(layout, product(""), ["f"])
    assert lacking(layout, product("")) == {"f": True}
    note_file_selection(layout, product(""), ())
    assert lacking(layout, product("")) == {}


def test_a_fileset_whose_listing_is_damaged_is_fetched_again(layout):
    (layout.store("p", "f") / "index.txt").write_bytes(b"damaged")
    assert lacking(layout, product("components=none members=*.smf")) == {"f": True}


def test_a_mirror_without_patterns_has_no_record_of_them(tmp_path):
    layout = Layout(tmp_path)
    assert lacking(layout, product("")) == {}
    note_file_selection(layout, product(""), ())
    assert not layout.file_selection("p").exists()


def test_the_marker_goes_when_nothing_is_left_out(layout):
    fileset, path = Fileset("p", "f", "t"), layout.marker(MarkerKind.PARTIAL, "p", "f")
    record_left_out(layout, fileset, {"components": None, "left_out": None, "left_out_bytes": None})
    assert path.exists()
    record_left_out(layout, fileset, {"members": None})
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("members=*.nothing", False),
        ("components=exposure", False),
        ("components=dirinfo", False),
        ("files=*.txt components=expsure", False),
        ("components=expsure", True),
        ("files=*.text components=expsure", True),
    ],
)
def test_patterns_that_match_no_file_of_any_fileset(text, expected, tmp_path):
    layout = Layout(tmp_path)
    for name, rows in (("a", b"# fileID|bytes|md5sum|type|\n"), ("b", INDEX)):
        layout.store("p", name).mkdir(parents=True)
        (layout.store("p", name) / "index.txt").write_bytes(rows)
    assert matches_nothing(layout, product(text), ["a", "b"]) is expected
