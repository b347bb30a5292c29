"""External tasks for pipelines of others: the example of the documentation, and when a task is complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import REPOSITORY
from support.follower import Follower
from support.upstream import File, Upstream

from tasks import MirroredFileset, MirroredProduct

PRODUCT = "md"


@pytest.fixture
def mirrored(upstream: Upstream, server, follower: Follower) -> Follower:
    upstream.add_bundles(PRODUCT, "o1.chip.1.1.1", {"XY01": {"a.fits": b"a", "b.fits": b"b"}})
    upstream.add(PRODUCT, "plain", [File("p.fits", b"p")])
    assert follower.update().code == 0
    return follower


def test_the_example_of_the_documentation(mirrored: Follower, tmp_path: Path):
    text = (REPOSITORY / "docs" / "luigi.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    assert example.count("/etc/ipp-mirror/mirror.yaml") == 2
    (tmp_path / "count.py").write_text(example.replace("/etc/ipp-mirror/mirror.yaml", str(mirrored.config)))
    (command,) = re.findall("^PYTHONPATH=.*", text, re.MULTILINE)
    result = subprocess.run(
        command.replace("md-all-rel-200907", PRODUCT),
        shell=True,
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "This progress looks :)" in result.stderr
    counts = {path.stem: path.read_text().split() for path in tmp_path.glob("*.count")}
    assert counts == {"o1.chip.1.1.1": ["2", "2"], "plain": ["1", "0"]}


def test_a_fileset_is_complete_once_its_registration_is_here(upstream, mirrored: Follower):
    config = str(mirrored.config)
    assert MirroredFileset(product=PRODUCT, fileset="plain", config=config).complete()
    assert not MirroredFileset(product=PRODUCT, fileset="other", config=config).complete()
    (mirrored.root / "state" / PRODUCT / "extracted" / "plain.json").unlink()
    assert not MirroredFileset(product=PRODUCT, fileset="plain", config=config).complete()
    assert not MirroredProduct(product=PRODUCT, config=config).complete()


def test_a_product_is_complete_since_its_last_update(mirrored: Follower):
    config = str(mirrored.config)
    assert MirroredProduct(product=PRODUCT, config=config).complete()
    assert MirroredProduct(product=PRODUCT, since="2009-01-01", config=config).complete()
    assert not MirroredProduct(product=PRODUCT, since="2999-01-01T00:00:00Z", config=config).complete()
    assert not MirroredProduct(product="other", config=config).complete()
    assert MirroredProduct(product=PRODUCT, config=config).output().filesets == ["o1.chip.1.1.1", "plain"]


def test_a_name_that_no_listing_has_is_a_warning_once(mirrored: Follower, caplog):
    config, logged = str(mirrored.config), []
    for _ in range(2):
        for product, fileset in (("mdd", "plain"), (PRODUCT, "plian"), (PRODUCT, "plain")):
            MirroredFileset(product=product, fileset=fileset, config=config).complete()
        MirroredProduct(product="mdd", config=config).complete()
        MirroredProduct(product=PRODUCT, config=config).complete()
        logged.append([record.getMessage() for record in caplog.records])
    no_product = (
        "expected a product of this mirror (md), got 'mdd'. Did you mean 'md'? "
        "The task is not complete until an update brings it."
    )
    no_fileset = (
        "product md: expected a name of its listing of 2 filesets, got 'plian'. Did you mean 'plain'? "
        "The task is not complete until an update brings it."
    )
    assert logged == [[no_product, no_fileset, no_product]] * 2
