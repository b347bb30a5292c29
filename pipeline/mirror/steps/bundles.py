"""Bundles of a fileset: which of its files are unpacked (protocol notes, "Distribution filesets")."""

from collections.abc import Sequence

from pipeline.datastore.listing import DISTRIBUTION, FileRow
from pipeline.mirror.state.markers import Fileset

# Types of the filesets whose archives are bundles: distributions, and those whose type is not known.
_WITH_BUNDLES = {DISTRIBUTION, "NULL", ""}


def bundles_of(fileset: Fileset, rows: Sequence[FileRow]) -> list[FileRow]:
    """Return the files of the fileset that are unpacked; ``rows`` are all of its files.

    A fileset of another type than IPP-DIST that has no dirinfo has plain files only, archives too: nothing
    says where they would unpack. A fileset whose type is not known counts as IPP-DIST, for a failure is seen
    and bundles that are not unpacked are not.
    """
    with_bundles = fileset.columns.get("type", "").upper() in _WITH_BUNDLES
    if with_bundles or any(row.component == "dirinfo" for row in rows):
        return [row for row in rows if row.is_bundle]
    return []
