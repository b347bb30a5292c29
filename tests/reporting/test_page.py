"""The page: all that status says is on it, nothing in it is obeyed, a browser shows it."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from support.browser import needs_browser, open_page, overflowing
from support.many_filesets import PRODUCT, mark_downloaded, row

from pipeline.config import Settings
from pipeline.datastore.listing import FilesetRow
from pipeline.errors import BundleUnusable, FilesFailed, ServerUnavailable
from pipeline.mirror.state.failures import BackOff, record_failure
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.markers import Fileset, mark_done
from pipeline.mirror.state.pause import pause
from pipeline.mirror.state.skip import skip_fileset
from pipeline.reporting.history import RunRecord, append_record
from pipeline.reporting.matrix import Cell
from pipeline.reporting.page.page import ROWS, UNFOLDED, cell_class, gather_page, render_page, write_page
from tasks.steps import STEPS

HOSTILE = "<script>alert(1)</script>\"'&amp;\x1b[31m\u202e\n]]>--><img src=x onerror=y>"
LINKED = {"a": "href", "img": "src", "link": "href", "use": "xlink:href"}
VOID = {"meta", "link", "img", "wbr"}


class Page(HTMLParser):
    """Texts, addresses and tags of a page; complains about tags that do not match, and ids that repeat."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: dict[str, str] = {}
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert len(values) == len(attributes)
        self.tags.add(tag)
        self.attributes.update(values)
        self.ids += [values["id"]] if "id" in values else []
        if tag in LINKED:
            self.addresses[values[LINKED[tag]]] = tag
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture
def layout(tmp_path) -> Layout:
    """A mirror with an update in its history."""
    layout = Layout(tmp_path / "mirror")
    LocalListing(layout, PRODUCT).replace(map(row, range(60)))
    for number in range(3):
        mark_downloaded(layout, number)
    layout.lock_file.touch()
    (layout.root / "store" / PRODUCT).mkdir(parents=True)
    append_record(layout, updated())
    return layout


def updated(**more) -> RunRecord:
    end = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    record = RunRecord(end, end, 0, 3, 10**6, 1.0, 0, "UpdateMirror", "", 0)
    return replace(record, **more)


def settings_of(layout: Layout, *products: str) -> Settings:
    mirror = {"root": str(layout.root), "products": list(products) or [PRODUCT]}
    return Settings.model_validate({"source": {"url": "http://127.0.0.1:9/ds"}, "mirror": mirror})


def page_of(layout: Layout) -> tuple[str, Page]:
    write_page(layout, settings_of(layout), STEPS, layout.page)
    text = layout.page.read_text()
    return text, Page(text)


def make_hostile(layout: Layout) -> None:
    """Put a hostile text in each place that takes one from outside, or from a user."""
    columns = ("filesetID", "time registered", "type", "stage", "data_group", "filter")
    values = [HOSTILE.replace("\n", "").encode("ascii", "ignore").decode().replace("|", "")] * 6
    listing = LocalListing(layout, PRODUCT)
    listing.replace(
        [type(row(0))(values[0], values[1], values[2], columns, tuple(values)), *map(row, range(9))]
    )
    for number, error in enumerate(
        (BundleUnusable(HOSTILE), FilesFailed({HOSTILE: ServerUnavailable(HOSTILE)}))
    ):
        fileset = Fileset.of(PRODUCT, row(number))
        record_failure(layout, fileset, "download", error, "run", BackOff(every_run=1))
    write_marker(
        layout.marker("failed", PRODUCT, "odd"),
        {
            "fileset": HOSTILE,
            "registered": HOSTILE,
            "step": HOSTILE,
            "next_try": HOSTILE,
            "first_failed": HOSTILE,
            "files": [{"file": HOSTILE, "reason": HOSTILE}],
        },
    )
    skip_fileset(layout, PRODUCT, "fileset.5", reason=HOSTILE, by=HOSTILE)
    pause(layout, reason=HOSTILE, by=HOSTILE)
    append_record(layout, updated(code=40, reason=HOSTILE))
    layout.lock_file.write_text('{"host": "<b>h</b>", "pid": 7, "since": "<i>"}')
    write_marker(layout.verified, {"finished": HOSTILE, "failed": 1, "unexpected": {"store": HOSTILE}})


def test_nothing_from_outside_is_obeyed(layout):
    quiet, _ = page_of(layout)
    make_hostile(layout)
    text, page = page_of(layout)
    assert page.tags <= Page(quiet).tags | {"h3", "ul", "li"}
    assert "script" not in page.tags
    assert not {name for name in page.attributes if name.startswith("on")}
    # Each place shows it, with escapes for what is not printable.
    shown = "<script>alert(1)</script>\"'&amp;\\x1b[31m\\u202e\\n]]>--><img src=x onerror=y>"
    assert page.text.count(shown) >= 10
    assert all(character.isprintable() or character == "\n" for character in text)


def test_nothing_is_loaded(layout):
    for picture in layout.coverage_pictures:
        picture.write_bytes(b"<svg/>")
    text, page = page_of(layout)
    own = {address for address in page.addresses if address.startswith(("data:", "#"))}
    assert {page.addresses[address] for address in page.addresses.keys() - own} == {"a"}
    assert "data:image/svg+xml;base64,PHN2Zy8+" in own
    assert re.findall(r"url\((?!#)|@import", text) == []
    assert "default-src 'none'" in text


def test_links_lead_to_what_is_there(layout):
    _, page = page_of(layout)
    links = [address for address, tag in page.addresses.items() if tag == "a"]
    assert "../store/md/" in links
    assert "history.csv" in links
    assert all((layout.page.parent / unquote(link)).exists() for link in links)


def test_links_of_a_page_elsewhere(layout, tmp_path):
    path = tmp_path / "pages of mine" / "page.html"
    write_page(layout, settings_of(layout), STEPS, path)
    links = [address for address, tag in Page(path.read_text()).addresses.items() if tag == "a"]
    assert "../mirror/store/md/" in links
    assert all((path.parent / unquote(link)).exists() for link in links)


def test_a_product_on_a_disk_of_its_own(layout, tmp_path):
    disk = tmp_path / "disk 2"
    for folder in ("store", "data", "incoming"):
        (disk / PRODUCT / folder).mkdir(parents=True)
    layout.volumes.mkdir()
    layout.volume(PRODUCT).symlink_to(disk / PRODUCT)
    _, page = page_of(layout)
    assert page.addresses["../volumes/md/"] == "a"
    assert (layout.page.parent / "../volumes/md/data").is_dir()
    assert f"on {disk}/md\n" in page.text
    # The disk is not mounted, or does not answer.
    for target in (tmp_path / "gone", f"/{300 * 'x'}"):
        layout.volume(PRODUCT).unlink()
        layout.volume(PRODUCT).symlink_to(target)
        _, page = page_of(layout)
        assert f"on {target}\n" in page.text
        assert "../volumes/md/" not in page.addresses


def test_what_is_missing_comes_first_and_complete_groups_are_folded(layout):
    columns = ("filesetID", "time registered", "type", "stage", "data_group", "filter")
    values = [
        (f"f{number}", "2009-07-29T00:00:00Z", "t", "chip", group, "r")
        for number, group in enumerate(["MD01.a", "MD01.b", "MD01.c", "MD01.c"])
    ]
    rows = [FilesetRow(*row[:3], columns, row) for row in values]
    LocalListing(layout, PRODUCT).replace(rows)
    for kind in (MarkerKind.DOWNLOADED, MarkerKind.EXTRACTED):
        mark_done(layout, kind, Fileset.of(PRODUCT, rows[0]), "t", {"files": []})
    skip_fileset(layout, PRODUCT, "f1", reason="r", by="me")
    skip_fileset(layout, PRODUCT, "f2", reason="r", by="me")
    text, _ = page_of(layout)
    missing = text.partition("<h2>Missing</h2>")[2].partition("</section>")[0]
    # What will be fetched comes before what is skipped.
    assert re.findall(r'data-label="data group">([^<]*)<', missing) == ["MD01.c", "MD01.b"]
    assert re.findall(r'data-label="why">([^<]*)<', missing) == ["1 left, 1 skipped", "skipped"]
    matrix = text.partition("<h2>Complete of known")[2].partition("</section>")[0]
    shown, _, folded = matrix.partition("<details><summary>and 1 data group without anything missing")
    assert re.findall("<h4>([^<]*)</h4>", shown) == ["MD01.b", "MD01.c"]
    assert re.findall("<h4>([^<]*)</h4>", folded) == ["MD01.a"]


def test_what_is_left_out_of_what_is_missing_is_said_there(layout):
    columns = ("filesetID", "time registered", "type", "data_group")
    values = [(f"f{number}", "2009-07-29T00:00:00Z", "t", f"MD.{number}") for number in range(40)]
    for products, shown in ((1, 30), (2, ROWS)):
        names = [PRODUCT, "other"][:products]
        for name in names:
            LocalListing(layout, name).replace(FilesetRow(*row[:3], columns, row) for row in values)
        text = render_page(gather_page(layout, settings_of(layout, *names), STEPS, layout.page.parent))
        before, _, behind = text.partition("<h2>Missing</h2>")
        missing, _, matrix = behind.partition("</section>")
        assert missing.count('data-label="data group"') == shown
        assert f"{shown} of {40 * products} rows are shown." in missing
        assert "--details" not in missing
        assert "rows are shown" not in before + matrix


def test_a_mirror_without_history_and_picture(layout):
    layout.history.unlink()
    _, page = page_of(layout)
    assert "none has ended" in page.text
    assert not {"svg", "img"} & page.tags


def test_commands_in_sentences_are_not_broken(layout):
    pause(layout, reason="<b>ipp-mirror verify</b>", by="me")
    text, page = page_of(layout)
    assert 'begins until `<span class="command">ipp-mirror resume</span>`' in text
    assert "by me: <b>ipp-mirror verify</b>; no update begins until `ipp-mirror resume`" in page.text


def add_unexpected(layout: Layout, path: str) -> None:
    """Write a file of no fileset, and the marker of a verification that found it."""
    (layout.root / path).parent.mkdir(parents=True)
    (layout.root / path).touch()
    found = {path: "unexpected: no fileset unpacked it"}
    write_marker(layout.verified, {"finished": "2026-07-05T12:41:01Z", "failed": 1, "unexpected": found})


def test_paths_are_broken_at_their_slashes(layout):
    root = str(layout.root).replace("/", "/<wbr>")
    add_unexpected(layout, "data/<a>/b.fits")
    text, page = page_of(layout)
    assert f"Mirror {root}</h1>" in text
    assert "data/<wbr>&lt;a&gt;/<wbr>b.fits: " in text
    assert "data/<a>/b.fits: unexpected: no fileset unpacked it" in page.text


def test_files_of_no_fileset_have_no_column_of_filesets(layout):
    add_unexpected(layout, "data/b.fits")
    text, _ = page_of(layout)
    head, _, rows = text.partition("<h2>Problems that verify found</h2>")[2].partition("</thead>")
    assert re.findall("<th[^>]*>([a-z]+)", head) == ["found", "problem"]
    assert rows.partition("</tr>")[0].count("<td") == 2


def test_when_all_products_were_gone_through(layout):
    page = gather_page(layout, settings_of(layout), STEPS, layout.page.parent)
    nothing_left = replace(page.report, products=[], last_success="2026-07-05T12:41:01Z")
    done = replace(page, report=nothing_left, matrices=())
    assert "<b>12:41<i> 2026-07-05</i></b><span>all products gone through</span>" in render_page(done)


def test_tables_are_bounded_and_say_so(layout):
    for number in range(ROWS + 3):
        skip_fileset(layout, PRODUCT, f"fileset.{number}", reason="r", by="me")
    _, page = page_of(layout)
    assert f"and {ROWS + 3 - UNFOLDED} more filesets\n" in page.text
    assert "and 3 more filesets: ipp-mirror status --details" in page.text


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (Cell(known=2, complete=2), "whole"),
        (Cell(known=2, complete=1, left=1), "partly"),
        (Cell(known=3, complete=1, left=2, failed=1), "failed"),
        (Cell(known=2, complete=1, skipped=1), "apart"),
        (Cell(known=2, complete=1, unselected=1), "apart"),
        (Cell(known=2, unselected=2), "unselected"),
    ],
)
def test_how_a_cell_stands(cell, name):
    assert cell_class(cell) == name


def test_a_picture_that_is_too_large_is_left_out(layout):
    png, svg = layout.coverage_pictures
    svg.write_bytes(b"x" * 2_000_001)
    assert gather_page(layout, settings_of(layout), STEPS, layout.page.parent).coverage is None
    png.write_bytes(b"png")
    page = gather_page(layout, settings_of(layout), STEPS, layout.page.parent)
    assert page.coverage == "data:image/png;base64,cG5n"
    assert 'src="data:image/png;base64,cG5n"' in render_page(page)


@needs_browser
def test_a_browser_shows_the_page_without_complaint(layout, tmp_path):
    make_hostile(layout)
    page_of(layout)
    picture: Path = tmp_path / "page.png"
    shot = open_page(f"file://{layout.page}", picture, "390,3000")
    assert shot.returncode == 0, shot.stderr
    assert "<h2>Products</h2>" in shot.stdout
    assert "CONSOLE" not in shot.stderr
    assert picture.stat().st_size > 10_000


def crowded(layout: Layout) -> str:
    """The page of a mirror of 20 products with long names, and failures with long reasons."""
    products = [f"{number:02}-{'a-product-with-a-long-name_' * 4}" for number in range(20)]
    for product in products:
        long = "fileset_with_a_long_name_without_any_place_to_break_" * 3
        columns = ("filesetID", "time registered", "type", "stage", "data_group", "filter")
        rows = [
            FilesetRow(
                *(name, "2009-07-29T00:00:00Z", "t", columns),
                (name, "2009-07-29T00:00:00Z", "t", "a_long_stage_name", f"MD{number:02}.{'G' * 60}", band),
            )
            for number, band in enumerate(["g.00000", "r.00000", "i.00000", "z.00000", "y.00000"] * 4)
            for name in [f"{long}{number}"]
        ]
        LocalListing(layout, product).replace(rows)
        for each in rows[:4]:
            reason = f"https://{'a.long.host.' * 20}/{'path' * 40}: {'a long sentence ' * 30}"
            error = FilesFailed({"x" * 200: ServerUnavailable(reason)})
            record_failure(layout, Fileset.of(product, each), "download", error, "run", BackOff(every_run=1))
        skip_fileset(layout, product, rows[5].name, reason="r" * 300, by="u" * 80)
    pause(layout, reason="p" * 300, by="somebody")
    mirror = {"root": str(layout.root), "products": products}
    source = {"url": "http://127.0.0.1:9/ds"}
    settings = Settings.model_validate({"source": source, "mirror": mirror})
    return render_page(gather_page(layout, settings, STEPS, layout.page.parent))


@needs_browser
def test_no_page_is_wider_than_a_phone_a_desk_or_a_wall(layout, tmp_path):
    empty = Layout(tmp_path / "empty")
    LocalListing(empty, PRODUCT).replace([])
    empty.lock_file.touch()
    nothing = render_page(gather_page(empty, settings_of(empty), STEPS, empty.page.parent))
    plain, _ = page_of(layout)
    make_hostile(layout)
    hostile, _ = page_of(layout)
    pages = [nothing, plain, hostile, crowded(layout)]
    assert overflowing(pages, [390, 1400, 2560], tmp_path) == []
