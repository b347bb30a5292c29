"""Volumes: products on disks of their own (docs/on-disk.md, "volumes").

What is on disk are links, which the holder of the update lock makes from ``mirror.volumes``: for a product P
on the volume V, ``volumes/P`` leads to ``V/P``, and ``store/P`` and ``incoming/P`` to folders in it. So a
fileset is renamed within one file system, and markers hold paths below the root, wherever a disk is mounted.

The links decide: a product stays on its volume when the setting is taken away.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Settings
from pipeline.durable import flush_folder, make_folder, write_whole
from pipeline.errors import SettingsError, machine_faults
from pipeline.mirror.resources.file_systems import is_reachable
from pipeline.mirror.state.layout import Layout
from pipeline.mirror.state.root_format import mirror_id

# Folders of a product on its volume, all of which are there before the first link is made.
_FOLDERS = ("store", "incoming", "data")


def check_volumes(layout: Layout, settings: Settings) -> None:
    """Check that all volumes are mounted and writable, and that each known product is where it belongs.

    Nothing is written for the check. Raises SettingsError, or MachineFault when the folders cannot be read.
    """
    with machine_faults("looking for the volumes of the mirror"):
        for problem in volume_problems(layout, settings):
            raise SettingsError(f"{problem} Nothing was started.")


def place_products(layout: Layout, settings: Settings, products: Iterable[str]) -> None:
    """Make the links of those of the products that have a volume. For the holder of the update lock.

    Killed at any instant, it goes on at the next call. Raises SettingsError where a product cannot be placed,
    MachineFault.
    """
    with machine_faults("placing products on their volumes"):
        for product in products:
            if problem := product_problem(layout, settings, product):
                raise SettingsError(f"{problem} Nothing was started.")
            if folder := product_folder(layout, settings, product):
                _Placement(layout, product, folder).make()


def volume_problems(layout: Layout, settings: Settings, products: Iterable[str] = ()) -> Iterator[str]:
    """Yield a sentence for each volume, and each product, because of which no run can begin.

    A product that the settings do not name may lie elsewhere than its volume: nothing comes to it. Of
    ``products`` nothing may be known yet.
    """
    volumes = settings.mirror.volumes.values()
    unmounted = {volume.path for volume in volumes if not is_reachable(volume.path)}
    for path in sorted(unmounted):
        yield _not_mounted(path, path, "mirror.volumes")
    named = settings.mirror.products
    known = layout.state_products() if named is None else [product.name for product in named]
    for product in sorted({*layout.products_on_volumes(), *(known if volumes else ()), *products}):
        volume = settings.mirror.volume(product)
        if volume is None or volume.path not in unmounted:
            problem = product_problem(layout, settings, product)
            yield from [problem] if problem else []


def product_problem(layout: Layout, settings: Settings, product: str) -> str | None:
    """Return why nothing can be written for the product, as a sentence; None if nothing is wrong."""
    folder = product_folder(layout, settings, product)
    if folder is None:
        return None
    volume, link = settings.mirror.volume(product), layout.volume(product)
    if volume and link.is_symlink() and not _is_same(link, volume.path / product):
        return (
            f"product {product}: expected it in {volume.path / product} (mirror.volumes), the link {link} "
            f"leads to {folder}. Correct the setting; or, while no update runs, copy that folder there and "
            "let the link lead to the copy."
        )
    placement = _Placement(layout, product, folder)
    try:
        return placement.problem()
    except OSError as error:
        return (
            f"the volume {folder.parent} cannot be read: {error.strerror} at {error.filename} (product "
            f"{product}). See what is wrong with the disk, or with the rights of its folders."
        )


def product_folder(layout: Layout, settings: Settings, product: str) -> Path | None:
    """Return the product's folder on its volume, where it lies or will lie; None for one without a volume."""
    link = layout.volume(product)
    if link.is_symlink():
        return link.parent / link.readlink()
    volume = settings.mirror.volume(product)
    return volume.path / product if volume else None


def volume_of(layout: Layout, settings: Settings, product: str) -> Path | None:
    """Return the volume on which the product lies or will lie; None for one without a volume."""
    folder = product_folder(layout, settings, product)
    return folder and folder.parent


@dataclass(frozen=True)
class _Placement:
    """Product that lies, or will lie, in ``folder`` on its volume."""

    layout: Layout
    product: str
    folder: Path

    def problem(self) -> str | None:
        """Return why nothing can be written for the product; None if nothing is wrong."""
        is_placed = self.layout.volume(self.product).is_symlink()
        needed = [self.folder / name for name in _FOLDERS] if is_placed else [self.folder.parent]
        for path in needed:
            if not is_reachable(path):
                return _not_mounted(self.folder.parent, path, f"product {self.product}")
            if not self._is_writable(path):
                return (
                    f"the volume {self.folder.parent} is mounted read-only, or belongs to another user: "
                    f"expected that {path} can be written, for product {self.product}. Mount it for "
                    "writing, or give the user that runs the mirror the right to write there."
                )
        if Path(os.path.realpath(self.layout.root)).is_relative_to(os.path.realpath(self.folder)):
            return f"product {self.product}: expected a volume beside {self.layout.root}, got {self.folder}."
        return self._of_another_mirror() or self._in_the_way()

    def _is_writable(self, path: Path) -> bool:
        """Return True if a run can write to the folder; a user who only reads the mirror begins no run."""
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return False
        return os.access(path, os.W_OK | os.X_OK) or not os.access(self.layout.root, os.W_OK)

    def make(self) -> None:
        """Make the folders and the links that are missing, each flushed. Raises OSError."""
        links = self._links()
        missing = [path for path in links if not path.is_symlink()]
        if missing:
            for name in _FOLDERS:
                make_folder(self.folder / name)
            write_whole(self._owner, f"{mirror_id(self.layout)}\n".encode())
        # Before the first link: an empty store/P beside a link incoming/P would lie on another file system.
        for path in missing:
            if path.is_dir():
                path.rmdir()
                flush_folder(path.parent)
        for path in missing:
            make_folder(path.parent)
            path.symlink_to(links[path])
            flush_folder(path.parent)

    @property
    def _owner(self) -> Path:
        """File with the id of the mirror that the folder belongs to."""
        return self.folder / "mirror.id"

    def _of_another_mirror(self) -> str | None:
        """Return the sentence on a folder of another mirror, which must not be written to by two."""
        owner = self._owner.read_bytes().decode(errors="replace").strip() if self._owner.is_file() else ""
        # Empty where the disk of the root was too full for an id, when the links were made.
        if owner in ("", mirror_id(self.layout)):
            return None
        return (
            f"product {self.product}: {self.folder} belongs to mirror {owner}, as {self._owner} says; "
            f"expected a folder of the mirror at {self.layout.root}. Name another volume, or delete that "
            "file if the other mirror is no more."
        )

    def _links(self) -> dict[Path, Path]:
        """Return where each link leads. Those in the root are relative, so that the root can be moved."""
        links = {self.layout.volume(self.product): self.folder}
        for path in (self.layout.incoming_of(self.product), self.layout.store_of(self.product)):
            target = self.layout.volume(self.product) / path.parent.name
            is_elsewhere = path.parent.is_symlink()
            links[path] = target if is_elsewhere else Path("..") / target.relative_to(self.layout.root)
        return links

    def _in_the_way(self) -> str | None:
        """Return the sentence on what is in the place of a link; None if nothing is."""
        for path, link in self._links().items():
            target = self.folder if link == self.folder else self.folder / path.parent.name
            is_made = path.is_symlink() and (path.readlink() == link or _is_same(path, target))
            if os.path.lexists(path) and not is_made and not _is_empty(path):
                return (
                    f"product {self.product}: expected nothing at {path}, or a link to {target} "
                    f"(mirror.volumes), found {_found(path)}. While neither an update nor `ipp-mirror serve` "
                    "runs, move the files there and remove it."
                )
        return None


def _not_mounted(volume: Path, path: Path, source: str) -> str:
    return (
        f"the volume {volume} is not mounted: expected the folder {path} ({source}), found "
        f"{_found(path)}. Mount the disk, or correct the setting or the link."
    )


def _found(path: Path) -> str:
    try:
        if path.is_symlink():
            return f"a link to {path.readlink()}"
        if path.is_dir():
            return "a folder with content"
        return "a file" if path.exists() else "nothing"
    except OSError as error:
        return str(error.strerror)


def _is_same(path: Path, target: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(target)


def _is_empty(path: Path) -> bool:
    """Return True for an empty folder that is no link."""
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())
