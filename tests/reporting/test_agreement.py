"""Agreement: ``status``, ``plan``, ``find`` and the page say of a mirror what its files say."""

import json
import re
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from support.catalog import PRODUCT, add_chips
from support.command import ipp_mirror
from support.running import gate, progress_of, scheduler_settings, started, tasks_command, until
from support.upstream import File, Upstream

from pipeline.catalog.awaiting import filesets_behind
from pipeline.catalog.catalog import catalog_of
from pipeline.catalog.columns import columns_named
from pipeline.catalog.criteria import criteria_of
from pipeline.catalog.formats import as_json as rows_as_json
from pipeline.config import Settings
from pipeline.errors import BundleUnusable, MachineFault, ServerUnavailable
from pipeline.mirror.state.failures import BackOff, record_failure
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing, known_rows
from pipeline.mirror.state.marker_file import read_marker, write_marker
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.state.pause import pause
from pipeline.mirror.state.pending import pending_rows, renew_snapshots
from pipeline.mirror.state.skip import skip_fileset
from pipeline.reporting.attention import attention
from pipeline.reporting.metrics import metrics_text
from pipeline.reporting.page.page import gather_page, render_page
from pipeline.reporting.planner import Planner
from pipeline.reporting.report import mirror_report
from pipeline.reporting.report_forms import as_json
from pipeline.reporting.status_files import product_rows
from pipeline.sample.simulator import simulate
from tasks.steps import STEPS

CHIPS = [f"o{number}.chip" for number in range(1, 5)]
PLAIN = "stack.1"
LONG, SHORT = "5000 weeks", "30 days"
NUMBERS = ("known", "selected", "complete", "left", "failed", "skipped", "withdrawn")


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A complete mirror with a catalog: four filesets of chips in two filters, and one without bundles."""
    folder = tmp_path_factory.mktemp("template")
    upstream = Upstream(folder / "upstream")
    for number, name in enumerate(CHIPS):
        add_chips(upstream, name, number, filter="r.00000" if number % 2 else "g.00000")
    upstream.add(PRODUCT, PLAIN, [File("s.fits", b"S" * 70)], stage="stack")
    with simulate(upstream.folder) as server:
        config = folder / "mirror.yaml"
        config.write_text(json.dumps(settings_document(folder / "mirror", server.url)))
        update = ipp_mirror("update", "--config", config)
    assert update.returncode == 0, update.stdout + update.stderr
    # Charts are not compared, and take the most time.
    (folder / "mirror" / "status" / "history.csv").unlink()
    return folder / "mirror"


def settings_document(root: Path, url: str = "http://127.0.0.1:9/ds") -> dict[str, Any]:
    mirror = {"root": str(root), "page": False, "products": [PRODUCT]}
    return {"source": {"url": url}, "mirror": mirror, "catalog": {"enabled": True, "coverage": False}}


@dataclass
class Mirror:
    """A copy of the mirror, its settings, and what they select: by default everything."""

    layout: Layout
    document: dict[str, Any]
    selects: Any = field(default=lambda row: True)
    lacking: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)
    # Time that filesets are kept, by the settings.
    kept: str = ""

    @property
    def settings(self) -> Settings:
        return Settings.model_validate(self.document)

    def fileset(self, name: str) -> Fileset:
        [row] = [row for row in known_rows(self.layout, PRODUCT) if row.name == name]
        return Fileset.of(PRODUCT, row)

    def marker(self, kind: str, name: str) -> Path:
        return self.layout.marker(kind, PRODUCT, name)

    def undo(self, name: str, *kinds: str) -> None:
        for kind in kinds or ("cataloged", "extracted", "downloaded"):
            self.marker(kind, name).unlink(missing_ok=True)

    def fail(self, name: str, error: Exception, times: int = 1, step: str = "download") -> None:
        for _ in range(times):
            record_failure(self.layout, self.fileset(name), step, error, "run", BackOff(every_run=2))

    def select(self, stage: str) -> None:
        self.document["mirror"]["products"] = [{"name": PRODUCT, "select": {"stage": stage}}]
        self.selects = lambda row: row.column("stage") == stage

    def keep(self, time: str) -> None:
        """Select for so long: all filesets were registered in 2009."""
        self.document["mirror"]["products"] = [{"name": PRODUCT, "select": {"keep": time}}]
        self.kept = time
        self.selects = lambda row: time == LONG


@pytest.fixture
def mirror(template, tmp_path) -> Mirror:
    shutil.copytree(template, tmp_path / "mirror", symlinks=True)
    return Mirror(Layout(tmp_path / "mirror"), settings_document(tmp_path / "mirror"))


def failed(it: Mirror, error: Exception, **more: Any) -> None:
    it.undo(CHIPS[0])
    it.fail(CHIPS[0], error, **more)


def skipped(it: Mirror) -> None:
    it.undo(CHIPS[1])
    skip_fileset(it.layout, PRODUCT, CHIPS[1], reason="r", by="me")


def withdrawn(it: Mirror, name: str = CHIPS[2]) -> None:
    write_marker(it.marker(MarkerKind.WITHDRAWN, name), {"noticed": "2026-01-01T00:00:00Z"})


def withdrawn_and_gone(it: Mirror) -> None:
    it.undo(CHIPS[2])
    shutil.rmtree(it.layout.store(PRODUCT, CHIPS[2]))
    withdrawn(it)


def new_row(it: Mirror) -> None:
    row = known_rows(it.layout, PRODUCT)[0]
    again = ("o9.chip", "2009-08-01T00:00:00Z", *row.fields[2:])
    more = type(row)(again[0], again[1], row.type, row.columns, again)
    LocalListing(it.layout, PRODUCT).add([more])


def foreign_files(it: Mirror) -> None:
    for path in ("data/mine.txt", "store/mine.txt", f"state/{PRODUCT}/downloaded/mine.txt"):
        (it.layout.root / path).write_text("mine")


def no_snapshots(it: Mirror) -> None:
    for path in it.layout.state(PRODUCT).glob("*.snapshot"):
        path.unlink()


def unconfigured(it: Mirror) -> None:
    it.document["mirror"]["products"] = ["other"]
    it.selects = lambda row: False


def several(it: Mirror) -> None:
    for change in (skipped, withdrawn_and_gone, new_row, no_snapshots):
        change(it)
    failed(it, BundleUnusable("x"), times=3)


def widened(it: Mirror) -> None:
    """A fileset lacks a file that the settings choose since."""
    marker = read_marker(it.marker("downloaded", CHIPS[0]))
    assert marker is not None
    write_marker(it.marker("downloaded", CHIPS[0]), marker | {"files": marker["files"][1:]})
    partial = {"product": PRODUCT, "fileset": CHIPS[0], "registered": marker["registered"], "files": ["x"]}
    write_marker(it.marker(MarkerKind.PARTIAL, CHIPS[0]), partial)
    write_marker(it.layout.file_selection(PRODUCT), {"product": PRODUCT, "files": ["x"]})
    it.lacking = {CHIPS[0]}


def unpacked_again(it: Mirror) -> None:
    """The extraction of a fileset was set aside; it is selected no more, or withdrawn."""
    it.marker(MarkerKind.SUPERSEDED, CHIPS[0]).parent.mkdir()
    it.marker("extracted", CHIPS[0]).rename(it.marker(MarkerKind.SUPERSEDED, CHIPS[0]))
    it.again = {CHIPS[0]}


def full_disk(it: Mirror) -> None:
    it.document["mirror"]["min_free"] = 10**17


def verified_with_problems(it: Mirror) -> None:
    found = {"finished": "2100-01-01T00:00:00Z", "problems": ["x: is gone"], "steps": ["downloaded"]}
    write_marker(it.marker(MarkerKind.VERIFIED, CHIPS[0]), found)
    write_marker(it.layout.product_verified(PRODUCT), {"problems": 1, "filesets": [CHIPS[0]]})


def expired(it: Mirror, name: str = CHIPS[0]) -> None:
    write_marker(it.marker(MarkerKind.EXPIRED, name), {"noticed": "2026-01-01T00:00:00Z"})


def expired_and_gone(it: Mirror) -> None:
    it.undo(CHIPS[0])
    shutil.rmtree(it.layout.store(PRODUCT, CHIPS[0]))
    expired(it)


def wanted(it: Mirror, name: str = CHIPS[1]) -> None:
    write_marker(it.marker(MarkerKind.WANTED, name), {"by": "me"})
    it.wanted = {name}


MUTATIONS = {
    "nothing": lambda it: None,
    "not extracted": lambda it: it.undo(CHIPS[0], "extracted"),
    "not downloaded": lambda it: it.undo(CHIPS[0], "downloaded"),
    "nothing done": lambda it: it.undo(CHIPS[0]),
    "not cataloged": lambda it: it.undo(CHIPS[0], "cataloged"),
    "failed upstream": lambda it: failed(it, BundleUnusable("x")),
    "failed often": lambda it: failed(it, BundleUnusable("x"), times=3),
    "failed here": lambda it: failed(it, MachineFault("x")),
    "failed in the network": lambda it: failed(it, ServerUnavailable("x"), times=5),
    "failed in an optional step": lambda it: it.fail(CHIPS[0], BundleUnusable("x"), step="catalog"),
    "skipped": skipped,
    "skipped, complete": lambda it: skip_fileset(it.layout, PRODUCT, CHIPS[0], reason="r", by="me"),
    "withdrawn and kept": withdrawn,
    "withdrawn and gone": withdrawn_and_gone,
    "a new row": new_row,
    "foreign files": foreign_files,
    "no snapshots": no_snapshots,
    "selected by stage": lambda it: it.select("chip"),
    "not selected": lambda it: (it.select("stack"), it.undo(CHIPS[0])),
    "not selected, set aside": lambda it: (it.select("stack"), unpacked_again(it)),
    "withdrawn, set aside": lambda it: (withdrawn(it, CHIPS[0]), unpacked_again(it)),
    "not in the settings": unconfigured,
    "paused": lambda it: pause(it.layout, reason="r", by="me"),
    "a full disk": full_disk,
    "chooses more files": widened,
    "verified with problems": verified_with_problems,
    "several": several,
    "too old": lambda it: it.keep(SHORT),
    "too old, failed": lambda it: (it.keep(SHORT), failed(it, BundleUnusable("x"))),
    "too old, set aside": lambda it: (it.keep(SHORT), unpacked_again(it)),
    "too old, wanted": lambda it: (it.keep(SHORT), wanted(it), it.undo(CHIPS[1])),
    "expired and gone": lambda it: (it.keep(LONG), expired_and_gone(it)),
    "expired, killed before the deletion": lambda it: (it.keep(LONG), expired(it)),
    "expired, and kept no more": expired_and_gone,
    "expired, killed, not cataloged": lambda it: (it.keep(LONG), expired(it), it.undo(CHIPS[0], "cataloged")),
    "expired, skipped": lambda it: (it.keep(LONG), expired_and_gone(it), skipped(it)),
}


def on_disk(it: Mirror) -> dict[str, Any]:
    """Numbers by the files of the mirror, each read by itself."""
    marked = {
        kind: {path.stem for path in (it.layout.state(PRODUCT) / kind).glob("*.json")}
        for kind in ("downloaded", "extracted", "failed", "skipped", "withdrawn", "expired", "cataloged")
    }
    rows = known_rows(it.layout, PRODUCT)
    selected = {row.name for row in rows if it.selects(row)} | it.wanted
    selected = (selected - marked["withdrawn"] - marked["expired"]) | it.again
    complete = (marked["downloaded"] & marked["extracted"]) - it.lacking
    left = selected - complete - marked["skipped"]
    here = marked["downloaded"] | marked["extracted"] | marked["cataloged"]
    old = {row.name for row in rows if it.kept == SHORT} | marked["expired"]
    behind = complete - marked["cataloged"] - marked["skipped"] - marked["expired"]
    steps = {name: json.loads(it.marker("failed", name).read_text())["step"] for name in marked["failed"]}
    return {
        "known": len(rows),
        "selected": len(selected),
        "complete": len(complete),
        "left": len(left),
        "failed": sum(step != "catalog" for step in steps.values()),
        "skipped": len(marked["skipped"]),
        "withdrawn": len(marked["withdrawn"]),
        "expired": len(marked["expired"]),
        "partial": len(it.lacking),
        "extracted": len(marked["extracted"]),
        "to_expire": len(here & old - it.wanted) if it.kept else 0,
        "behind": len(behind),
        "pending": {row.name for row in rows} & (left | behind),
        "missing": {row.name for row in rows} & selected - complete,
    }


class Shown(HTMLParser):
    """Tables of a page, each row as the texts of its cells, and the word that says how the mirror stands."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.state = ""
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        self._open.append(dict(attributes).get("class") or tag)

    def handle_endtag(self, tag):
        self._open.pop()

    def handle_data(self, data):
        if self._open and self._open[-1] == "state":
            self.state = data.split()[-1]
        if self.tables and self.tables[-1]:
            self.tables[-1][-1][-1] += " ".join(data.split())

    def table(self, *head: str) -> list[list[str]]:
        [rows] = [table[1:] for table in self.tables if tuple(table[0][: len(head)]) == head]
        return rows


def numbers_of(metrics: str) -> dict[str, int]:
    """The filesets of the product by state, and how many of them are to be cataloged."""
    states = re.findall(rf'_filesets{{root="[^"]*",product="{PRODUCT}",state="(\w+)"}} (\d+)', metrics)
    behind = re.findall(r'_catalog_behind_filesets{root="[^"]*"} (\d+)', metrics)
    return {state: int(number) for state, number in [*states, *(("behind", each) for each in behind)]}


def check_agreement(mirror: Mirror) -> dict[str, Any]:
    """Compare what reports, the page, the plan and the metrics say with the files; return the status."""
    settings, layout = mirror.settings, mirror.layout
    truth = on_disk(mirror)
    report = mirror_report(layout, settings, STEPS)
    status = json.loads(as_json(report, attention(report)))
    [product] = [each for each in status["products"] if each["product"] == PRODUCT]
    counts = {key: product["filesets"][key] for key in NUMBERS if key in product["filesets"]}
    assert counts | {"failed": product["failed"]} == {key: truth[key] for key in NUMBERS}
    assert product["filesets"]["expired"] == truth["expired"]
    if settings.catalog.enabled:
        assert status["catalog_behind"] == truth["behind"] == filesets_behind(layout, settings)

    page = gather_page(layout, settings, STEPS, layout.page.parent)
    shown = Shown(render_page(page))
    assert shown.state == status["state"]
    [row] = [row for row in shown.table("product", "known") if row[0].startswith(PRODUCT)]
    assert row[1:8] == [str(truth[key]) for key in NUMBERS]
    [matrix] = [each for each in page.matrices if each.product == PRODUCT]
    total = matrix.total
    assert [vars(total)[key] for key in ("known", "complete", "left")] == [
        truth[key] for key in ("known", "complete", "left")
    ]
    cells = [cell for group in matrix.groups for _, row in group.rows for cell in row if cell]
    assert (sum(cell.known for cell in cells), sum(cell.left for cell in cells)) == (total.known, total.left)
    assert truth["missing"] <= {name for each in matrix.missing for name in each.names}
    assert len(shown.table("product", "step")) == len(status["failures"]) if status["failures"] else True

    if product["configured"]:
        plan = Planner(settings, layout, STEPS, None, 0).plan([PRODUCT]).numbers()
        [planned] = plan["products"]
        assert (planned["known"], planned["selected"]) == (truth["known"], truth["selected"])
        assert planned["due"] + planned["postponed"] == truth["left"] == total.left
        assert planned["skipped"] == total.skipped
        assert planned["to_expire"] == truth["to_expire"]
        if not planned["postponed"]:
            assert planned["bytes"] == product["bytes_left"]
        assert [disk["min_free"] for disk in plan["disks"]] == [disk["min_free"] for disk in status["disks"]]

    metrics = numbers_of(
        metrics_text(layout, settings, STEPS, product_rows(layout, settings, STEPS, [PRODUCT]))
    )
    # Other than status, which reads their names, they count the markers of the last step alone.
    truth |= {"complete": truth["extracted"], "behind": status["catalog_behind"]}
    assert metrics == {key: truth.get(key) for key in metrics}
    return status


@pytest.mark.parametrize("name", MUTATIONS)
def test_all_say_the_same(name, mirror):
    MUTATIONS[name](mirror)
    settings, layout = mirror.settings, mirror.layout
    check_agreement(mirror)
    truth = on_disk(mirror)
    if mirror.document["mirror"]["products"] != ["other"]:
        # What an update takes, once it has set aside what lacks files.
        renew_snapshots(layout, PRODUCT, STEPS)
        rows = pending_rows(layout, settings.product(PRODUCT), STEPS)
        assert {row.name for row in rows} | mirror.lacking == truth["pending"]

    columns = columns_named(("path", "fileset"))
    with catalog_of(layout, settings) as catalog:
        text = "".join(rows_as_json(columns, catalog.rows(criteria_of(), columns, absolute=True)))
    found = json.loads(text)
    assert all(Path(image["path"]).is_file() for image in found)
    assert {image["fileset"] for image in found} == {*CHIPS, PLAIN}


def test_all_say_the_same_while_an_update_works(upstream, server, follower, tmp_path):
    """Of five filesets one was here before, one came, one failed, and two are being fetched."""
    names, opened = [f"f{number}" for number in range(5)], Event()
    upstream.add_bundles(PRODUCT, names[0], {"XY01": {"a.fits": b"a"}})
    follower.mirror["products"] = [PRODUCT]
    assert follower.update().code == 0
    for name in names[1:]:
        wrong = {"md5": "0" * 32} if name == names[2] else {}
        upstream.add(PRODUCT, name, [File("t.fits", b"t" * 70, listed=wrong)])
    server.faults.append(gate(opened, f"{PRODUCT}/{names[3]}/t.fits"))
    server.faults.append(gate(opened, f"{PRODUCT}/{names[4]}/index.txt"))
    with started(tasks_command(follower), tmp_path / "output", scheduler_settings(tmp_path, None)) as running:
        until(lambda: progress_of(follower).get("done") == 2, "two filesets are not done")
        it = Mirror(Layout(follower.root), json.loads(follower.config.read_text()))
        status = check_agreement(it)
        progress, [product] = status["progress"], status["products"]
        assert (progress["filesets"], progress["done"], progress["failed"]) == (4, 2, 1)
        assert (
            product["filesets"]["left"] == progress["filesets"] - progress["done"] + progress["failed"] == 3
        )
        opened.set()
        assert running.wait().code == 30
    check_agreement(it)
