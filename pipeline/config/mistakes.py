"""Wrong values of settings as sentences: each with its line, what was expected, and what is there."""

import re
import reprlib
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.sections import Settings
from pipeline.config.values import Section
from pipeline.near_names import did_you_mean

# By type of pydantic's error.
_EXPECTED = {
    "bool_type": "expected true or false",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "string_type": "expected text, in quotation marks where it looks like a number",
    "string_too_short": "expected text",
    "list_type": "expected a list, such as [A, B]",
    "dict_type": "expected a name and a value in each line below it",
    "model_type": "expected settings of its own, as 'name: value' in each line below it",
    "too_short": "expected at least one product; leave it out to mirror all of them",
    "invalid_key": "expected names of settings, which are text",
}
# Settings whose values are addresses, which may hold a password.
_OF_ADDRESSES = {"notify", "url", "urls"}
_LOC_OF_KEYS = {"constrained-list", "[key]"}

_WORD = re.compile(r"'([^']*)'")
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _LONGEST = 80


def explanation(error: ValidationError, path: Path, node: yaml.Node) -> str:
    """Return one sentence on a single mistake, else a list of all, in the order of their lines."""
    mistakes = sorted(_mistake(details, node) for details in error.errors(include_url=False))
    if len(mistakes) == 1:
        line, problem = mistakes[0]
        return f"{path}, line {line}: {ended(problem)} Nothing was started."
    lines = [f"  line {line}: {problem}" for line, problem in mistakes]
    return "\n".join([f"{path}: {len(mistakes)} settings are wrong. Nothing was started.", *lines])


def ended(sentence: str) -> str:
    """Return the sentence with a mark at its end."""
    return sentence if sentence.endswith(("?", ".")) else f"{sentence}."


def _mistake(details: ErrorDetails, node: yaml.Node) -> tuple[int, str]:
    """Return the line of a mistake, and what is wrong there."""
    keys = _keys(node, [key for key in details["loc"] if key not in _LOC_OF_KEYS])
    return _line(node, keys), _problem(details, keys, *_place(node, keys))


def _problem(details: ErrorDetails, keys: list[str | int], place: str, product: str) -> str:
    """Return what is wrong with the setting at ``place``, whose product is empty or begins with ``of``."""
    if details["type"] == "extra_forbidden":
        return f"unknown setting {place!r}{product}{_meant(keys)}"
    if details["type"] == "missing":
        return f"missing setting {place!r}{product}"
    value, message = details["input"], details["msg"].removeprefix("Value error, ")
    message = _EXPECTED.get(details["type"]) or message.replace("Input should be", "expected")
    message, _, got = message.partition(", got ")
    if not got or _may_be_secret(got):
        is_secret = details["type"] == "model_type" or not _OF_ADDRESSES.isdisjoint(keys)
        got = kind_of(value) if is_secret else _as_text(value)
    words = _WORD.findall(details["ctx"]["expected"]) if details["type"] == "literal_error" else ()
    meant = did_you_mean(value, words) if isinstance(value, str) else ""
    return f"{place}{product}: {message}, got {got}{'.' if meant else ''}{meant}"


def shown_name(name: str | int) -> str:
    """Return the name of a setting, bounded; of one that may hold a password, its kind."""
    text = str(name)
    return "(an address)" if _may_be_secret(text) else text if len(text) <= _LONGEST else _SHOWN.repr(text)


def _may_be_secret(text: str) -> bool:
    """Return True for what may be an address, which may hold a password: anywhere in it."""
    return "://" in text or "@" in text


def _as_text(value: Any) -> str:
    """Return a text for people, bounded; the kind of any other value, and of an address."""
    is_shown = isinstance(value, str) and not _may_be_secret(value)
    return _SHOWN.repr(value) if is_shown else kind_of(value)


def kind_of(value: Any) -> str:
    """Return the kind of a value that may hold a password; one that cannot, as it may stand in the file."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int | float) or not value:
        return _SHOWN.repr(value)
    kinds: dict[type, str] = {str: "text", list: "a list", dict: "settings"}
    return kinds.get(type(value), "a value of another kind")


def _meant(keys: Sequence[str | int]) -> str:
    """Return a sentence on the setting that an unknown one may stand for: of its section, else of another."""
    name = str(keys[-1])
    section = _section(keys[:-1])
    if meant := did_you_mean(name, section.model_fields):
        return f".{meant}"
    elsewhere = [path for path in _all_settings(Settings) if path.rpartition(".")[2] == name]
    if elsewhere:
        return f". Did you mean {' or '.join(map(repr, elsewhere))}?"
    return f"; expected one of {', '.join(section.model_fields)}"


def _all_settings(section: type[Section], above: str = "") -> Iterator[str]:
    """Yield the paths of all settings, such as ``mirror.products.order``."""
    for name, field in section.model_fields.items():
        yield above + name
        if inner := _section_in(field.annotation):
            yield from _all_settings(inner, f"{above}{name}.")


def _section(keys: Sequence[str | int]) -> type[Section]:
    """Return the section at these keys; numbers of items, and names that people chose, do not count."""
    section: type[Section] = Settings
    for key in keys:
        field = section.model_fields.get(str(key))
        section = (field and _section_in(field.annotation)) or section
    return section


def _section_in(annotation: Any) -> type[Section] | None:
    """Return the section in a type such as a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)


def _place(node: yaml.Node, keys: Sequence[str | int]) -> tuple[str, str]:
    """Return the place of a setting, and the product that it belongs to, after `` of product``.

    The number of a product in ``mirror.products`` is left out where its name is known.
    """
    if keys[:2] != ["mirror", "products"] or len(keys) < 4 or not isinstance(keys[2], int):
        return ".".join(map(shown_name, keys)), ""
    name: yaml.Node | None = node
    for key in (*keys[:3], "name"):
        name = _value(name, key) if name else None
    if not isinstance(name, yaml.ScalarNode) or not name.value or keys[3] == "name":
        return ".".join(map(shown_name, keys)), ""
    return ".".join(map(shown_name, [*keys[:2], *keys[3:]])), f" of product {shown_name(name.value)}"


def _keys(node: yaml.Node, keys: list[str | int]) -> list[str | int]:
    """Return the keys without the numbers of items where the document has one item and no list."""
    kept: list[str | int] = []
    for key in keys:
        value = _value(node, key)
        if value is not None or isinstance(key, str) or isinstance(node, yaml.SequenceNode):
            kept.append(key)
            node = value or node
    return kept


def _value(node: yaml.Node, key: str | int) -> yaml.Node | None:
    """Return the value of a key of a mapping, or of the place in a list; None where there is none."""
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == str(key)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        value: yaml.Node = node.value[key]
        return value
    return None


def _line(node: yaml.Node, keys: list[str | int]) -> int:
    """Return the line, counted from 1, of the innermost of the keys that the document has."""
    line: int = node.start_mark.line
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(key)]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line
    return line + 1
