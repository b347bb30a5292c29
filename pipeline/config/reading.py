"""``mirror.yaml`` as read: the mistakes in it, each with its line."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.sections import Settings
from pipeline.config.values import without_parents
from pipeline.errors import SettingsError


def read_settings(path: Path) -> Settings:
    """Read the YAML file at ``path``; a relative root is taken from the folder of the file.

    Raises SettingsError that names all wrong settings, each with the line and the expected value.
    """
    return parse_settings(_text(path), path)


def parse_settings(text: str, path: Path) -> Settings:
    """Return the settings in the text of the file ``path``, which is not read. Raises SettingsError."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SettingsError(_yaml_problem(error, path)) from None
    except RecursionError:
        raise SettingsError(f"{path}: expected YAML, got one nested too deep. Nothing was started.") from None
    if node is None or not isinstance(document, dict):
        raise SettingsError(
            f"{path}: expected the sections 'source' and 'mirror', got {document!r:.40}. Nothing was started."
        )
    try:
        return Settings.model_validate(document, context=_folder_of(path))
    except ValidationError as error:
        raise SettingsError(_explanation(error, path, node)) from None


def _text(path: Path) -> str:
    """Return the text of the file. Raises SettingsError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{path}: expected a settings file here, got: {error.strerror or error}. "
            "Write one with `ipp-mirror init`, or name another with --config FILE, IPP_MIRROR_CONFIG or in "
            "luigi.cfg under [mirror]."
        ) from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            f"{path}, line {line}: expected text in UTF-8, got the byte 0x{content[error.start]:02x}. "
            "Save the file as UTF-8; nothing was started."
        ) from None


def _yaml_problem(error: yaml.YAMLError, path: Path) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = (getattr(error, "problem", None) if mark else None) or " ".join(str(error).split())
    where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
    expected = "" if problem.startswith("expected ") else "expected YAML, got: "
    return f"{where}: {expected}{problem}. Nothing was started."


_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}


class _Loader(yaml.SafeLoader):
    """YAML loader with errors for repeated names, and with the line of an invalid date or number.

    Numbers with colons are texts.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"expected {key.value!r} once, got it twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag in _NUMBERS and ":" in node.value:
            # YAML 1.1 takes 10:42:44 for a number to the base of 60.
            return node.value
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


_EXPECTED = {
    "dict_type": "expected a name and a value in each line below it",
    "model_type": "expected settings of its own, as 'name: value' below it",
    "too_short": "expected at least one product; leave it out to mirror all of them",
}


def _explanation(error: ValidationError, path: Path, node: yaml.Node) -> str:
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


def _folder_of(file: Path) -> Path:
    """Return the absolute path of the folder of a file; that of its target for a symbolic link."""
    return without_parents(file.resolve() if file.is_symlink() else Path.cwd() / file).parent
