"""Documentation of the settings: README, guide and ``mirror.yaml`` have each of them, with its default."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from pipeline.config import Catalog, Mirror, Notify, Product, Source, read_settings

REPOSITORY = Path(__file__).resolve().parent.parent
TEMPLATE = REPOSITORY / "pipeline" / "mirror.yaml"
SECTIONS = {"source": Source, "mirror": Mirror, "catalog": Catalog, "notify": Notify}
REQUIRED = object()


def defaults_of(model: type[BaseModel]) -> dict[str, Any]:
    """The default of each setting of a section."""
    fields = model.model_fields.items()
    return {
        name: REQUIRED if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in fields
    }


DEFAULTS = {section: defaults_of(model) for section, model in SECTIONS.items()}
OF_THE_SITE = {
    "url",
    "root",
    "products",
    "min_free",
    "volumes",
    "rate_limit",
    "enabled",
    "access_url",
    "on_complete",
    "on_run",
}
"""Settings for which ``mirror.yaml`` has an example, not the default."""


def value_of(text: str) -> Any:
    """The default in a cell of a table."""
    words = {"needed": REQUIRED, "none": None, "all": None}
    return words[text] if text in words else yaml.safe_load(text.strip("`"))


def table_rows(page: Path, first_cell: str) -> list[list[str]]:
    """The cells of the table rows of a page whose first cell matches."""
    rows = [line.strip("|").split(" | ") for line in page.read_text(encoding="utf-8").splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows]
    return [row for row in cells if re.fullmatch(first_cell, row[0])]


def test_the_table_of_the_readme():
    rows = table_rows(REPOSITORY / "README.md", r"`(source|mirror|catalog|notify)\.\w+`")
    documented: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, default, meaning in rows:
        section, name = key.strip("`").split(".")
        assert meaning
        assert name not in documented[section]
        documented[section][name] = value_of(default)
    assert documented == DEFAULTS


GUIDE = {**DEFAULTS, "mirror.products[]": defaults_of(Product)}


@pytest.mark.parametrize("section", GUIDE)
def test_the_tables_of_the_guide(section):
    text = (REPOSITORY / "docs" / "guide.md").read_text(encoding="utf-8")
    table = text.partition(f"| `{section}.` | type | default | meaning |\n|---|---|---|---|\n")[2].partition(
        "\n\n"
    )[0]
    cells = [re.fullmatch(r"\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|", row) for row in table.splitlines()]
    documented = [(row[1], value_of(row[3])) for row in cells]
    assert sorted(documented, key=lambda row: row[0]) == sorted(GUIDE[section].items())


@pytest.mark.parametrize("section", SECTIONS)
def test_the_settings_file_has_every_setting_with_a_comment_and_its_default(section):
    text = TEMPLATE.read_text(encoding="utf-8")
    lines = re.search(rf"^{section}:\n((?:(?: .*)?\n)+)", text, re.M)[1].splitlines()
    documented = {}
    commented = False
    for line in lines:
        setting = re.fullmatch(r"  (?:# )?([a-z_]+): ?(.*)|  (products):", line)
        if setting:
            assert commented, line
            documented[setting[1] or setting[3]] = setting[2]
        commented = line.startswith("  # ") or (commented and setting is not None)
    assert documented.keys() == DEFAULTS[section].keys()
    for name, value in documented.items():
        if name not in OF_THE_SITE:
            assert yaml.safe_load(value) == DEFAULTS[section][name], name


def test_what_a_new_settings_file_sets_otherwise_is_said_in_the_tables():
    written = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    others = {
        (section, name): value
        for section, values in written.items()
        for name, value in values.items()
        if value != DEFAULTS[section][name] and name not in {"url", "root", "products"}
    }
    assert others == {("mirror", "min_free"): "1 GB", ("catalog", "enabled"): True}
    guide = (REPOSITORY / "docs" / "guide.md").read_text(encoding="utf-8")
    for (section, name), value in others.items():
        said = f"`init` writes `{str(value).lower() if value is True else value}`"
        [[_, _, meaning]] = table_rows(REPOSITORY / "README.md", f"`{section}.{name}`")
        assert said in meaning
        table = guide.partition(f"| `{section}.` | type |")[2].partition("\n\n")[0]
        [row] = [row for row in table.splitlines() if row.startswith(f"| `{name}` |")]
        assert said in row


def test_the_settings_file_is_valid_with_its_examples():
    text = TEMPLATE.read_text(encoding="utf-8")
    assert read_settings(TEMPLATE).source.url == "http://127.0.0.1:8080/ds"
    assert yaml.safe_load(text)["mirror"]["min_free"] == "1 GB"
