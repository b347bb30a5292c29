"""Types of the settings: what each accepts, and the message for what it does not.

A value that is not accepted raises ValueError, which pydantic collects.
"""

import os
import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from pipeline.errors import HostileName
from pipeline.names import checked_segment
from pipeline.terms import angle, checked_radius
from pipeline.units import parse_rate, parse_size, parse_span

_ADDRESS = re.compile(r"https?://[^/\\\s\x00-\x1f\x7f?#]+[^\\\s\x00-\x1f\x7f?#]*")
_VARIABLE = re.compile(r"\$\{?[A-Za-z_]")
_NOTIFIED = re.compile(r"[a-z][a-z0-9+.-]*://\S+|env:[A-Za-z_]\w*|file:[^/].*|file:/[^/].*", re.IGNORECASE)
MOST_BYTES = 10**18
HIGHEST_PRIORITY = 100
_DAY = 86_400
_TIME_EXPECTED = "expected a date or a time such as 2009-08-01T00:00:00Z, in the years 1 to 9999 of UTC"
_Amount = TypeVar("_Amount", int, timedelta)


def _utc(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError(_TIME_EXPECTED)
    try:
        return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise ValueError(_TIME_EXPECTED) from None


def _patterns(value: Any) -> list[str]:
    patterns = value if isinstance(value, list) else [value]
    if not patterns or not all(
        isinstance(pattern, str | int) and not isinstance(pattern, bool) for pattern in patterns
    ):
        raise ValueError("expected a shell pattern or a list of them, as text")
    return [str(pattern) for pattern in patterns]


def alternatives(value: Any) -> Any:
    """Return a list: of one item for a value that is none. Raises ValueError for an empty list."""
    if value == []:
        raise ValueError("expected conditions, or a list of them; leave it out to select all filesets")
    return value if value is None or isinstance(value, list) else [value]


def _radius(value: Any) -> float:
    """Return the degrees of a number, or of a text such as ``30arcmin``. Raises ValueError."""
    if isinstance(value, str):
        return angle(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected an angle such as 1.5deg, 30arcmin or a number of degrees")
    return checked_radius(float(value))


def _product_name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected the name of a product")
    try:
        return checked_segment(value, "product name")
    except HostileName as error:
        raise ValueError(str(error)) from None


def _fileset_name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected the name of a fileset")
    try:
        return checked_segment(value, "fileset name")
    except HostileName as error:
        raise ValueError(str(error)) from None


def is_address(url: str) -> bool:
    """Return True for an http or https address."""
    try:
        parts = urlsplit(url)
        return bool(_ADDRESS.fullmatch(url) and parts.hostname and parts.port != 0)
    except ValueError:
        return False


def data_store_address(url: str) -> str:
    """Return the address of a Data Store without a slash or ``/index.txt`` at its end. Raises ValueError."""
    if not is_address(url):
        raise ValueError("expected the http or https address of a Data Store, without '?' or '#'")
    if "@" in urlsplit(url).netloc:
        # Messages and markers repeat the address.
        raise ValueError("expected no user name and password, which belong in ~/.netrc, got some")
    return url.rstrip("/").removesuffix("/index.txt")


def _folder(value: Any, info: ValidationInfo) -> Path:
    """Return an absolute path, of another folder than ``/``.

    ``info.context`` is the folder of the settings file; None, as for settings that come from no file, stands
    for the current folder.
    """
    return _folder_below(value, info.context or Path.cwd())


def _folder_below(value: Any, base: Path) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected the path of a folder")
    if _VARIABLE.search(value):
        # Else a folder of this name would be made beside the settings, and filled.
        raise ValueError("expected the path of a folder in full: '~' is replaced, variables are not")
    try:
        folder = without_parents(absolute(Path(value).expanduser(), base))
    except RuntimeError:
        raise ValueError("expected the path of a folder, and after '~' a user of this machine") from None
    if folder == folder.parent:
        raise ValueError("expected a folder for the mirror alone, got the root of the file system")
    return folder


def _root(value: Any, info: ValidationInfo) -> Path:
    return root_folder(value, info.context or Path.cwd())


def root_folder(value: Any, base: Path) -> Path:
    """Return the root as an absolute path; a relative one is taken from ``base``. Raises ValueError."""
    root = _folder_below(value, base)
    text = str(root)
    if "#" in text or not text.isprintable():
        # No line of dirinfo, dbinfo and config dumps could hold the path (protocol notes, "Metadata Config").
        raise ValueError(f"expected a path without '#' and control characters, got {text!r}")
    return root


def absolute(path: str | Path, base: Path) -> Path:
    """Return the path from the absolute ``base`` with one slash at its beginning.

    In the addresses of files that SQLite opens, the name of a host follows two slashes.
    """
    return Path("/", *(base / path).parts[1:])


def without_parents(path: Path) -> Path:
    """Return the path without ``..``; symbolic links are kept, except for those before a ``..``.

    The path of the root is written into documents: a link may lead to another disk later.
    """
    parents = [number for number, part in enumerate(path.parts) if part == ".."]
    end = parents[-1] + 1 if parents else 0
    return Path(os.path.realpath(Path(*path.parts[:end])), *path.parts[end:]) if end else path


def _addresses(value: Any) -> list[str]:
    """Return the addresses; no message has one, as an address may hold a password."""
    urls: list[Any] = value if isinstance(value, list) else [None]
    if not all(isinstance(url, str) and _NOTIFIED.fullmatch(url) for url in urls):
        raise ValueError(
            "expected a list of addresses of Apprise such as mailto://USER:PASSWORD@HOST, or env:VARIABLE or "
            "file:PATH with such an address, got something else"
        )
    return urls


def _command(value: Any) -> str:
    try:
        if isinstance(value, str) and shlex.split(value):
            return value
    except ValueError as error:
        problem = str(error).lower()
        raise ValueError(f"expected a command with its arguments, got one with {problem}") from None
    raise ValueError("expected a command with its arguments, as text")


def _bytes(value: Any) -> int:
    expected = "expected a size such as 20 GB, from 0 to 10^18 bytes"
    return _parsed(parse_size, value, 0, MOST_BYTES, expected)


def bytes_per_second(value: Any) -> int:
    """Return a rate in bytes per second. Raises ValueError."""
    expected = "expected a rate such as 50 MB/s, from 1 to 10^18 bytes per second"
    return _parsed(parse_rate, value, 1, MOST_BYTES, expected)


def _span(value: Any) -> timedelta:
    expected = "expected a duration such as 36 hours, 30 days or 8 weeks, from an hour to 5000 weeks"
    return _parsed(parse_span, value, timedelta(hours=1), timedelta(weeks=5000), expected)


def _parsed(
    parse: Callable[[Any], _Amount], value: Any, least: _Amount, most: _Amount, expected: str
) -> _Amount:
    """Return the amount; for all that is refused, one ValueError with the form and the bounds."""
    with suppress(ValueError):
        if least <= (amount := parse(value)) <= most:
            return amount
    raise ValueError(expected)


def within(
    kind: type[int] | type[float], least: float, most: float | None = None, unit: str = ""
) -> BeforeValidator:
    """Return a validator of numbers that names their bounds, both of which are allowed, and their unit."""
    noun = "a whole number" if kind is int else "a number"
    bounds = f" of at least {least}" if most is None else f" from {least} to {most}"
    expected = f"expected {noun}{bounds}{f' {unit}' if unit else ''}"

    def check(value: Any) -> Any:
        is_number = isinstance(value, kind | int) and not isinstance(value, bool)
        if not is_number or not least <= value or (most is not None and not value <= most):
            raise ValueError(expected)
        return value

    return BeforeValidator(check)


Bytes = Annotated[int, BeforeValidator(_bytes)]
BytesPerSecond = Annotated[int, BeforeValidator(bytes_per_second)]
Span = Annotated[timedelta, BeforeValidator(_span)]
Utc = Annotated[datetime, BeforeValidator(_utc)]
Patterns = Annotated[list[str], BeforeValidator(_patterns)]
ProductName = Annotated[str, BeforeValidator(_product_name)]
FilesetName = Annotated[str, BeforeValidator(_fileset_name)]
Priority = Annotated[int, within(int, -HIGHEST_PRIORITY, HIGHEST_PRIORITY)]
Seconds = Annotated[float, within(float, 0, _DAY, "seconds")]
Timeout = Annotated[float, within(float, 0.001, _DAY, "seconds")]
Order = Literal["oldest", "newest"]
Root = Annotated[Path, BeforeValidator(_root)]
Folder = Annotated[Path, BeforeValidator(_folder)]
Radius = Annotated[float, BeforeValidator(_radius)]
Addresses = Annotated[list[str], BeforeValidator(_addresses)]
Command = Annotated[str, BeforeValidator(_command)]


class Section(BaseModel):
    """Settings of one section: no others are accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
