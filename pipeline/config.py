"""``mirror.yaml`` as typed, validated settings, and the only place of their defaults.

Any mistake is a SettingsError with the file, the line, the expected value and the one found.
Sizes are bytes, rates bytes per second, times seconds; ``pipeline.units`` reads ``20 GB`` and ``50 MB/s``.
"""

import os
import re
import shlex
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from itertools import chain
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
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from pipeline.errors import HostileName, SettingsError
from pipeline.names import checked_segment
from pipeline.terms import angle, checked_radius, position
from pipeline.units import parse_rate, parse_size, parse_span

_ADDRESS = re.compile(r"https?://[^/\\\s\x00-\x1f\x7f?#]+[^\\\s\x00-\x1f\x7f?#]*")
_HOURS = re.compile(r"(\d\d):([0-5]\d) ?- ?(\d\d):([0-5]\d)", re.ASCII)
_NOTIFIED = re.compile(r"[a-z][a-z0-9+.-]*://\S+|env:[A-Za-z_]\w*|file:[^/].*|file:/[^/].*", re.IGNORECASE)
_MOST_BYTES = 10**18
MINUTES_OF_DAY = 1440
HIGHEST_PRIORITY = 100


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


def _alternatives(value: Any) -> Any:
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


def _rate_limit(value: Any) -> "int | HourlyRates | None":
    if value is None:
        return None
    if not isinstance(value, dict):
        return _rate(value)
    rates = {key: _rate(rate) for key, rate in value.items()}
    default = rates.pop("default", None)
    hours = sorted((*_minutes(key), rate) for key, rate in rates.items())
    if not hours:
        raise ValueError("expected hours such as '08:00-18:00: 10 MB/s', or a rate alone")
    minutes = [minute for begin, end, _ in hours for minute in minutes_between(begin, end)]
    if len(minutes) > len(set(minutes)):
        raise ValueError("expected hours that do not overlap")
    return HourlyRates(hours=tuple(hours), default=default)


def _rate(value: Any) -> int:
    rate = parse_rate(value)
    if not 1 <= rate <= _MOST_BYTES:
        raise ValueError(f"expected greater than or equal to 1 and at most {_MOST_BYTES}")
    return rate


def _minutes(hours: Any) -> tuple[int, int]:
    """Return begin and end of ``08:00-18:00`` in minutes of the day."""
    match = _HOURS.fullmatch(hours.strip()) if isinstance(hours, str) else None
    begin, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (0, 0)
    if match is None or begin == end or max(begin, end) > MINUTES_OF_DAY:
        raise ValueError(f"expected hours such as 08:00-18:00, or default, got {hours!r}")
    return begin % MINUTES_OF_DAY, end


def minutes_between(begin: int, end: int) -> Iterable[int]:
    """Return the minutes of the day from ``begin`` to before ``end``, which may be on the next day."""
    return chain(range(begin, end)) if begin < end else chain(range(begin, MINUTES_OF_DAY), range(end))


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(_ADDRESS.fullmatch(url) and parts.hostname and parts.port != 0)
    except ValueError:
        return False


def _root(value: Any, info: ValidationInfo) -> Path:
    """Return the root as an absolute path.

    ``info.context`` is the folder of the settings file; None, as for settings that come from no file, stands
    for the current folder.
    """
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected the path of a folder")
    try:
        root = _without_parents((info.context or Path.cwd()) / Path(value).expanduser())
    except RuntimeError:
        raise ValueError("expected the path of a folder, and after '~' a user of this machine") from None
    text = str(root)
    if root == root.parent:
        raise ValueError("expected a folder for the mirror alone, got the root of the file system")
    if "#" in text or not text.isprintable():
        # No line of dirinfo, dbinfo and config dumps could hold the path (protocol notes, "Metadata Config").
        raise ValueError(f"expected a path without '#' and control characters, got {text!r}")
    return root


def _without_parents(path: Path) -> Path:
    """Return the path without ``..``; symbolic links are kept, except for those before a ``..``.

    The path of the root is written into documents: a link may lead to another disk later.
    """
    parents = [number for number, part in enumerate(path.parts) if part == ".."]
    end = parents[-1] + 1 if parents else 0
    return Path(os.path.realpath(Path(*path.parts[:end])), *path.parts[end:]) if end else path


def _folder_of(file: Path) -> Path:
    """Return the absolute path of the folder of a file; that of its target for a symbolic link."""
    return _without_parents(file.resolve() if file.is_symlink() else Path.cwd() / file).parent


Bytes = Annotated[int, BeforeValidator(parse_size), Field(ge=0, le=_MOST_BYTES)]
BytesPerSecond = Annotated[int, BeforeValidator(parse_rate), Field(ge=1, le=_MOST_BYTES)]
Span = Annotated[timedelta, BeforeValidator(parse_span), Field(ge=timedelta(hours=1))]
Utc = Annotated[datetime, BeforeValidator(_utc)]
Patterns = Annotated[list[str], BeforeValidator(_patterns)]
ProductName = Annotated[str, BeforeValidator(_product_name)]
FilesetName = Annotated[str, BeforeValidator(_fileset_name)]
Priority = Annotated[int, Field(ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY)]
Order = Literal["oldest", "newest"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class HourlyRates(_Section):
    """Bytes per second by the time of day, in the local time of the host.

    ``hours`` are begin and end in minutes of the day, and the rate between them; at all other times
    ``default``, without a limit for None.
    """

    hours: tuple[tuple[int, int, int], ...]
    default: int | None = None

    def by_minute(self) -> list[int | None]:
        """Return the rate in each minute of the day."""
        rates = [self.default] * MINUTES_OF_DAY
        for begin, end, rate in self.hours:
            for minute in minutes_between(begin, end):
                rates[minute] = rate
        return rates


class Source(_Section):
    """Section ``source``: the Data Store, and the load that requests may put on it."""

    url: str
    hidden_products: list[ProductName] = []
    connections: Annotated[int, Field(ge=1, le=256)] = 16
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    least_speed: BytesPerSecond = 1000
    attempts: Annotated[int, Field(ge=1, le=100)] = 4
    retry_pause: Annotated[float, Field(ge=0)] = 1.0
    rate_limit: Annotated[int | HourlyRates | None, BeforeValidator(_rate_limit)] = None

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        if not _is_address(url):
            raise ValueError("expected the http or https address of a Data Store, without '?' or '#'")
        if "@" in urlsplit(url).netloc:
            # Messages and markers repeat the address.
            raise ValueError("expected no user name and password, which belong in ~/.netrc, got some")
        return url.rstrip("/")


class Near(_Section):
    """Cone on the sky (ICRS), in degrees.

    ``ra`` and ``dec`` may be written as ``10:42:44.3`` (hours) and ``+41:16:09`` too.
    """

    ra: float
    dec: float
    radius: Annotated[float, BeforeValidator(_radius)]

    @model_validator(mode="before")
    @classmethod
    def _position(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not {"ra", "dec"} <= value.keys():
            return value
        ra, dec = position(f"{value['ra']} {value['dec']}")
        return {**value, "ra": ra, "dec": dec}


class Select(_Section):
    """Conditions on the filesets of a product, all of which must hold.

    ``keep`` is the age, by time of registration, from which a fileset is not selected any more, and is
    removed. ``priority`` None stands for that of the product. ``skycell`` are shell patterns of names of sky
    cells, ``near`` is a cone; ``clean`` False leaves out filesets without images, ``unknown`` False those of
    which these three cannot be told.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    __pydantic_extra__: dict[str, Patterns]
    priority: Priority | None = None
    keep: Span | None = None
    registered_after: Utc | None = None
    registered_before: Utc | None = None
    skycell: Patterns | None = None
    near: Near | None = None
    clean: bool = True
    unknown: bool = True

    @property
    def patterns(self) -> dict[str, list[str]]:
        """Shell patterns by the column of the listing that one of them has to match."""
        return self.__pydantic_extra__ or {}

    @property
    def by_sky(self) -> list[str]:
        """Names of the conditions that other filesets may be needed to decide."""
        conditions = {"skycell": self.skycell, "near": self.near, "clean": not self.clean}
        return [name for name, condition in conditions.items() if condition]


class Product(_Section):
    """Product to mirror: the filesets that one of the items of ``select`` describes; all of them for None.

    ``begin_after`` is a fileset of the listing: that one and those before it are not selected.
    ``order`` None stands for that of the mirror. ``components`` and ``files`` are shell patterns of the files
    that are fetched, ``members`` of the paths in bundles that are unpacked; None for all.
    """

    name: ProductName
    select: Annotated[list[Select] | None, BeforeValidator(_alternatives)] = None
    begin_after: FilesetName | None = None
    order: Order | None = None
    priority: Priority = 0
    components: Patterns | None = None
    files: Patterns | None = None
    members: Patterns | None = None

    @property
    def by_sky(self) -> list[str]:
        """Names of the conditions of its selections that other filesets may be needed to decide."""
        return list(dict.fromkeys(name for select in self.select or () for name in select.by_sky))

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Mirror(_Section):
    """Section ``mirror``: the folder and the content of the mirror.

    ``products`` None stands for all products that the root of the Data Store lists, and the hidden ones.
    """

    root: Annotated[Path, BeforeValidator(_root)]
    must_exist: bool = False
    products: Annotated[list[Product], Field(min_length=1)] | None = None
    order: Order = "oldest"
    unpack: bool = True
    keep_bundles: bool = True
    on_removed: Literal["keep", "delete"] = "keep"
    min_free: Bytes = 0
    retry_every_run: Annotated[int, Field(ge=1)] = 5
    delete_at_most: Annotated[float, Field(ge=0, le=1)] = 0.1
    unpack_ratio: Annotated[int, Field(ge=1)] = 200
    page: bool = True

    @field_validator("products")
    @classmethod
    def _each_once(cls, products: list[Product] | None) -> list[Product] | None:
        names = [product.name for product in products or []]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"expected each product once, got {', '.join(sorted(repeated))} several times")
        return products


class Catalog(_Section):
    """Section ``catalog``: the database of what the mirror holds.

    ``url`` None stands for an SQLite file in ``state/catalog/``. ``access_url`` is put before the paths of
    files in the view ``obscore``, ``publisher_did`` before the names in ``obs_publisher_did``. ``snapshot``
    asks for a copy of an SQLite catalog in ``status/`` after each run that changed it, ``coverage`` for maps
    and a picture of the sky that is covered.
    """

    enabled: bool = False
    url: Annotated[str, Field(min_length=1)] | None = None
    access_url: str | None = None
    publisher_did: str = "ivo://ipp-mirror"
    snapshot: bool = True
    coverage: bool = True

    @field_validator("url")
    @classmethod
    def _database(cls, url: str | None, info: ValidationInfo) -> str | None:
        """Return the address of the database; a relative path of a file is from the settings' folder."""
        if url is None or url.split(":")[0] in {"postgresql", "mysql", "mariadb"}:
            return url
        scheme, _, path = url.partition(":///")
        if scheme != "sqlite" or not path:
            # The address may hold a password.
            raise ValueError(
                "expected sqlite:///PATH, postgresql://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE, got "
                "another kind of address"
            )
        return f"sqlite:///{(info.context or Path.cwd()) / path}"

    @property
    def is_file(self) -> bool:
        """True for SQLite, to whose file the processes of one host may write."""
        return self.url is None or self.url.startswith("sqlite:")


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


Command = Annotated[str, BeforeValidator(_command)]


class Notify(_Section):
    """Section ``notify``: messages through Apprise to ``urls``, and commands that are run.

    ``on_complete`` gets the paths of a fileset that was completed, ``on_run`` the summary of a run as JSON.
    """

    urls: Annotated[list[str], BeforeValidator(_addresses)] = []
    on_complete: Command | None = None
    on_run: Command | None = None

    @field_serializer("urls")
    def _masked(self, urls: list[str]) -> list[str]:
        return [url.partition("://")[0] for url in urls]

    @property
    def is_wanted(self) -> bool:
        """True if anything is to be sent or run."""
        return bool(self.urls or self.on_complete or self.on_run)


class Settings(_Section):
    """Content of ``mirror.yaml``."""

    source: Source
    mirror: Mirror
    catalog: Catalog = Catalog()
    notify: Notify = Notify()

    def product(self, name: str) -> Product:
        """Return the settings of a product: defaults for one that ``mirror.products`` does not name."""
        named = (product for product in self.mirror.products or [] if product.name == name)
        product = next(named, None) or Product(name=name)
        return product if product.order else product.model_copy(update={"order": self.mirror.order})


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
    keys = _keys(node, [key for key in details["loc"] if key != "constrained-list"])
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
