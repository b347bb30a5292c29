"""Sentences on mistakes in the settings: near names at every level, products by name, YAML in plain words."""

from pathlib import Path

import pytest

from pipeline.config import parse_settings
from pipeline.errors import SettingsError

SOURCE = "source:\n  url: http://h/ds\n"
MIRROR = "mirror:\n  root: r\n"
PRODUCT = f"{SOURCE}{MIRROR}  products:\n    - a\n    - name: md.1\n      "


def refusal(text: str) -> str:
    """The sentence on the settings, without the path of the file."""
    with pytest.raises(SettingsError) as raised:
        parse_settings(text, Path("mirror.yaml"))
    return str(raised.value).removeprefix("mirror.yaml")


UNKNOWN = {
    f"{SOURCE}{MIRROR}catalogue: {{}}\n": "line 5: unknown setting 'catalogue'. Did you mean 'catalog'?",
    f"{SOURCE}  Attempts: 3\n{MIRROR}": "line 3: unknown setting 'source.Attempts'. Did you mean 'attempts'?",
    f"{SOURCE}  hidden: [a]\n{MIRROR}": "'source.hidden'. Did you mean 'hidden_products'?",
    f"{SOURCE}{MIRROR}  prodcuts: [a]\n": "'mirror.prodcuts'. Did you mean 'products'?",
    f"{SOURCE}{MIRROR}  rate_limit: 5\n": "'mirror.rate_limit'. Did you mean 'source.rate_limit'?",
    f"{SOURCE}{MIRROR}  volumes: {{md: {{pth: /a, path: /a}}}}\n": "'mirror.volumes.md.pth'. Did you "
    "mean 'path'?",
    f"{PRODUCT}memebrs: '*'\n": "'mirror.products.memebrs' of product md.1. Did you mean 'members'?",
    f"{PRODUCT}select: {{near: {{ra: 1, dec: 2, radius: 3, radus: 4}}}}\n": "line 8: unknown setting "
    "'mirror.products.select.near.radus' of product md.1. Did you mean 'radius'?",
    f"{PRODUCT}select: [{{}}, {{near: {{ra: 1, dec: 2, radius: 3, raduis: 4}}}}]\n": "unknown setting "
    "'mirror.products.select.1.near.raduis' of product md.1. Did you mean 'radius'?",
    f"{SOURCE}{MIRROR}catalog: {{enable: true}}\n": "'catalog.enable'. Did you mean 'enabled'?",
    f"{SOURCE}{MIRROR}notify: {{on_ran: x}}\n": "'notify.on_ran'. Did you mean 'on_run'?",
    f"{SOURCE}{MIRROR}  on_removed: delte\n": "expected 'keep' or 'delete', got 'delte'. Did you mean "
    "'delete'?",
    f"{PRODUCT}order: newset\n": "expected 'oldest' or 'newest', got 'newset'. Did you mean 'newest'?",
    # A word of another meaning that is spelt alike.
    f"{PRODUCT}order: latest\n": "expected 'oldest' or 'newest', got 'latest'.",
    f"{SOURCE}{MIRROR}  xyz: 1\n": "unknown setting 'mirror.xyz'; expected one of root, must_exist, "
    "products,",
}


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_a_misspelt_setting_or_word_may_stand_for(text):
    said = refusal(text)
    assert UNKNOWN[text] in said
    assert said.endswith(" Nothing was started.")
    assert "?." not in said


UNNAMED = {
    f"{SOURCE}{MIRROR}  products:\n    - a\n    - nam: b\n": "missing setting 'mirror.products.1.name'",
    f"{SOURCE}{MIRROR}  products:\n    - {{name: [], order: x}}\n": "mirror.products.0.order: expected",
    f"{SOURCE}{MIRROR}  products:\n    - {{name: b/c}}\n": "mirror.products.0.name: product name: expected",
}


@pytest.mark.parametrize("text", UNNAMED)
def test_a_product_without_a_name_is_named_by_its_place(text):
    assert UNNAMED[text] in refusal(text)


def test_an_address_is_not_repeated():
    assert ", got text. " in refusal(f"source: {{url: 'ftp://h/ds'}}\n{MIRROR}")
    assert "unknown setting 'notify.(an address)'" in refusal(f"{SOURCE}{MIRROR}notify:\n  mailto://h:\n")


def test_a_long_value_is_cut():
    assert len(refusal(f"{SOURCE}{MIRROR}  order: {'x' * 10_000}\n")) < 300
    assert len(refusal(f"{SOURCE}{MIRROR}  {'x' * 1000}: 1\n")) < 500


@pytest.mark.parametrize(
    "text",
    [
        f"{SOURCE}{MIRROR}notify: slack://secret/B/C\n",
        f"{SOURCE}{MIRROR}notify: mailto://u:secret@h\n",
        f"{SOURCE}{MIRROR}notify: [mailto://u:secret@h]\n",
        f"{SOURCE}{MIRROR}notify: {{urls: {{a: 'mailto://u:secret@h'}}}}\n",
        f"{SOURCE}{MIRROR}catalog: 'mysql://u:secret@h'\n",
        f"{SOURCE}{MIRROR}catalog: {{url: ['mysql://u:secret@h']}}\n",
        f"source: http://u:secret@h/ds\n{MIRROR}",
        f"source: {{url: [http://u:secret@h/ds]}}\n{MIRROR}",
        f"{SOURCE}{MIRROR}catalog: postgresql://h/db?password=secret\n",
        f"{SOURCE}{MIRROR}catalog: {{enabled: 'postgresql://h/db?password=secret'}}\n",
        f"{SOURCE}{MIRROR}  page: slack://secret/x\n",
        f"{SOURCE}{MIRROR}  page: [slack://secret/x]\n",
        f"{SOURCE}{MIRROR}  page: !!binary c2VjcmV0\n",
        f"{SOURCE}{MIRROR}  products: [slack://secret/x]\n",
        f"{SOURCE}{MIRROR}  volumes: {{slack://secret/x: /a}}\n",
        f"{SOURCE}{MIRROR}  volumes: {{slack://secret/x: {{pth: /a}}}}\n",
        f"{PRODUCT}select: {{near: {{ra: slack://secret/x, dec: 1, radius: 1}}}}\n",
        f"{SOURCE}  rate_limit: {{slack://secret/x: 1 MB/s}}\n{MIRROR}",
        f"{SOURCE}{MIRROR}  products: [{{name: slack://secret/x, ordr: oldest}}]\n",
        f"{SOURCE}{MIRROR}notify:\n  mailtos://u:secret@h:\n",
        f"{SOURCE}{MIRROR}notify:\n  mailtos://u:secret@h:\n  mailtos://u:secret@h:\n",
        "http://u:secret@h/ds\n",
        "- http://u:secret@h/ds\n",
        "catalog:\n  enabled: true\n   url: postgresql://u:secret@h/db\n",
        "catalog:\n    enabled: true\n  url: postgresql://u:secret@h/db\n",
        "catalog:\n  url: 'postgresql://u:'secret@h\n",
        "notify:\n  urls:\n    - mailto://a\n   - mailtos://u:secret@h\n",
        "notify:\n  urls: [a]\n   mailtos://u:secret@h\n",
        "notify:\n  urls: ['slack://secret' x]\n",
        "notify:\n  urls: *slack://secret/x\n",
        "notify:\n  urls: [*secret]\n",
        "notify:\n  urls: &slack://secret/x\n",
        *(
            f"catalog:\n  url: {tag}secret{behind}\n"
            for tag in ("!", "!a!", "!!", "!!int ", "!!bool ", "!!float ", "!!timestamp ", "!!null ")
            for behind in ("", "!x", "@h y")
        ),
    ],
)
def test_no_sentence_repeats_a_password(text):
    assert "secret" not in refusal(text).lower()


YAML = {
    "source:\n  url: http://h/ds\n   timeout: 3\n": "line 3, column 11: expected the line to begin in "
    "the column "
    "of the line above, got 'timeout'. ",
    "source:\n  url: http://h/ds\n timeout: 3\n": "line 3, column 2: expected the line to begin in the "
    "column of "
    "the settings that it belongs with, got 'timeout' in column 2",
    "products:\n    - name: a\n    select: {}\n": "which in a list is the column behind the dash, got "
    "'select' in",
    "source:\n\turl: http://h/ds\n": "line 2, column 1: expected blanks as the indentation, got a tab",
    "source:\n  url: http://h: 5\n": "line 2, column 16: expected one ': ' in a line, got two",
    "source: 'a' b\n": "line 1, column 13: expected the end of the line, or ': ', got text. ",
    "products: [a, b\n": "expected ] at the end of the list or settings that begins in line 1, column 11, "
    "got the end",
    "products: [a, b\nc: d\n": "expected ] at the end of the list or settings that begins in line 1, column "
    "11, got ':'",
    "root: 'r\n": "expected a quotation mark at the end of the text that begins in line 1, column 7, got the "
    "end of",
    "a: b\nmirror\n  root: r\n": "line 2, column 1: expected 'name: value', got a line without ': '",
    "files:\n  - *.cmf\n": "line 2, column 6: expected a value, got *: a value that begins with * has",
    "files: {a: *stack*}\n": "expected a value, got *: a value that begins with * has",
    "files: {a: &@}\n": "expected a value, got &: a value that begins with & has",
    "url: @h\n": "line 1, column 6: expected a value, got '@' at its beginning. Put the value in "
    "quotation marks",
    "a: 1\nb: \x07\n": "line 2: expected printable characters, got U+0007",
    "a: 0x_\n": "line 1, column 4: expected a number, got '0x_': ",
}


@pytest.mark.parametrize("text", YAML)
def test_what_is_no_yaml_in_plain_words(text):
    said = refusal(text)
    assert YAML[text] in said
    assert said.endswith(". Nothing was started.")
    assert "\n" not in said
