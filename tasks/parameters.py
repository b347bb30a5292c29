"""Parameters of tasks: names, a row of a listing, and a folder that is adopted, as text and back."""

import json
from pathlib import Path

import luigi

from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.steps.adopt import AdoptedFolder, TakeOver


class ProductNames(luigi.Parameter[tuple[str, ...]]):
    """Names of products, separated by commas."""

    def parse(self, text: str) -> tuple[str, ...]:
        """Return the names in ``a,b``."""
        return tuple(name.strip() for name in text.split(",") if name.strip())

    def serialize(self, names: tuple[str, ...]) -> str:
        """Return the names as ``a,b``."""
        return ",".join(names)


class FilesetNames(luigi.Parameter[tuple[str, ...]]):
    """Names of filesets, or shell patterns of names, as a JSON list."""

    def parse(self, text: str) -> tuple[str, ...]:
        """Return the names in ``["a", "b"]``."""
        return tuple(json.loads(text))

    def serialize(self, names: tuple[str, ...]) -> str:
        """Return the names as ``["a", "b"]``."""
        return json.dumps(names)


class ListingRow(luigi.Parameter[FilesetRow | None]):
    """Row of a product's listing, with the names of its columns; None where the row is not at hand."""

    def parse(self, text: str) -> FilesetRow | None:
        """Return the row in a JSON list of columns and values."""
        if not text:
            return None
        columns, fields = json.loads(text)
        return FilesetRow(fields[0], fields[1], fields[2], tuple(columns), tuple(fields))

    def serialize(self, row: FilesetRow | None) -> str:
        """Return the row as a JSON list of columns and values."""
        return json.dumps([row.columns, row.fields]) if row else ""


class AdoptedFolderParameter(luigi.Parameter[AdoptedFolder | None]):
    """Folder from which files are taken over, and in which way; None for a download of all."""

    def parse(self, text: str) -> AdoptedFolder | None:
        """Return the folder in ``WAY:PATH``."""
        by, _, path = text.partition(":")
        return AdoptedFolder(Path(path), TakeOver(by)) if text else None

    def serialize(self, folder: AdoptedFolder | None) -> str:
        """Return the folder as ``WAY:PATH``."""
        return f"{folder.by}:{folder.path}" if folder else ""
