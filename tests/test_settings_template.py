"""Settings of a new mirror: what is filled in is what they are read as, whatever the server's texts hold."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.config import Product, parse_settings
from pipeline.datastore.listing import ProductRow
from pipeline.settings_template import new_settings

URL = "http://data.example.org/ipp049/ds"
ROOT = Path("/panstarrs/data/MIRROR")
TIME = "2009-07-29T03:02:13Z"
MD = ProductRow("md-all-rel-200907", "o1.chip.1.1.1", TIME, "ipp-dist", "MD fields, all stages")
EMPTY = ProductRow("empty-product", None, "null", "ipp-misc", "nothing yet")


def settings(text: str):
    return parse_settings(text, Path("/etc/mirror.yaml"))


def test_each_listed_product_has_a_line_that_says_what_it_is():
    text = new_settings(URL, ROOT, listed=[MD, EMPTY])
    assert (
        "  products:\n"
        f"    # MD fields, all stages (ipp-dist), newest o1.chip.1.1.1 of {TIME}\n"
        "    - md-all-rel-200907\n"
        "    # nothing yet (ipp-misc), no filesets\n"
        "    - empty-product\n"
        "    # - name: threepi-all-200908\n"
    ) in text
    read = settings(text)
    assert (read.source.url, read.mirror.root) == (URL, ROOT)
    assert read.mirror.products == [Product(name=MD.name), Product(name=EMPTY.name)]


def test_products_that_are_not_chosen_are_comments_and_those_not_listed_are_hidden():
    text = new_settings(URL, ROOT, ["qub-200907", MD.name], [MD, EMPTY])
    assert "    # - empty-product\n    # Not listed at the root.\n    - qub-200907\n" in text
    read = settings(text)
    assert read.mirror.products == [Product(name=MD.name), Product(name="qub-200907")]
    assert read.source.hidden_products == ["qub-200907"]


def test_without_the_listing_of_the_root_products_are_those_named_or_all():
    assert settings(new_settings(URL, ROOT)).mirror.products is None
    read = settings(new_settings(URL, ROOT, ["b", "a"]))
    assert [product.name for product in read.mirror.products] == ["b", "a"]
    assert read.source.hidden_products == []


def test_all_other_lines_are_those_of_the_commented_file():
    template = (Path(__file__).parent.parent / "pipeline/mirror.yaml").read_text("utf-8").splitlines()
    made = new_settings(URL, ROOT, ["a"]).splitlines()
    differing = [line for line in template if line not in made]
    assert [re.match(r" *[- ]*\w+", line)[0].strip() for line in differing] == ["url", "root", "- md"]


@pytest.mark.parametrize(
    "name", ["123", "null", "yes", "1e3", "2009-07-29", "a: b", "- a", "1:30", "0x1F", "-"]
)
def test_a_name_that_yaml_would_read_as_something_else(name):
    read = settings(new_settings(URL, ROOT, [name, "hidden"], [ProductRow(name, None, TIME, "dump", "")]))
    assert [product.name for product in read.mirror.products] == [name, "hidden"]
    assert [each.name for each in settings(new_settings(URL, ROOT, [name])).mirror.products] == [name]


@pytest.mark.parametrize(
    "text", ["caf\xe9", "a\nb: c", "a\x85b", "a\x1b[2Jb\x00", "\u2028- x", "#|'\"\\1\\g<0>"]
)
def test_any_text_of_the_server_stays_in_its_comment(text):
    row = ProductRow("p", f"f{text}", TIME, text, text)
    made = new_settings(URL, ROOT, listed=[row, ProductRow(f"../{text}", None, TIME, "dump", "x")])
    assert settings(made).mirror.products == [Product(name="p")]
    assert all(line.isprintable() for line in made.splitlines())


@pytest.mark.parametrize(
    "root", ["/a b/c: d", "/'quoted' \"root\"", "/é/[x]", "/a, {b}", "/" + "long " * 60 + "x"]
)
def test_any_path_is_one_value(root):
    assert settings(new_settings(URL, Path(root))).mirror.root == Path(root)
    assert yaml.safe_load(new_settings(URL, Path(root)))["mirror"]["root"] == root
