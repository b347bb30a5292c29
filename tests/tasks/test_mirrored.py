"""External tasks for pipelines of others: the example of the documentation, and when a task is complete."""

import os
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
    luigi = Path(sys.executable).with_name("luigi")
    result = subprocess.run(
        [luigi, "--module", "count", "CountAll", "--product", PRODUCT, "--local-scheduler"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
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
