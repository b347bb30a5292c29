"""``mirror.yaml`` as typed, validated settings.

Whatever is wrong is refused at once, naming the file, the line, what was expected and what came.
Sizes are bytes (``20 GB`` is 20·10⁹, ``20 GiB`` is 20·2³⁰), rates bytes per second, times seconds.
"""

import fnmatch
import os
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.datastore.listing import FilesetRow, registered_time
from pipeline.errors import HostileName, SettingsError
from pipeline.names import checked_segment

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(i?)B?", re.ASCII)
_ADDRESS = re.compile(r"https?://[^/\s?#]+[^\s?#]*")
_MOST_BYTES = 10**18
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


def _bytes(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a size such as 20 GB")
    number, power, binary = match.groups()
    return int(Decimal(number) * (1024 if binary else 1000) ** _POWERS[power])


def bytes_per_second(value: Any) -> int:
    """The rate in a text such as ``50 MB/s``. Raises ValueError saying what was expected."""
    if isinstance(value, str):
        value = value.strip().removesuffix("/s")
    try:
        return _bytes(value)
    except ValueError:
        raise ValueError("expected a rate such as 50 MB/s") from None


def _utc(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError("expected a date or a time such as 2009-08-01T00:00:00Z")
    try:
        return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise ValueError("expected a time between the years 1 and 9999 of UTC") from None


def _patterns(value: Any) -> list[str]:
    patterns = value if isinstance(value, list) else [value]
    if not patterns or not all(
        isinstance(pattern, str | int) and not isinstance(pattern, bool) for pattern in patterns
    ):
        raise ValueError("expected a shell pattern or a list of them, as text")
    return [str(pattern) for pattern in patterns]


def _product_name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected the name of a product")
    try:
        return checked_segment(value, "product name")
    except HostileName as error:
        raise ValueError(str(error)) from None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(_ADDRESS.fullmatch(url) and parts.hostname and parts.port != 0)
    except ValueError:
        return False


def _folder(value: Any) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected the path of a folder")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("expected the path of a folder, and after '~' a user of this machine") from None


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=0, le=_MOST_BYTES)]
BytesPerSecond = Annotated[int, BeforeValidator(bytes_per_second), Field(ge=1, le=_MOST_BYTES)]
Utc = Annotated[datetime, BeforeValidator(_utc)]
Patterns = Annotated[list[str], BeforeValidator(_patterns)]
ProductName = Annotated[str, BeforeValidator(_product_name)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Source(_Section):
    """Where the data comes from, and how gently it is asked."""

    url: str
    hidden_products: list[ProductName] = []
    connections: Annotated[int, Field(ge=1, le=256)] = 16
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    attempts: Annotated[int, Field(ge=1, le=100)] = 4
    retry_pause: Annotated[float, Field(ge=0)] = 1.0
    rate_limit: BytesPerSecond | None = None

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        if not _is_address(url):
            raise ValueError("expected the http or https address of a Data Store, without '?' or '#'")
        if "@" in urlsplit(url).netloc:
            # The address is told in messages and markers.
            raise ValueError("expected no user name and password, which belong in ~/.netrc, got some")
        return url.rstrip("/")


class Select(_Section):
    """Which filesets of a product are wanted: every key must match."""

    model_config = ConfigDict(extra="allow", frozen=True)

    __pydantic_extra__: dict[str, Patterns]
    registered_after: Utc | None = None
    registered_before: Utc | None = None

    def columns(self) -> set[str]:
        """The columns of the listing that are looked at."""
        return set(self.__pydantic_extra__ or {})

    def wants(self, row: FilesetRow) -> bool:
        """Whether the row is selected; a row that lacks a selected column, or its time, is not."""
        return self._in_time(row) and all(
            (value := row.column(column)) is not None
            and any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)
            for column, patterns in (self.__pydantic_extra__ or {}).items()
        )

    def _in_time(self, row: FilesetRow) -> bool:
        if self.registered_after is None and self.registered_before is None:
            return True
        registered = registered_time(row.registered)
        if registered is None:
            return False
        after, before = self.registered_after, self.registered_before
        return (after is None or registered >= after) and (before is None or registered < before)


class Product(_Section):
    """One product that is mirrored."""

    name: ProductName
    select: Select | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def wants(self, row: FilesetRow) -> bool:
        """Whether the settings ask for this fileset."""
        return self.select is None or self.select.wants(row)


class Mirror(_Section):
    """What is kept here, and where. ``products`` None: all that the root lists, and the hidden ones."""

    root: Annotated[Path, BeforeValidator(_folder)]
    products: Annotated[list[Product], Field(min_length=1)] | None = None
    unpack: bool = True
    keep_bundles: bool = True
    on_removed: Literal["keep", "delete"] = "keep"
    min_free: Bytes = 0
    retry_every_run: Annotated[int, Field(ge=1)] = 5
    delete_at_most: Annotated[float, Field(ge=0, le=1)] = 0.1
    unpack_ratio: Annotated[int, Field(ge=1)] = 200

    @field_validator("products")
    @classmethod
    def _each_once(cls, products: list[Product] | None) -> list[Product] | None:
        names = [product.name for product in products or []]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"expected each product once, got {', '.join(sorted(repeated))} several times")
        return products


class Settings(_Section):
    """All of ``mirror.yaml``."""

    source: Source
    mirror: Mirror

    def product(self, name: str) -> Product:
        """The settings of one product; those of a plain mention when it has none of its own."""
        for product in self.mirror.products or []:
            if product.name == name:
                return product
        return Product(name=name)


def read_settings(path: Path) -> Settings:
    """The settings in the YAML file at ``path``; a relative root is taken from the file's folder.

    Raises SettingsError with the line and what was expected there.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path}: expected a settings file here, got: {getattr(error, 'strerror', None) or error}. "
            "Name another with --mirror-config FILE or in luigi.cfg under [mirror]."
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: expected YAML, got: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: expected the sections 'source' and 'mirror', got {document!r}")
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError(_explained(error, path, node)) from None
    root = Path(os.path.realpath(path.resolve().parent / settings.mirror.root))
    return settings.model_copy(update={"mirror": settings.mirror.model_copy(update={"root": root})})


class _Loader(yaml.SafeLoader):
    """Refuses a name that stands twice, and names the place of what only looks like a date or a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"{key.value!r} stands there twice, expected once"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


_SAID = {
    "model_type": "expected settings of its own, as 'name: value' below it",
    "too_short": "expected at least one product; leave it out to mirror all of them",
}


def _explained(error: ValidationError, path: Path, node: yaml.Node) -> str:
    """One sentence for the first thing that is wrong, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    keys = [key for key in first["loc"] if key != "constrained-list"]
    place = ".".join(str(key) for key in keys)
    if first["type"] == "extra_forbidden":
        said = f"unknown setting {place!r}"
    elif first["type"] == "missing":
        said = f"missing setting {place!r}"
    else:
        message = _SAID.get(first["type"]) or first["msg"].removeprefix("Value error, ")
        message = message.replace("Input should be", "expected")
        said = f"{place}: {message}" if ", got " in message else f"{place}: {message}, got {first['input']!r}"
    more = f" ({len(problems) - 1} more after this one)" if len(problems) > 1 else ""
    return f"{path}, line {_line(node, keys)}: {said}{more}. Nothing was started."


def _line(node: yaml.Node, keys: list[str | int]) -> int:
    """The line on which the innermost of the keys that the document has stands, from 1."""
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
