"""dbinfo: the rows of a run in the sender's database, with local paths (protocol notes, "dbinfo")."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.bundle import mdc
from pipeline.bundle.dirinfo import DirInfo
from pipeline.errors import HostileName

EXPOSURE = "exposure"
"""The component of the camera stage, which has one for the whole exposure."""


@dataclass(frozen=True)
class RunTables:
    """The tables of one stage: that of runs, those of rows, and the column of a row that names its component.

    ``component_key`` None: the stage has one component only.
    """

    run: str
    stage: str
    rows: tuple[str, ...]
    component_key: str | None


RUN_TABLES = (
    RunTables("rawExp", "raw", ("rawImfile",), "class_id"),
    RunTables("chipRun", "chip", ("chipProcessedImfile",), "class_id"),
    RunTables("chipBackgroundRun", "chip_bg", ("chipBackgroundImfile",), "class_id"),
    RunTables("camRun", "camera", ("camProcessedExp",), None),
    RunTables("fakeRun", "fake", ("fakeProcessedImfile",), "class_id"),
    RunTables("warpRun", "warp", ("warpSkyfile", "warpSkyCellMap"), "skycell_id"),
    RunTables("warpBackgroundRun", "warp_bg", ("warpBackgroundSkyfile",), "skycell_id"),
    RunTables("diffRun", "diff", ("diffSkyfile", "diffInputSkyfile"), "skycell_id"),
    RunTables("stackRun", "stack", ("stackSumSkyfile", "stackInputSkyfile"), "skycell_id"),
    RunTables("staticskyRun", "sky", ("staticskyResult", "staticskyInput"), None),
    RunTables("skycalRun", "skycal", ("skycalResult",), None),
)

_TABLES = {name: tables for tables in RUN_TABLES for name in (tables.run, *tables.rows)}


def localized_dbinfo(document: bytes, source: str, dirinfo: DirInfo, data: Path) -> bytes:
    """The document with the sender's paths as absolute paths below ``data``; the rest stays byte for byte.

    In every row, ``workdir`` becomes DATA/DESTDIR; ``uri`` and ``path_base``, unless NULL or empty, become
    DATA/DESTDIR/COMPONENT_DIR and the last part of the old value; ``tess_id`` keeps its last part. The
    component of a row is, the first of these that there is:

    * ``exposure`` in a table of the camera stage;
    * what the row says in the key column of its table (``class_id`` or ``skycell_id``; either in a table
      that is not in ``RUN_TABLES``);
    * what the one row of the run table says there: a stackSumSkyfile names no sky cell, its stackRun does;
    * the only component of dirinfo.

    A row whose component dirinfo does not have (left out because it was empty; an input that belongs to
    another fileset) has no file here: its ``uri`` and ``path_base`` become NULL, which means absent,
    rather than a path that is not true on this machine. It is no reason to fail the fileset: what must be
    placed are archives, not rows.

    Raises BundleUnusable for a document that is none, HostileName for a path that ends in ``..``.
    """
    return mdc.rewrite(document, source, _Localizer(source, dirinfo, data).new_value)


class _Localizer:
    """Gives the local value for the columns that hold paths."""

    def __init__(self, source: str, dirinfo: DirInfo, data: Path) -> None:
        root = data.absolute()
        self.source = source
        self.workdir = dirinfo.local_base(data)
        self.folders = {name: str(root / dirinfo.folder(name)) for name in dirinfo.components}
        self.of_run: dict[str, str | None] = {}
        self.only = next(iter(self.folders)) if len(self.folders) == 1 else None
        self.columns: dict[str, Callable[[str, mdc.Entry, tuple[mdc.Scope, ...]], str | None]] = {
            "workdir": self._workdir,
            "uri": self._local_path,
            "path_base": self._local_path,
            "tess_id": self._last_part,
        }

    def new_value(self, path: tuple[str, ...], entry: mdc.Entry, scopes: tuple[mdc.Scope, ...]) -> str | None:
        """The new value of a column of a row, None where it stays."""
        if len(path) != 1 or entry.name not in self.columns:
            return None
        return self.columns[entry.name](path[0], entry, scopes)

    def _workdir(self, table: str, entry: mdc.Entry, scopes: tuple[mdc.Scope, ...]) -> str:
        return self.workdir

    def _local_path(self, table: str, entry: mdc.Entry, scopes: tuple[mdc.Scope, ...]) -> str | None:
        name = self._last_part(table, entry, scopes)
        if name is None:
            return None
        folder = self.folders.get(self._component(table, scopes))
        return mdc.NULL if folder is None else f"{folder}/{name}"

    def _last_part(self, table: str, entry: mdc.Entry, scopes: tuple[mdc.Scope, ...]) -> str | None:
        if not entry.value:
            return None
        name = entry.value.rstrip("/").rpartition("/")[2]
        if name in {"", ".", ".."}:
            raise HostileName(
                f"{self.source}, line {entry.line}: expected the {entry.name} of {table} to end in a name, "
                f"got {entry.value[:255]!r}; the fileset is not unpacked"
            )
        return name

    def _component(self, table: str, scopes: tuple[mdc.Scope, ...]) -> str | None:
        document, row = scopes
        tables = _TABLES.get(table)
        if tables is None:
            return _text(row, "class_id") or _text(row, "skycell_id") or self.only
        if tables.stage == "camera":
            return EXPOSURE
        if tables.component_key is None:
            return self.only
        if tables.run not in self.of_run:
            self.of_run[tables.run] = _of_run(document, tables)
        return _text(row, tables.component_key) or self.of_run[tables.run] or self.only


def _of_run(document: mdc.Scope, tables: RunTables) -> str | None:
    runs = document.all(tables.run)
    alone = len(runs) == 1 and isinstance(runs[0], mdc.Scope)
    return _text(runs[0], tables.component_key) if alone else None


def _text(row: mdc.Scope, column: str) -> str | None:
    value = row.get(column)
    return value if isinstance(value, str) else None
