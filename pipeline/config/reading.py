"""``mirror.yaml`` as read: the mistakes in it, each with its line."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config.mistakes import explanation
from pipeline.config.sections import Settings
from pipeline.config.values import without_parents
from pipeline.config.yaml_mistakes import yaml_problem
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
        raise SettingsError(yaml_problem(error, text, path)) from None
    except RecursionError:
        raise SettingsError(f"{path}: expected YAML, got one nested too deep. Nothing was started.") from None
    if node is None or not isinstance(document, dict):
        got = "nothing" if document is None else f"{document!r:.40}"
        raise SettingsError(
            f"{path}: expected the sections 'source' and 'mirror', got {got}. Nothing was started; "
            "`ipp-mirror init` writes a file with all settings."
        )
    try:
        return Settings.model_validate(document, context=_folder_of(path))
    except ValidationError as error:
        raise SettingsError(explanation(error, path, node)) from None


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
            noun = "a number" if node.tag in _NUMBERS else "a date or a time"
            problem = f"expected {noun}, got {node.value!r}: {error}. Put it in quotation marks if it is text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


def _folder_of(file: Path) -> Path:
    """Return the absolute path of the folder of a file; that of its target for a symbolic link."""
    return without_parents(file.resolve() if file.is_symlink() else Path.cwd() / file).parent
