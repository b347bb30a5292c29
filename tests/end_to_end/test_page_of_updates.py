"""The page ``status/index.html`` after updates, and by ``ipp-mirror status --html``."""

from click.testing import CliRunner
from support.upstream import File

from pipeline.mirror.state.layout import Layout
from pipeline.reporting.history import read_history
from tasks.commands import ipp_mirror

PRODUCT = "md-all-rel-200907"


def test_an_update_with_news_ends_with_a_new_page(upstream, server, follower, tmp_path):
    upstream.add_bundles(PRODUCT, "o1.chip", {"XY01": {"a.fits": b"A" * 5000}})
    upstream.add(PRODUCT, "wrong", [File("w.fits", b"w", listed={"md5": "0" * 32})])
    follower.mirror["page"] = True
    first = follower.update()
    assert first.code == 30
    layout = Layout(follower.root)
    assert [record.left for record in read_history(layout)] == [1]
    text = layout.page.read_text()
    assert "<dt>Running</dt><dd>nothing</dd>" in text
    assert "with code 30: product md-all-rel-200907: 1 of 2 pending filesets failed" in text

    upstream.withdraw(PRODUCT, "wrong")
    upstream.add(PRODUCT, "right", [File("r.fits", b"r")])
    assert follower.update().code == 0
    renewed = layout.page.stat()
    assert "with code 0" in layout.page.read_text()
    assert follower.update().code == 0
    assert layout.page.stat().st_mtime_ns == renewed.st_mtime_ns

    path = tmp_path / "page.html"
    shown = CliRunner().invoke(ipp_mirror, ["status", "--config", str(follower.config), "--html", str(path)])
    assert (shown.exit_code, shown.output) == (0, "")
    assert path.read_text().startswith("<!DOCTYPE html>\n")
    assert [record.left for record in read_history(layout)] == [1, 0, 0]
