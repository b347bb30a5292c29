"""Mistakes in ``mirror.yaml`` as sentences, each with its line."""

from pathlib import Path

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

_EXPECTED = {
    "dict_type": "expected a name and a value in each line below it",
    "model_type": "expected settings of its own, as 'name: value' below it",
    "too_short": "expected at least one product; leave it out to mirror all of them",
}


def explanation(error: ValidationError, path: Path, node: yaml.Node) -> str:
    """Return one sentence on a single mistake, else a list of all, in the order of their lines."""
    mistakes = sorted(_mistake(details, node) for details in error.errors(include_url=False))
    if len(mistakes) == 1:
        line, problem = mistakes[0]
        return f"{path}, line {line}: {problem}. Nothing was started."
    lines = [f"  line {line}: {problem}" for line, problem in mistakes]
    return "\n".join([f"{path}: {len(mistakes)} settings are wrong. Nothing was started.", *lines])


def _mistake(details: ErrorDetails, node: yaml.Node) -> tuple[int, str]:
    """Return the line of a mistake, and what is wrong there."""
    keys = _keys(node, [key for key in details["loc"] if key not in {"constrained-list", "[key]"}])
    place = ".".join(str(key) for key in keys)
    if details["type"] == "extra_forbidden":
        problem = f"unknown setting {place!r}"
    elif details["type"] == "missing":
        problem = f"missing setting {place!r}"
    else:
        message = _EXPECTED.get(details["type"]) or details["msg"].removeprefix("Value error, ")
        message = message.replace("Input should be", "expected")
        got = "" if ", got " in message else f", got {details['input']!r}"
        problem = f"{place}: {message}{got}"
    return _line(node, keys), problem


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
