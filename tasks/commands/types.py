"""Types of options and arguments, whose errors say what is expected and what came."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from pipeline.near_names import did_you_mean


def is_folder(path: str | Path) -> bool:
    """Return True for a folder; False where that cannot be found out, too."""
    with suppress(OSError):
        return Path(path).is_dir()
    return False


class Integer(click.IntRange):
    """Whole number within bounds."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number. Raises click.BadParameter."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            bounds = f"of at least {self.min}" if self.max is None else f"from {self.min} to {self.max}"
            self.fail(f"expected a whole number {bounds}, got {value!r}", param, ctx)


class Word(click.Choice[str]):
    """One of some words."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return the words, and the nearest one."""
        return f"expected {self._words()}, got {value!r}.{did_you_mean(str(value), self.choices)}"

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        """Return the words."""
        return f"Expected {self._words()}"

    def _words(self) -> str:
        *others, last = self.choices
        return f"{', '.join(others)} or {last}" if others else last


class Text(click.types.StringParamType):
    """Text that is not empty: in a script, an empty variable would stand for something else."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text. Raises click.BadParameter, also for bytes that are no text."""
        if value == "":
            self.fail("expected a text, got an empty one", param, ctx)
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail(f"expected a text, got {value!r}", param, ctx)
        return super().convert(value, param, ctx)


class AnyPath(click.Path):
    """Path that is not empty, which would be the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises click.BadParameter."""
        if value == "":
            self.fail("expected a path, got an empty text", param, ctx)
        return super().convert(value, param, ctx)


class NewFile(AnyPath):
    """Path of a file that is written: there may be one, but no folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises click.BadParameter for a folder."""
        if is_folder(value):
            self.fail(f"expected the path of a file, got the folder {str(value)!r}", param, ctx)
        return super().convert(value, param, ctx)
