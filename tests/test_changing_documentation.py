"""docs/changing.md: every file that it names is there."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# The file that the recipe of a new step adds.
ADDED = "pipeline/mirror/steps/chart.py"


def test_every_file_that_is_named_is_there():
    page = (REPOSITORY / "docs" / "changing.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:pipeline|tasks|tests|docs)/[\w/.]+)`", page)) - {ADDED}
    assert len(named) > 40
    assert [path for path in sorted(named) if not (REPOSITORY / path).exists()] == []
    assert not (REPOSITORY / ADDED).exists()


def test_the_map_is_that_of_the_tree():
    page = (REPOSITORY / "docs" / "changing.md").read_text(encoding="utf-8")
    drawn = page.partition("## Map\n\n```\n")[2].partition("```")[0]
    folders: list[str] = []
    for line in drawn.splitlines():
        indent = (len(line) - len(line.lstrip())) // 2
        names = re.match(r" *((?:[\w.]+(?:/|\.py)(?:[\w.]+\.py)? ?)+)", line)
        assert names, line
        for name in names[1].split():
            path = "/".join([*folders[:indent], name.rstrip("/")])
            assert (REPOSITORY / path).exists(), path
            if name.endswith("/"):
                folders[indent:] = [name.rstrip("/")]
