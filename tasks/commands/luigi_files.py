"""Files with Luigi's settings: which there are, and what is wrong in one that Luigi cannot read."""

import configparser
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import SettingsError

_MIRROR_SECTION = re.compile(rb"^\s*\[\s*mirror\s*\]", re.MULTILINE)


def name_settings() -> bool:
    """Return True if one of the files has a section ``[mirror]``."""
    return any(_has_section(path) for path in _files())


def unreadable_file() -> SettingsError | None:
    """Return the error on the first file that Luigi cannot read; None if there is none."""
    for path in _files():
        if path.suffix == ".toml" or not path.is_file():
            continue
        parser = configparser.ConfigParser(interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # names differ by their case
        try:
            parser.read(path)
        except (configparser.Error, UnicodeDecodeError) as error:
            return SettingsError(f"{_problem(path, error)}. Correct the file; nothing was started.")
    return None


def _problem(path: Path, error: configparser.Error | UnicodeDecodeError) -> str:
    """Return the place of an error and what was expected, without the line, which may hold a password."""
    line, problem = 0, " ".join(str(error).split())
    if isinstance(error, UnicodeDecodeError):
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        problem = f"expected text, got the byte 0x{error.object[error.start]:02x}"
    elif isinstance(error, configparser.MissingSectionHeaderError):
        line = error.lineno
        problem = "expected a section such as [mirror] first, got none"
    elif isinstance(error, configparser.ParsingError):
        line = error.errors[0][0]
        problem = "expected 'name = value' or a section such as [mirror], got neither"
    elif isinstance(error, configparser.DuplicateOptionError):
        line = error.lineno or 0
        problem = f"expected {error.option!r} once in section [{error.section}], got it twice"
    elif isinstance(error, configparser.DuplicateSectionError):
        line = error.lineno or 0
        problem = f"expected section [{error.section}] once, got it twice"
    return f"{path}, line {line}: {problem}" if line else f"{path}: {problem}"


def _files() -> Iterator[Path]:
    """Yield the paths at which Luigi looks for its settings."""
    for name in ("client.cfg", "luigi.cfg", "luigi.toml"):
        yield Path("/etc/luigi", name)
        yield Path(name)
    if "LUIGI_CONFIG_PATH" in os.environ:
        yield Path(os.environ["LUIGI_CONFIG_PATH"])


def _has_section(path: Path) -> bool:
    try:
        return _MIRROR_SECTION.search(path.read_bytes()) is not None
    except OSError:
        return False
