"""dirinfo: the folders into which the components of a fileset unpack (protocol notes, "dirinfo")."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.bundle import mdc
from pipeline.errors import BundleUnusable, HostileName
from pipeline.names import checked_relative_path


@dataclass(frozen=True)
class DirInfo:
    """Folders of a fileset, relative to DATA; the paths are checked on construction.

    ``destdir`` is None for ``none`` in the document. ``components`` are folders below ``destdir``, by
    component; ``.`` is ``destdir`` itself. Raises HostileName for a path that would leave DATA.
    """

    destdir: str | None
    components: dict[str, str]

    def __post_init__(self) -> None:
        for component in self.components:
            self.folder(component)
        self.base()

    def base(self) -> str:
        """Return ``destdir`` as a path below DATA; empty for DATA itself."""
        return "" if self.destdir is None else checked_relative_path(self.destdir, "destdir")

    def folder(self, component: str) -> str:
        """Return the folder below DATA into which the archive of the component unpacks.

        Empty for DATA itself. Raises BundleUnusable for a component that dirinfo does not name.
        """
        if component not in self.components:
            raise BundleUnusable(
                f"dirinfo: expected a folder for component {component[:255]!r}, got one for each of "
                f"{_shown(self.components)} only; the component cannot be placed"
            )
        folder = self.components[component]
        if folder.rstrip("/") == ".":
            return self.base()
        folder = checked_relative_path(folder, f"folder of component {component[:255]}")
        return f"{self.base()}/{folder}".lstrip("/")

    def local_base(self, data: Path) -> str:
        """Return DATA/DESTDIR as an absolute path of this machine; DATA if ``destdir`` is None."""
        return str(data.absolute() / self.base())


def read_dirinfo(document: bytes, source: str) -> DirInfo:
    """Return the folders in a dirinfo document.

    Raises BundleUnusable for a document that is not a dirinfo, HostileName for a path that would leave DATA.
    """
    root = mdc.read(document, source)
    destdir = _text(_scope(root, "destdir", source), "destdir", source)
    named = _scope(root, "components", source)
    components = {entry.name: _text(named, entry.name, source) for entry in named.entries}
    try:
        return DirInfo(None if destdir == "none" else destdir, components)
    except HostileName as error:
        raise HostileName(f"{source}: {error}") from None


def localized_dirinfo(document: bytes, source: str, data: Path) -> bytes:
    """Return the document with ``destdir`` as an absolute path below ``data``; the rest stays byte for byte.

    Raises as ``read_dirinfo``.
    """
    base = read_dirinfo(document, source).local_base(data)

    def local(string: mdc.StringValue) -> str | None:
        return base if string.path == ("destdir",) and string.name == "destdir" else None

    return mdc.rewrite(document, source, local)


def _scope(root: mdc.Scope, name: str, source: str) -> mdc.Scope:
    scope = root.get(name)
    if not isinstance(scope, mdc.Scope):
        raise BundleUnusable(
            f"{source}: expected a METADATA scope {name!r}, got {scope!r}; nothing can be placed"
        )
    return scope


def _text(scope: mdc.Scope, name: str, source: str) -> str:
    value = scope.get(name)
    if not isinstance(value, str):
        raise BundleUnusable(
            f"{source}: expected a STR path under {name!r}, got {value!r}; nothing can be placed"
        )
    return value


def _shown(components: dict[str, str]) -> str:
    names = ", ".join(list(components)[:5])
    return f"{names}, …" if len(components) > 5 else names or "no component"
