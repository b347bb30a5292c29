"""Filesets that arrive in a mirror, without a run."""

from pipeline.datastore.listing import FilesetRow, write_filesets
from pipeline.durable import publish_folder
from pipeline.mirror.resources.arrivals import Arrivals
from pipeline.mirror.resources.byte_locks import ByteLocks
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.local_listing import LocalListing
from pipeline.mirror.state.markers import Fileset, mark_done

PRODUCT = "p"
COLUMNS = ("filesetID", "time registered", "type", "stage")


def row(name: str, second: int = 0, *more: str) -> FilesetRow:
    """The listing row of a fileset that was registered at that second."""
    registered = f"2009-08-11T00:00:{second:02}Z"
    return FilesetRow(name, registered, "IPP-DIST", COLUMNS, (name, registered, "IPP-DIST", "chip", *more))


def index_of(content: bytes) -> bytes:
    """The ``index.txt`` of a fileset of two files with that content."""
    rows = b"".join(b"%s.fits|%d||x|\n" % (file, len(content)) for file in (b"a", b"b"))
    return b"# fileID|bytes|md5sum|type|\n" + rows


class Holding:
    """A mirror of one product, to which filesets are added one by one."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.arrivals = Arrivals(layout, ByteLocks(layout.arrivals_lock))

    def know(self, *rows: FilesetRow) -> None:
        """Make these the rows of the local listing."""
        LocalListing(self.layout, PRODUCT).replace(rows)

    def publish(self, row: FilesetRow, content: bytes) -> None:
        """Put a fileset into ``store/``, without anything else."""
        folder = self.layout.incoming(PRODUCT, row.name)
        folder.mkdir(parents=True)
        for name, body in {"a.fits": content, "b.fits": content, "index.txt": index_of(content)}.items():
            (folder / name).write_bytes(body)
        publish_folder(folder, self.layout.store(PRODUCT, row.name))

    def arrive(self, row: FilesetRow, content: bytes = b"x") -> str | None:
        """Publish a fileset as a download does, with its entry and its marker; return its number."""
        fileset = Fileset.of(PRODUCT, row)
        with self.arrivals.entered(fileset, index_of(content)) as number:
            self.publish(row, content)
        self.mark(row, number)
        return number

    def mark(self, row: FilesetRow, number: str | None = None, second: int = 0) -> None:
        """Write the marker of a fileset, finished at that second."""
        finished = {"finished": f"2026-11-26T00:00:{second:02}Z"} if second else {}
        content = {"arrival": number, "files": []} | finished
        mark_done(self.layout, MarkerKind.DOWNLOADED, Fileset.of(PRODUCT, row), "t", content)

    def unmark(self, name: str) -> None:
        """Make a fileset pending again, as a new registration does."""
        self.layout.marker(MarkerKind.DOWNLOADED, PRODUCT, name).unlink()

    def entries(self) -> list[str]:
        """Name and number of each entry, in the order of the file."""
        lines = self.layout.arrivals(PRODUCT).read_text().splitlines()
        rows = [line.split("|") for line in lines if not line.startswith("#")]
        return [f"{cells[0]} {cells[-4]}" for cells in rows]


def rows_listed(*rows: FilesetRow) -> list[bytes]:
    """The lines of a listing with these rows."""
    return write_filesets(rows).splitlines()
