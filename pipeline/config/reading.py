"""Reading of ``mirror.yaml``: from the file to YAML, and to settings; a mistake is an error with its line."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config.mistakes import explanation, kind_of, shown_name
from pipeline.config.sections import Settings
from pipeline.config.values import without_parents
from pipeline.config.yaml_mistakes import yaml_problem
from pipeline.errors import SettingsError

# Behind aliases, a short text can hold billions.
_MOST_VALUES = 100_000
_MOST_DIGITS = 100
_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}


def read_settings(path: Path) -> Settings:
    """Read the YAML file at ``path``; a relative root is taken from the folder of the file.

    Raises SettingsError that names all wrong settings, each with the line and the expected value.
    """
    return parse_settings(_text(path), path)


def parse_settings(text: str, path: Path) -> Settings:
    """Return the settings in the text of the file ``path``, which is not read. Raises SettingsError."""
    node, document = _parsed(text, path)
    if node is None or not isinstance(document, dict):
        raise SettingsError(
            f"{path}: expected the sections 'source' and 'mirror', got {kind_of(document)}. "
            "Nothing was started; `ipp-mirror init` writes a file with all settings."
        )
    try:
        return Settings.model_validate(document, context=_folder_of(path))
    except ValidationError as error:
        raise SettingsError(explanation(error, path, node)) from None


def _parsed(text: str, path: Path) -> tuple[yaml.Node | None, Any]:
    """Return the YAML document as nodes, which have lines, and as values. Raises SettingsError."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None or _values_in(node, {}) <= _MOST_VALUES:
            return node, yaml.load(text, Loader=_Loader)
        problem = f"at most {_MOST_VALUES} values, got more, counting what stands behind each alias (*)"
    except yaml.YAMLError as error:
        raise SettingsError(yaml_problem(error, text, path)) from None
    except RecursionError:
        problem = "YAML, got one nested too deep"
    except (ValueError, OverflowError):
        # Of a character beyond Unicode.
        problem = "YAML, got a number in an escape or a directive that is too large"
    raise SettingsError(f"{path}: expected {problem}. Nothing was started.")


def _values_in(node: yaml.Node, counted: dict[int, int]) -> int:
    """Return the number of values in a node, in which each alias counts as all that it stands for."""
    if id(node) not in counted:
        # Found by an alias inside of the node itself, which has no end.
        counted[id(node)] = _MOST_VALUES + 1
        inner: Iterable[yaml.Node] = ()
        if isinstance(node, yaml.MappingNode):
            inner = chain.from_iterable(node.value)
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        counted[id(node)] = 1 + sum(_values_in(each, counted) for each in inner)
    return counted[id(node)]


def _text(path: Path) -> str:
    """Return the text of the file. Raises SettingsError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        advice = "Write one with `ipp-mirror init`"
        if isinstance(error, PermissionError):
            advice = "Give this user the right to read it"
        raise SettingsError(
            f"{path}: expected a settings file here, got: {error.strerror or error}. "
            f"{advice}, or name another with --config FILE, IPP_MIRROR_CONFIG or in luigi.cfg under [mirror]."
        ) from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            f"{path}, line {line}: expected text in UTF-8, got the byte 0x{content[error.start]:02x}. "
            "Save the file as UTF-8; nothing was started."
        ) from None


class _Loader(yaml.SafeLoader):
    """YAML loader with errors for repeated names, and with the line of an invalid date or number.

    Numbers with colons are texts.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem = f"expected the name of a setting, got a {key.id}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if key.value in seen:
                problem = f"expected {shown_name(key.value)!r} once, got it twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag in _NUMBERS and ":" in node.value:
            # YAML 1.1 takes 10:42:44 for a number to the base of 60.
            return node.value
        try:
            if node.tag in _NUMBERS and len(node.value) > _MOST_DIGITS:
                raise ValueError(f"a number has at most {_MOST_DIGITS} digits")
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            noun = "a number" if node.tag in _NUMBERS else "a date or a time"
            got = f"{node.value[:40]!r}: {error}" if self._is_untagged(node) else "text behind a tag"
            problem = f"expected {noun}, got {got}. Put it in quotation marks if it is text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    def _is_untagged(self, node: yaml.Node) -> bool:
        """Return True for a value whose characters alone make it a number or a date, and so no password."""
        if not isinstance(node, yaml.ScalarNode):
            return False
        resolved: str = self.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
        return resolved == node.tag


def _folder_of(file: Path) -> Path:
    """Return the absolute path of the folder of a file; that of its target for a symbolic link."""
    return without_parents(file.resolve() if file.is_symlink() else Path.cwd() / file).parent
