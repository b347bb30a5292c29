"""``make demo``."""

from pathlib import Path

from pipeline.sample.demo import announcement


def test_a_map_is_announced_unless_there_is_one(tmp_path: Path):
    assert announcement(tmp_path) == (
        "mirroring it; after the last fileset a map of the sky and a page are drawn"
    )
    (tmp_path / "status").mkdir()
    (tmp_path / "status" / "coverage.png").touch()
    assert announcement(tmp_path) == "mirroring it"
