"""``mirror.yaml`` as typed, validated settings, and the only place of their defaults.

Any mistake is a SettingsError with the file, the line, the expected value and the one found.
Sizes are bytes, rates bytes per second, times seconds; ``pipeline.units`` reads ``20 GB`` and ``50 MB/s``.
"""

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from pipeline.config.rates import RateSetting
from pipeline.config.values import (
    Addresses,
    Bytes,
    BytesPerSecond,
    Command,
    FilesetName,
    Folder,
    Order,
    Patterns,
    Priority,
    ProductName,
    Radius,
    Root,
    Seconds,
    Section,
    Span,
    Timeout,
    Utc,
    absolute,
    alternatives,
    data_store_address,
    within,
)
from pipeline.terms import position


class Source(Section):
    """Section ``source``: the Data Store, and the load that requests may put on it."""

    url: Annotated[str, AfterValidator(data_store_address)]
    hidden_products: list[ProductName] = Field(default_factory=list)
    connections: Annotated[int, within(int, 1, 256)] = 16
    timeout: Timeout = 60.0
    least_speed: BytesPerSecond = 1000
    attempts: Annotated[int, within(int, 1, 100)] = 4
    retry_pause: Seconds = 1.0
    rate_limit: RateSetting = None


class Near(Section):
    """Cone on the sky (ICRS), in degrees.

    ``ra`` and ``dec`` may be written as ``10:42:44.3`` (hours) and ``+41:16:09`` too.
    """

    ra: float
    dec: float
    radius: Radius

    @model_validator(mode="before")
    @classmethod
    def _position(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not {"ra", "dec"} <= value.keys():
            return value
        ra, dec = position(f"{value['ra']} {value['dec']}")
        return {**value, "ra": ra, "dec": dec}


class Select(Section):
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


class Product(Section):
    """Product to mirror: the filesets that one of the items of ``select`` describes; all of them for None.

    ``begin_after`` is a fileset of the listing: that one and those registered before it are not selected.
    ``order`` None stands for that of the mirror. ``components`` and ``files`` are shell patterns of the files
    that are fetched, ``members`` of the paths in bundles that are unpacked; None for all.
    """

    name: ProductName
    select: Annotated[list[Select] | None, BeforeValidator(alternatives)] = None
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


class Volume(Section):
    """Disk of its own for some products: ``path`` is a folder on it, with a folder for each of them.

    ``min_free`` None stands for that of the mirror.
    """

    path: Folder
    min_free: Bytes | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class Mirror(Section):
    """Section ``mirror``: the folder and the content of the mirror.

    ``products`` None stands for all products that the root of the Data Store lists, and the hidden ones.
    ``volumes`` are named by product, or shell pattern of products; the first that matches holds.
    """

    root: Root
    must_exist: bool = False
    products: Annotated[list[Product], Field(min_length=1)] | None = None
    order: Order = "oldest"
    unpack: bool = True
    keep_bundles: bool = True
    on_removed: Literal["keep", "delete"] = "keep"
    min_free: Bytes = 0
    volumes: dict[str, Volume] = Field(default_factory=dict)
    retry_every_run: Annotated[int, within(int, 1)] = 5
    delete_at_most: Annotated[float, within(float, 0, 1)] = 0.1
    unpack_ratio: Annotated[int, within(int, 1)] = 200
    page: bool = True

    @field_validator("products")
    @classmethod
    def _each_once(cls, products: list[Product] | None) -> list[Product] | None:
        names = [product.name for product in products or []]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(
                f"expected each product once, got {', '.join(map(repr, sorted(repeated)))} more than once"
            )
        return products

    @field_validator("volumes")
    @classmethod
    def _beside_the_root(cls, volumes: dict[str, Volume], info: ValidationInfo) -> dict[str, Volume]:
        for pattern, volume in volumes.items():
            if not pattern or "/" in pattern:
                raise ValueError(f"expected names of products, or shell patterns of them, got {pattern!r}")
            root = info.data.get("root")
            if root and Path(os.path.realpath(volume.path)).is_relative_to(os.path.realpath(root)):
                raise ValueError(f"expected folders outside mirror.root, got {volume.path} for {pattern!r}")
        return volumes

    def volume(self, product: str) -> Volume | None:
        """Return the volume on which the product is placed; None for one in the root folder."""
        found = (volume for pattern, volume in self.volumes.items() if fnmatchcase(product, pattern))
        return next(found, None)


class Catalog(Section):
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
        scheme, _, rest = url.partition(":///")
        path, mark, parameters = rest.partition("?")
        if scheme != "sqlite" or not Path(path).name:
            # The address may hold a password.
            raise ValueError(
                "expected sqlite:///PATH, postgresql://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE, got "
                "another kind of address"
            )
        return f"sqlite:///{absolute(path, info.context or Path.cwd())}{mark}{parameters}"

    @property
    def is_file(self) -> bool:
        """True for SQLite, to whose file the processes of one host may write."""
        return self.url is None or self.url.startswith("sqlite:")


class Notify(Section):
    """Section ``notify``: messages through Apprise to ``urls``, and commands that are run.

    ``on_complete`` gets the paths of a fileset that was completed, ``on_run`` the summary of a run as JSON.
    """

    urls: Addresses = Field(default_factory=list)
    on_complete: Command | None = None
    on_run: Command | None = None

    @field_serializer("urls")
    def _masked(self, urls: list[str]) -> list[str]:
        return [url.partition("://")[0] for url in urls]

    @property
    def is_enabled(self) -> bool:
        """True if anything is to be sent or run."""
        return bool(self.urls or self.on_complete or self.on_run)


class Settings(Section):
    """Content of ``mirror.yaml``."""

    source: Source
    mirror: Mirror
    catalog: Catalog = Catalog()
    notify: Notify = Notify()

    def is_configured(self, product: str) -> bool:
        """Return True for a product that ``mirror.products`` names, and for each where it names none."""
        products = self.mirror.products
        return products is None or any(each.name == product for each in products)

    def product(self, name: str) -> Product:
        """Return the settings of a product: defaults for one that ``mirror.products`` does not name."""
        named = (product for product in self.mirror.products or [] if product.name == name)
        product = next(named, None) or Product(name=name)
        return product if product.order else product.model_copy(update={"order": self.mirror.order})
