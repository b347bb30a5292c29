"""Publication of a site's own files: products with filesets, in a folder that is served as a Data Store.

The folder is a publisher's tree: ``[PRODUCT/[FILESET/]]index.txt`` and the files. A fileset becomes visible
by one rename, with all of its files on the disk, before a listing names it; a listing is replaced in one
step. A fileset that is withdrawn leaves its listing first. So the folder can be served meanwhile, and a
command that was killed has either done its work or can be given again.
"""

import fcntl
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path

from pipeline.datastore.listing import (
    ENCODING,
    INDEX,
    FilesetRow,
    ProductRow,
    read_filesets,
    read_products,
    registered_time,
    write_filesets,
    write_products,
)
from pipeline.durable import flush, flush_folder, make_folder, publish_folder, write_whole
from pipeline.errors import HostileName, SettingsError
from pipeline.names import checked_segment
from pipeline.near_names import did_you_mean

PRODUCT_TYPES = (
    *("ipp-misc", "image", "table", "dump", "ipp-dist", "psrequest", "psresults", "dqresults"),
    *("IPP-MOPS", "IPP-PSPS"),
)
"""Types of products that readers know; they drop others (protocol notes, "Answers")."""

_COLUMNS = ("filesetID", "time registered", "type")
# Not IPP-DIST, which readers would take for a distribution of the pipeline, with dirinfo and bundles.
_FILESET_TYPE = "notset"
_FILE_TYPES = {
    "fits": (".fits", ".fits.gz", ".fits.fz", ".fit", ".cmf", ".smf"),
    "tgz": (".tgz", ".tar.gz"),
    "table": (".csv", ".tbl", ".dat"),
    "xml": (".xml", ".vot"),
}
_OTHER_FILE_TYPE = "text"
# Hidden names, which are not served.
_UNFINISHED = ".unfinished"
_LOCK = ".lock"
_CHUNK_BYTES = 1 << 20


class Publisher:
    """Products of a site's own in a folder, which need not exist. One process at a time changes them.

    All methods raise SettingsError for what cannot be done, and OSError of the disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def products(self) -> list[ProductRow]:
        """Return the products, in the order in which they were added."""
        path = self.folder / INDEX
        return read_products(path.read_bytes(), str(path)) if path.exists() else []

    def filesets(self, product: str) -> list[FilesetRow]:
        """Return the filesets of a product, oldest registration first."""
        self._row(product)
        path = self.folder / product / INDEX
        return read_filesets(path.read_bytes(), str(path)) if path.exists() else []

    def add_product(self, name: str, type: str, description: str) -> None:
        """Add an empty product."""
        _check_name(name, "product")
        if not (description.isascii() and description.isprintable()) or set("|#") & set(description):
            raise SettingsError(
                f"expected a description in printable ASCII without '|' and '#', got {description!r}. "
                "Nothing was added."
            )
        with self._locked():
            if any(row.name == name for row in self.products()):
                raise SettingsError(f"product {name!r} is there already. Nothing was changed.")
            make_folder(self.folder / name)
            write_whole(self.folder / name / INDEX, write_filesets([]))
            time = _as_registered(datetime.now(UTC))
            row = ProductRow(name, None, time, type, " ".join(description.split()) or name)
            self._write_products([*self.products(), row])

    def remove_product(self, name: str) -> None:
        """Remove a product that has no filesets."""
        with self._locked(name):
            if rows := self.filesets(name):
                raise SettingsError(
                    f"expected a product without filesets, got {name!r} with {len(rows)}, among them "
                    f"{rows[-1].name!r}. Withdraw them first; nothing was removed."
                )
            _remove_folder(self.folder / name)
            self._write_products(row for row in self.products() if row.name != name)

    def publish(self, product: str, fileset: str, files: Sequence[Path]) -> tuple[FilesetRow, int]:
        """Publish copies of the files as a fileset; return its row and its bytes.

        The time of registration is later than that of any other fileset of the product, also of one that was
        withdrawn: a reader sees that a fileset of a known name is another one.
        """
        _check_name(fileset, "fileset")
        _check_files(files)
        with self._locked(product):
            known, rows = self._row(product), self.filesets(product)
            if any(row.name == fileset for row in rows):
                raise SettingsError(
                    f"fileset {product}/{fileset} is published already. Withdraw it first, or choose another "
                    "name; nothing was changed."
                )
            now, last = datetime.now(UTC), registered_time(known.registered)
            time = _as_registered(max(now, last + timedelta(seconds=1)) if last else now)
            size = self._publish_files(self.folder / product / fileset, files)
            row = FilesetRow(fileset, time, _FILESET_TYPE, _COLUMNS, (fileset, time, _FILESET_TYPE))
            # First, so that no time is given twice.
            self._replace_product(replace(known, most_recent=fileset, registered=time))
            write_whole(self.folder / product / INDEX, write_filesets([*rows, row]))
        return row, size

    def withdraw(self, product: str, fileset: str) -> None:
        """Withdraw a fileset: its row first, then its files."""
        _check_name(fileset, "fileset")
        with self._locked(product):
            known, rows = self._row(product), self.filesets(product)
            left = [row for row in rows if row.name != fileset]
            folder = self.folder / product / fileset
            if len(left) == len(rows) and not folder.is_dir():
                meant = did_you_mean(fileset, [row.name for row in rows])
                raise SettingsError(
                    f"expected a fileset of product {product!r}, which has {len(rows)}, got {fileset!r}."
                    f"{meant} Nothing was changed."
                )
            write_whole(self.folder / product / INDEX, write_filesets(left))
            self._replace_product(replace(known, most_recent=left[-1].name if left else None))
            _remove_folder(folder)

    @contextmanager
    def _locked(self, product: str | None = None) -> Iterator[None]:
        """Hold the lock of the folder; wait for another process that holds it.

        Nothing is made where a ``product`` is not there. Raises SettingsError.
        """
        if product is not None:
            self._row(product)
        make_folder(self.folder)
        with open(self.folder / _LOCK, "a", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _row(self, product: str) -> ProductRow:
        rows = self.products()
        for row in rows:
            if row.name == product:
                return row
        names = [row.name for row in rows]
        advice = (
            did_you_mean(product, names) or f" Add it with: ipp-mirror product add {shlex.quote(product)}"
        )
        raise SettingsError(
            f"expected a product of this site's own ({', '.join(names) or 'none'}), got "
            f"{product!r}. Nothing was changed.{advice}"
        )

    def _replace_product(self, changed: ProductRow) -> None:
        self._write_products(changed if row.name == changed.name else row for row in self.products())

    def _write_products(self, rows: Iterable[ProductRow]) -> None:
        write_whole(self.folder / INDEX, write_products(rows))

    def _publish_files(self, folder: Path, files: Sequence[Path]) -> int:
        """Make the folder of a fileset, with copies of the files and their listing; return the files' bytes.

        A folder that is there was left by a command that was killed, and is replaced.
        """
        new = folder.with_name(_UNFINISHED)
        shutil.rmtree(new, ignore_errors=True)
        make_folder(new)
        try:
            copied = {file.name: _copy(file, new / file.name) for file in files}
            lines = [f"{name}|{size}|{digest}|{_type_of(name)}|" for name, (size, digest) in copied.items()]
            listing = "\n".join(["# fileID|bytes|md5sum|type|", *lines, ""])
            write_whole(new / INDEX, listing.encode(ENCODING))
            publish_folder(new, folder)
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return sum(size for size, _ in copied.values())


def _copy(source: Path, target: Path) -> tuple[int, str]:
    """Copy a file to the disk; return the size and the md5 of what was copied."""
    digest, size = md5(usedforsecurity=False), 0
    with open(source, "rb") as read, open(target, "xb") as written:
        while chunk := read.read(_CHUNK_BYTES):
            digest.update(chunk)
            written.write(chunk)
            size += len(chunk)
        written.flush()
        flush(written.fileno())
    return size, digest.hexdigest()


def _remove_folder(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
        flush_folder(folder.parent)


def _check_files(files: Sequence[Path]) -> None:
    """Raise SettingsError unless each is a regular file with a name of its own that can be published."""
    names: set[str] = set()
    for file in files:
        _check_name(file.name, "file")
        if not file.is_file():
            raise SettingsError(f"expected a file to publish, got {file}. Nothing was published.")
        if file.name in names:
            raise SettingsError(
                f"expected files with names of their own, got two with that of {file}. Nothing was published."
            )
        names.add(file.name)


def _check_name(name: str, what: str) -> None:
    """Raise SettingsError for a name that not all readers can request (protocol notes, "Names")."""
    try:
        checked_segment(name, what)
    except HostileName as error:
        raise SettingsError(f"{error}. Nothing was changed.") from None
    if " " in name or name.startswith(".") or name == INDEX:
        raise SettingsError(
            f"{what}: expected a name without blanks that does not begin with a dot and is not {INDEX}, "
            f"got {name!r}. Nothing was changed."
        )


def _type_of(name: str) -> str:
    ends = ((type, end) for type, ends in _FILE_TYPES.items() for end in ends)
    return next((type for type, end in ends if name.lower().endswith(end)), _OTHER_FILE_TYPE)


def _as_registered(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
