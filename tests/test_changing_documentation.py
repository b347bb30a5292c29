"""docs/changing.md: every file that it names is there; and so is every section that a file names."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# The file that the recipe of a new step adds.
ADDED = "pipeline/mirror/steps/chart.py"
# A page, and the names of its sections behind it: (protocol notes, "dirinfo" and "dbinfo").
SECTIONS = re.compile(
    r"(protocol\s+notes|(?<![\w/.-])(?:docs/)?[\w-]+\.md)[\])`]*(?:\([\w/-]+\.md\))?,"
    r"((?:\s+(?:and\s+)?\"[^\"]+\",?)+)"
)


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


def headings(page: Path) -> set[str]:
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {line.replace("`", "") for line in lines}


def sections_named(path: Path) -> set[tuple[Path, str]]:
    """Return the pages and their sections that a file names."""
    named = SECTIONS.findall(path.read_text(encoding="utf-8"))
    pages = [
        (REPOSITORY / "docs" / ("protocol.md" if "notes" in page else Path(page).name), sections)
        for page, sections in named
    ]
    return {(page, " ".join(text.split())) for page, some in pages for text in re.findall(r'"([^"]+)"', some)}


def test_every_section_that_is_named_is_a_heading():
    folders = ["pipeline", "tasks", "tests", "bench", "docs"]
    files = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.*")]
    named = {
        (str(path.relative_to(REPOSITORY)), page.name, section)
        for path in [*files, *REPOSITORY.glob("*.md")]
        if path.suffix in {".py", ".md", ".yaml"} and path != Path(__file__)
        for page, section in sections_named(path)
    }
    there = {page: headings(REPOSITORY / "docs" / page) for _, page, _ in named}
    assert len(named) > 60
    assert [name for name in sorted(named) if name[2] not in there[name[1]]] == []
