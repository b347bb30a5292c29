"""Layout: markers looked up one by one or in their whole folder, and counted."""

from pathlib import Path

import pytest
from support.audit import opened_below
from support.many_filesets import KNOWN, PRODUCT, row, settle

from pipeline.errors import HostileName
from pipeline.mirror.state.layout import STATE_NAMES, Layout, MarkerKind
from pipeline.mirror.state.markers import Fileset, mark_done
from pipeline.names import is_usable


@pytest.mark.parametrize(("look_up_at_most", "scans"), [(2, 1), (1000, 0)])
def test_markers_that_are_looked_up_are_those_of_the_whole_folder(look_up_at_most, scans, layout):
    layout.marker(MarkerKind.EXTRACTED, PRODUCT, "fileset.5").write_bytes(b"{")
    names = {"fileset.1", "fileset.5", "fileset.6", "absent", "../hostile", "x" * 300}
    with opened_below(layout.state(PRODUCT)) as opened:
        found = layout.marked_among(MarkerKind.EXTRACTED, PRODUCT, names, look_up_at_most)
    assert found == {"fileset.1", "fileset.6"}
    assert opened.count("extracted/") == scans


def test_a_count_reads_no_names_while_a_snapshot_is_current(layout):
    settle(layout)
    with opened_below(layout.state(PRODUCT)) as opened:
        assert layout.count(MarkerKind.EXTRACTED, PRODUCT) == KNOWN
    assert opened == ["extracted.snapshot", "extracted"]
    mark_done(layout, MarkerKind.EXTRACTED, Fileset.of(PRODUCT, row(KNOWN)), "t", {"files": []})
    with opened_below(layout.state(PRODUCT)) as opened:
        assert layout.count(MarkerKind.EXTRACTED, PRODUCT) == KNOWN + 1
    assert opened == ["extracted.snapshot", "extracted", "extracted/"]
    assert (layout.state(PRODUCT) / "extracted.snapshot").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "a\0b"])
def test_no_name_leads_out_of_the_root(name, tmp_path):
    layout = Layout(tmp_path)
    paths = [
        lambda: layout.state(name),
        lambda: layout.store(name, "f"),
        lambda: layout.store("p", name),
        lambda: layout.incoming("p", name),
        lambda: layout.info("p", name),
        lambda: layout.marker(MarkerKind.DOWNLOADED, "p", name),
    ]
    for path in paths:
        with pytest.raises(HostileName):
            path()


@pytest.mark.parametrize("name", [*sorted(STATE_NAMES), "a.writing"])
def test_a_product_may_have_a_name_that_the_state_folder_uses(name, tmp_path):
    layout = Layout(tmp_path)
    for product in (name, "p"):
        layout.state(product).mkdir(parents=True)
    (tmp_path / "state" / "@owners").mkdir()
    assert layout.state(name) == tmp_path / "state" / f"{name}~"
    assert layout.state_products() == sorted([name, "p"])


def test_no_product_can_have_a_name_that_the_state_folder_uses_in_its_place(tmp_path):
    layout = Layout(tmp_path)
    paths = [getattr(layout, name) for name, value in vars(Layout).items() if isinstance(value, property)]
    used = {path.name for path in paths if isinstance(path, Path) and path.parent == tmp_path / "state"}
    assert len(used) > 5
    assert {name for name in used if is_usable(name)} == STATE_NAMES
