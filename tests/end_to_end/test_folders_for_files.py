"""Folders in place of files of the state: after a restore, or made by another program."""

from pathlib import Path

import pytest
from support.command import COMMAND, Ended, ended
from support.follower import Follower
from support.running import leftovers, tree_is_true
from support.upstream import File, Upstream, served_filesets

from pipeline.mirror.state.layout import Layout
from pipeline.reporting.history import read_history

PRODUCT = "md-all-rel-200907"
CHIP = "o1.chip.1.1.1"
RENEWED = [
    *(
        f"state/{PRODUCT}/{name}"
        for name in ("listing.txt", "listing.json", "discovered.json", "updated.json")
    ),
    *(f"state/{PRODUCT}/{step}/{CHIP}.json" for step in ("failed", "verified")),
    "state/@owners/complete.json",
    "state/root.txt",
    "status/product_status.csv",
    "status/download_failures.csv",
    "status/history.csv",
    "status/metrics.prom",
]
HISTORY, METRICS = "status/history.csv", "status/metrics.prom"
CODE = "ipp_mirror_last_run_exit_code"
TABLES = ["status/product_status.csv", "status/download_failures.csv"]
NOT_RENEWED = ["mirror.json", "state/update.lock", "state/filesets.lock", "log/update_mirror.log"]


@pytest.fixture
def mirrored(upstream: Upstream, server, follower) -> Follower:
    upstream.add_bundles(PRODUCT, CHIP, {"XY01": {"a.fits": b"A" * 5000}})
    upstream.add(PRODUCT, "plain", [File("t.fits", b"T" * 70)])
    assert follower.update().code == 0
    server.clear()
    return follower


def put_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)


def complete(mirrored: Follower, upstream: Upstream, server) -> None:
    result = mirrored.update()
    assert result.code == 0, result.output
    assert mirrored.content("store") == served_filesets(upstream)
    assert leftovers(mirrored.root) == []
    tree_is_true(mirrored.root, PRODUCT, set(upstream.products[PRODUCT]))
    assert all("index.txt" in entry.target for entry in server.requests)


def test_empty_folders_give_way(upstream, server, mirrored):
    for path in RENEWED:
        put_folder(mirrored.root / path)
    complete(mirrored, upstream, server)
    written = [path for path in RENEWED if "failed/" not in path and "verified" not in path]
    assert all((mirrored.root / path).is_file() for path in written)


@pytest.mark.parametrize(
    "paths", [RENEWED[:4], RENEWED[-5:], NOT_RENEWED], ids=["of a product", "status", "not renewed"]
)
def test_a_folder_with_content_is_named(paths, upstream, mirrored):
    for path in paths:
        # Something to do, so that each file is used.
        upstream.add(PRODUCT, f"later than {Path(path).name}", [File("l.fits", b"L")])
        content = (mirrored.root / path).read_bytes() if path == "mirror.json" else None
        put_folder(mirrored.root / path)
        (mirrored.root / path / "inside").write_text("kept")
        for result in refused(mirrored):
            assert "Traceback" not in result.output, path
            assert "bug" not in result.output, path
            if result.code:
                named = f"Is a directory at {mirrored.root / path}. There is a folder where a"
                assert named in " ".join(result.output.split()), path
        # Of history and metrics, the one that can be written has the code of the run.
        if path in {*TABLES, METRICS}:
            last = read_history(Layout(mirrored.root))[-1]
            assert (last.code, last.left) == (30, 0)
            assert last.reason.startswith("writing the status files: ")
        if path in {*TABLES, HISTORY}:
            assert (
                f'{CODE}{{root="{mirrored.root}",task="UpdateMirror"}} 30\n'
                in (mirrored.root / METRICS).read_text()
            )
        (mirrored.root / path / "inside").unlink()
        (mirrored.root / path).rmdir()
        if content is not None:
            # Without its id, the mirror would count as not mounted.
            (mirrored.root / path).write_bytes(content)
        result = mirrored.update()
        assert result.code == 0, (path, result.output)


def refused(mirrored: Follower) -> tuple[Ended, Ended]:
    """Return the ends of an update that fails, and of ``status`` after it."""
    updated = mirrored.update()
    status = ended([str(COMMAND), "status", "--config", str(mirrored.config)])
    assert updated.code == 30, updated.output
    assert status.code in {0, 30}
    return updated, status
