"""Section ``[mirror]`` of ``luigi.cfg``."""

import configparser
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import luigi
from luigi.parameter import ParameterException, UnconsumedParameterWarning

from pipeline.errors import SettingsError
from pipeline.near_names import did_you_mean

T = TypeVar("T", bound=luigi.Config)
QUIET, NORMAL, VERBOSE = "quiet", "normal", "verbose"
AUTO, NONE, PLAIN, BAR = "auto", "none", "plain", "bar"


class _Word(luigi.ChoiceParameter):
    """One of some words, which a sentence on another one has in their order."""

    def __init__(self, *, choices: Sequence[str], default: str, description: str) -> None:
        super().__init__(choices=choices, default=default, description=description)
        self._words = choices

    def normalize(self, x: str) -> str:
        """Return the word. Raises ValueError for one that is none of them."""
        if x not in self._words:
            meant = did_you_mean(x, self._words)
            raise ValueError(f"expected one of {', '.join(self._words)}, got {x!r}{meant and '.'}{meant}")
        return x


class mirror(luigi.Config):  # noqa: N801  (the section of luigi.cfg, and the prefix of --mirror-config)
    """Path of the settings of the mirror, and what a run shows on the console."""

    config = luigi.Parameter(default="mirror.yaml", description="path of the settings file, mirror.yaml")
    console = _Word(
        choices=(QUIET, NORMAL, VERBOSE),
        default=NORMAL,
        description="messages on the console: only what is wrong, failures and numbers, or all",
    )
    progress = _Word(
        choices=(AUTO, NONE, PLAIN, BAR),
        default=AUTO,
        description="progress on the console: none, a line now and then, or a bar; auto: a bar on a terminal",
    )


def checked_section(section: type[T]) -> T:
    """Return a section of Luigi's settings.

    Raises SettingsError for a wrong value, and for a name that ``[mirror]`` does not have; in other sections
    Luigi warns of that, as another version may have it.
    """
    name = section.get_task_family()
    action: Literal["error", "default"] = "error" if section is mirror else "default"
    try:
        with warnings.catch_warnings(action=action, category=UnconsumedParameterWarning):
            return section()
    except UnconsumedParameterWarning as warning:
        setting = str(warning).split("'")[1]
        meant = did_you_mean(setting, section.get_param_names(include_significant=True))
        problem = f"unknown setting {setting!r}.{meant}"
    except (ValueError, ParameterException, configparser.Error) as error:
        setting = re.sub(r".* default value of '(\w+)'.*|.*", r"\1", str(error), flags=re.DOTALL)
        problem = f"{setting}{': ' if setting else ''}{' '.join(str(error.__cause__ or error).split())}"
        problem = problem if problem.endswith("?") else f"{problem.rstrip('.')}."
    raise SettingsError(f"section [{name}] of luigi.cfg: {problem} Nothing was started.")


# Settings file of the command line. Its path is no value of Luigi's settings, where % and ${ have a meaning.
_named: list[Path] = []


def settings_file() -> Path:
    """Return the path of the settings file: that of the command line, else that of Luigi's settings."""
    return _named[0] if _named else Path(mirror().config)


def use_settings_file(path: Path) -> None:
    """Use this settings file in this process, whatever Luigi's settings name."""
    _named[:] = [path]


def use_settings(settings: Mapping[str, str]) -> None:
    """Override settings of the section, by their names, in this process."""
    for name, value in settings.items():
        luigi.configuration.get_config().set("mirror", name, value)
