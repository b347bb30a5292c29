"""dbinfo: the rows of a run in the sender's database, with local paths (protocol notes, "dbinfo")."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.bundle import mdc
from pipeline.bundle.config_dump import relocated_path
from pipeline.bundle.dirinfo import DirInfo
from pipeline.errors import HostileName


@dataclass(frozen=True)
class RunTables:
    """Tables of one stage: that of runs, those of rows, and the column of a row that names its component.

    ``component_key`` is None for a stage with a single component. ``component`` is the one of all rows, where
    the stage gives it a name.
    """

    run: str
    stage: str
    rows: tuple[str, ...]
    component_key: str | None
    component: str | None = None


RUN_TABLES = (
    RunTables("rawExp", "raw", ("rawImfile",), "class_id"),
    RunTables("chipRun", "chip", ("chipProcessedImfile",), "class_id"),
    RunTables("chipBackgroundRun", "chip_bg", ("chipBackgroundImfile",), "class_id"),
    RunTables("camRun", "camera", ("camProcessedExp",), None, "exposure"),
    RunTables("fakeRun", "fake", ("fakeProcessedImfile",), "class_id"),
    RunTables("warpRun", "warp", ("warpSkyfile", "warpSkyCellMap"), "skycell_id"),
    RunTables("warpBackgroundRun", "warp_bg", ("warpBackgroundSkyfile",), "skycell_id"),
    RunTables("diffRun", "diff", ("diffSkyfile", "diffInputSkyfile"), "skycell_id"),
    RunTables("stackRun", "stack", ("stackSumSkyfile", "stackInputSkyfile"), "skycell_id"),
    RunTables("staticskyRun", "sky", ("staticskyResult", "staticskyInput"), None),
    RunTables("skycalRun", "skycal", ("skycalResult",), None),
    RunTables("fullForceRun", "ff", ("fullForceSummary",), None, "summary"),
    RunTables("fullForceRun", "ff", ("fullForceInput", "fullForceResult"), "warp_id"),
)

_TABLES = {name: tables for tables in RUN_TABLES for name in (tables.run, *tables.rows)}


def localized_dbinfo(document: bytes, source: str, dirinfo: DirInfo, data: Path) -> bytes:
    """Return the document with absolute paths below ``data`` for those of the sender; all other bytes stay.

    In every row, ``workdir`` becomes DATA/DESTDIR; ``uri`` and ``path_base``, unless NULL or empty, become
    DATA/DESTDIR/COMPONENT_DIR and the last part of the old value; ``tess_id`` keeps its last part.
    ``sources_path_base`` belongs to another fileset: its volume becomes DATA, as in config dumps; without a
    volume it becomes NULL. The component of a row is the first of these that exists:

    * the name that ``RUN_TABLES`` has for all rows of its table (``exposure``, ``summary``);
    * the value of the key column of its table (``class_id`` or ``skycell_id``; either in a table that is not
      in ``RUN_TABLES``); for ``warp_id`` the only component that begins with its value and a dot;
    * the value of that column in the only row of the run table: a stackSumSkyfile names no sky cell, its
      stackRun does;
    * the only component of dirinfo.

    A row whose component dirinfo lacks (omitted because it was empty; an input that belongs to another
    fileset) has no file here: its ``uri`` and ``path_base`` become NULL, which means absent, rather than a
    path that does not exist on this machine. Such a row is no error: archives must have a folder,
    rows need none.

    Raises BundleUnusable for an invalid document, HostileName for a path that ends in ``..``.
    """
    return mdc.rewrite(document, source, _Localizer(source, dirinfo, data).new_value)


class _Localizer:
    """Local values for the columns that hold paths."""

    def __init__(self, source: str, dirinfo: DirInfo, data: Path) -> None:
        root = data.absolute()
        self.root = str(root)
        self.source = source
        self.workdir = dirinfo.local_base(data)
        self.folders = {name: str(root / dirinfo.folder(name)) for name in dirinfo.components}
        self.component_of_run: dict[str, str | None] = {}
        self.only = next(iter(self.folders)) if len(self.folders) == 1 else None
        self.columns: dict[str, Callable[[mdc.StringValue], str | None]] = {
            "workdir": self._workdir,
            "uri": self._local_path,
            "path_base": self._local_path,
            "sources_path_base": self._path_of_another_fileset,
            "tess_id": self._last_part,
        }

    def new_value(self, string: mdc.StringValue) -> str | None:
        """Return the new value of a column of a row; None to leave it as it is."""
        if len(string.path) != 1 or string.name not in self.columns:
            return None
        return self.columns[string.name](string)

    def _workdir(self, string: mdc.StringValue) -> str:
        return self.workdir

    def _local_path(self, string: mdc.StringValue) -> str | None:
        name = self._last_part(string)
        if name is None:
            return None
        component = self._component(string)
        folder = None if component is None else self.folders.get(component)
        return mdc.NULL if folder is None else f"{folder}/{name}"

    def _path_of_another_fileset(self, string: mdc.StringValue) -> str | None:
        return (relocated_path(string.value, self.root) or mdc.NULL) if string.value else None

    def _last_part(self, string: mdc.StringValue) -> str | None:
        if not string.value:
            return None
        name = string.value.rstrip("/").rpartition("/")[2]
        if name in {"", ".", ".."}:
            [table] = string.path
            raise HostileName(
                f"{self.source}, line {string.line}: expected the {string.name} of {table} to end in a name, "
                f"got {string.value[:255]!r}; the fileset is not unpacked"
            )
        return name

    def _component(self, string: mdc.StringValue) -> str | None:
        document, row = string.scopes
        [table] = string.path
        tables = _TABLES.get(table)
        if tables is None:
            return _text(row, "class_id") or _text(row, "skycell_id") or self.only
        if tables.component_key is None:
            return tables.component or self.only
        if tables.component_key == "warp_id":
            return self._component_of_warp(row)
        if tables.run not in self.component_of_run:
            self.component_of_run[tables.run] = _component_of_run(document, tables.run, tables.component_key)
        return _text(row, tables.component_key) or self.component_of_run[tables.run] or self.only

    def _component_of_warp(self, row: mdc.Scope) -> str | None:
        """Return the component ``WARP_ID.SKYCELL_ID`` of a row; its sky cell is in no table."""
        of_warp = [name for name in self.folders if name.startswith(f"{row.get('warp_id')}.")]
        return of_warp[0] if len(of_warp) == 1 else None


def _component_of_run(document: mdc.Scope, run_table: str, component_key: str) -> str | None:
    runs = document.all(run_table)
    alone = len(runs) == 1 and isinstance(runs[0], mdc.Scope)
    return _text(runs[0], component_key) if alone else None


def _text(row: mdc.Scope, column: str) -> str | None:
    value = row.get(column)
    return value if isinstance(value, str) else None
