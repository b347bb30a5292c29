"""Comparison of downloaded filesets with the listings that the server sends now.

A file may be corrected in place, without a new registration of its fileset (protocol notes, "Corrections in
place"): only the listing of that fileset shows it.
"""

from collections.abc import Collection, Iterator

from pipeline.datastore.listing import FilesetRow
from pipeline.errors import ServerUnavailable
from pipeline.mirror.context import RunContext
from pipeline.mirror.state.file_selection import FileSelection
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.markers import Fileset, fresh_marker
from pipeline.mirror.state.steps import Problem
from pipeline.mirror.steps.download import fetch_listing
from pipeline.units import as_count

# So many differences of one fileset are named.
NAMED_AT_MOST = 3
# Size, md5 and component of a file by these names; "none" for an md5 or a component that is not listed. The
# component decides where a bundle is unpacked.
_File = dict[str, int | str]


def comparable(
    layout: Layout, product: str, rows: list[FilesetRow], pending: Collection[str] = ()
) -> list[FilesetRow]:
    """Return the rows of the filesets that are downloaded or ``pending``, neither skipped nor withdrawn."""
    names = layout.marked(MarkerKind.DOWNLOADED, product).union(pending)
    for kind in (MarkerKind.SKIPPED, MarkerKind.WITHDRAWN):
        names -= layout.marked(kind, product)
    return [row for row in rows if row.name in names]


def upstream_problems(context: RunContext, fileset: Fileset) -> list[Problem]:
    """Return a problem if the server lists other files than those the fileset was downloaded with.

    A fileset whose download has failed since it was set aside is one too, and nothing is requested. Raises
    ServerUnavailable, ContentMismatch or HostileName when there is no valid listing to compare with.
    """
    path = context.layout.relative(context.layout.store(fileset.product, fileset.name))
    marker = fresh_marker(context.layout, MarkerKind.DOWNLOADED, fileset)
    if marker is None:
        what = "upstream lists other files, which are not fetched yet; the next update tries again"
        return [Problem(path, what, MarkerKind.DOWNLOADED)]
    here = {file["name"]: _file(file["bytes"], file["md5"], file["component"]) for file in marker["files"]}
    _, rows = fetch_listing(context.listings, fileset)
    if here and not rows:
        # The server sends such a listing also when it could not query its database.
        raise ServerUnavailable(
            f"{marker['source']}: expected a listing with files (here: {as_count(len(here), 'file')}), got "
            "one without files. Nothing is changed in the mirror; the next comparison asks again."
        )
    # Files that are left out by the settings may be corrected as well.
    selection = FileSelection.recorded(fresh_marker(context.layout, MarkerKind.PARTIAL, fileset))
    held = (row for row in rows if row.name in here or selection.chooses(row))
    there = {row.name: _file(row.bytes, row.md5, row.component) for row in held}
    differences = list(_differences(here, there))
    if not differences:
        return []
    more = len(differences) - NAMED_AT_MOST
    what = "; ".join(differences[:NAMED_AT_MOST]) + (f"; {more} more differ" if more > 0 else "")
    return [Problem(path, f"upstream lists other files: {what}", MarkerKind.DOWNLOADED)]


def _file(size: int, md5: str | None, component: str | None) -> _File:
    return {"size": size, "md5": md5 or "none", "component": component or "none"}


def _differences(here: dict[str, _File], there: dict[str, _File]) -> Iterator[str]:
    """Yield a phrase for each file that differs, in the order of the server's listing, absent ones last."""
    for name, listed in there.items():
        held = here.get(name)
        if held is None:
            yield f"{name} is listed there, not here"
        elif changed := [label for label in listed if listed[label] != held[label]]:
            values = [", ".join(f"{label} {file[label]}" for label in changed) for file in (listed, held)]
            yield f"{name} has {values[0]} there, {values[1]} here"
    yield from (f"{name} is listed here, not there" for name in here if name not in there)
