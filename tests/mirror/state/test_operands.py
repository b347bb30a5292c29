"""Products and filesets that an operator names: the sentences on those that are not here."""

import re
import shlex

import pytest
import yaml
from support.many_filesets import KNOWN, PRODUCT

from pipeline.config import Settings
from pipeline.errors import SettingsError
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.operands import (
    check_product_here,
    check_products,
    refuse_pattern,
    unknown_fileset,
)

HIDDEN = {"url": "http://h/ds", "hidden_products": ["hidden"]}
NAMES = [f"fileset.{number}" for number in range(KNOWN)]


def settings(*products: str) -> Settings:
    named = {"products": list(products)} if products else {}
    return Settings.model_validate({"source": HIDDEN, "mirror": {"root": "/r"} | named})


def test_a_product_that_is_near_another():
    with pytest.raises(SettingsError) as raised:
        check_products(["md", "threpi"], ["md", "threepi"], settings("md", "threepi"), "Nothing was done.")
    assert str(raised.value) == (
        "expected a product of this mirror (md, threepi), got 'threpi'. Did you mean 'threepi'? "
        "Nothing was done."
    )
    check_products(["md"], ["md", "threepi"], settings(), "")


@pytest.mark.parametrize(
    ("named", "edit"),
    [
        (["md"], "To mirror it, add the line `- other` below `products:` of the section mirror."),
        ([], "If http://h/ds serves it without listing it, write `hidden_products: [hidden, other]` into"),
    ],
)
def test_another_product_is_answered_with_the_edit_that_adds_it(named, edit):
    with pytest.raises(SettingsError) as raised:
        check_products(["other"], ["md"], settings(*named), "Nothing was done.")
    assert f"got 'other'. {edit}" in str(raised.value)
    assert str(raised.value).endswith(" Nothing was done.")


@pytest.mark.parametrize("name", ["a: b", "null", "1e5", "1.0", "2009-07-10", "- a", "yes"])
def test_a_name_that_yaml_takes_for_something_else_is_in_quotation_marks(name):
    for named in (["md"], []):
        with pytest.raises(SettingsError) as raised:
            check_products([name], ["zz"], settings(*named), "")
        edit = yaml.safe_load(re.findall("`(.*?)`", str(raised.value))[0])
        assert edit == ([name] if named else {"hidden_products": ["hidden", name]})


def test_many_products_are_not_all_named():
    with pytest.raises(SettingsError, match=r"\(a10, a11, a12, a13, a14, a15, a16, a17 and 12 more\)"):
        check_products(["xyz"], [f"a{number}" for number in range(10, 30)], settings(), "")
    with pytest.raises(SettingsError, match=r"\(there is none\)"):
        check_products(["xyz"], [], settings(), "")


def test_a_product_that_no_update_has_listed_yet(layout):
    for product, configured in (("n w", settings("n w")), ("hidden", settings())):
        with pytest.raises(SettingsError) as raised:
            check_product_here(layout, product, configured, "Nothing was changed.")
        assert str(raised.value) == (
            f"product {product}: expected its listing, found none, as no update has fetched it yet. "
            f"Nothing was changed. `ipp-mirror update --products {shlex.quote(product)}` fetches it."
        )
    with pytest.raises(SettingsError, match=f"product of this mirror .{PRODUCT}., got 'mdd'"):
        check_product_here(layout, "mdd", settings(), "")
    check_product_here(layout, PRODUCT, settings(), "")
    with pytest.raises(SettingsError, match="product md: expected its listing, found none, as no update"):
        check_product_here(Layout(layout.root / "new"), "md", settings(), "")


def test_a_name_that_no_product_can_have_is_answered_without_an_edit():
    with pytest.raises(SettingsError) as raised:
        check_products(["a/b"], ["md"], settings("md"), "Nothing was done.")
    assert str(raised.value) == "expected a product of this mirror (md), got 'a/b'. Nothing was done."


@pytest.mark.parametrize(
    ("product", "name", "said"),
    [
        (
            PRODUCT,
            "filset.77",
            "its listing of 300 filesets, got 'filset.77'. Did you mean 'fileset.77'",
        ),
        (
            PRODUCT,
            "nothing*",
            "its listing of 300 filesets, got 'nothing*'. The newest of them is 'fileset.299'.",
        ),
        (
            "empty",
            "f",
            "product empty: expected a fileset of its listing, which has none, got 'f'. Nothing was",
        ),
    ],
)
def test_a_fileset_that_no_row_has(product, name, said, layout):
    message = str(unknown_fileset(layout, product, name, "Nothing was changed."))
    assert message.startswith(f"product {product}: expected ")
    assert said in message
    assert "Nothing was changed." in message


def test_a_pattern_in_place_of_a_name():
    refuse_pattern(PRODUCT, "fileset.1", NAMES, "skip")
    with pytest.raises(SettingsError) as raised:
        refuse_pattern(PRODUCT, "fileset.2?", NAMES, "skip")
    assert str(raised.value) == (
        "product md: expected the name of one fileset, got the pattern 'fileset.2?', which matches 10 "
        f"filesets: {', '.join(NAMES[20:28])} and 2 more. "
        "Nothing was changed; skip each by its name."
    )
    with pytest.raises(SettingsError, match=r"'\[x\]', which matches 0 filesets\. Nothing was changed\.$"):
        refuse_pattern(PRODUCT, "[x]", NAMES, "skip")
