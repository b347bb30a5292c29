"""Note beside the settings file of a mirror: the id of the mirror, and where its root folder is.

Where the disk of a mirror is not mounted, its root folder is an empty folder, or can be made. The note shows
that there was a mirror, which must not be begun anew on the disk below.
"""

import json
import logging
from contextlib import suppress
from pathlib import Path

from pipeline.config import Settings
from pipeline.durable import write_whole
from pipeline.errors import SettingsError
from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.root_format import mirror_id

log = logging.getLogger(__name__)


def note_path(config: Path) -> Path:
    """Return the path of the note of a settings file: ``.mirror.yaml.id`` beside ``mirror.yaml``."""
    real = config.resolve()
    return real.with_name(f".{real.name}.id")


def check_root(config: Path, settings: Settings) -> None:
    """Check that the mirror is there which the note names, or that ``must_exist`` asks for.

    A note for another root folder says nothing: the setting was changed. Raises SettingsError, also as
    ``check_root_format`` does, and MachineFault when ``mirror.json`` cannot be read.
    """
    layout = Layout(settings.mirror.root)
    found, noted = mirror_id(layout), _noted_id(config, layout)
    if settings.mirror.must_exist and not layout.root_format.exists():
        raise SettingsError(
            f"{config}: expected a mirror at {layout.root} (mirror.must_exist), "
            f"found no {layout.root_format}. Mount the disk of the mirror; where a new mirror is to begin, "
            "set must_exist to false for its first run. Nothing was started."
        )
    if noted is not None and noted != found:
        what = f"mirror {found}" if found else "none"
        raise SettingsError(
            f"{layout.root}: expected mirror {noted}, which {note_path(config)} says was here, found {what}. "
            "Mount the disk of the mirror; or delete that file, if this is the right place and the mirror "
            "is to be another or a new one. Nothing was started."
        )


def write_note(config: Path, layout: Layout) -> None:
    """Write the note, unless it is right already. For the holder of the update lock.

    Warn if the note has the mirror in another root folder, which the documents unpacked there name. A note
    that cannot be written is none: the settings may lie where this user must not write.
    """
    found, noted = mirror_id(layout), _noted(config)
    if not found or noted == (found, str(layout.root)):
        return
    if noted is not None and noted[0] == found:
        _warn_of_move(Path(noted[1]), layout)
    content = json.dumps({"id": found, "root": str(layout.root)}) + "\n"
    try:
        write_whole(note_path(config), content.encode())
    except OSError as error:
        log.debug(
            "%s cannot be written (%s): set mirror.must_exist, which guards a root that is not mounted",
            *(note_path(config), error.strerror or error),
        )


def _warn_of_move(before: Path, layout: Layout) -> None:
    """Warn of documents that hold the path ``before``, unless it still leads to the mirror.

    Once: the note that is written then has the new path. After the recipe for a move no fileset is extracted.
    """
    if not any(layout.count(MarkerKind.EXTRACTED, product) for product in layout.state_products()):
        return
    with suppress(OSError):
        if before.samefile(layout.root):
            return
    log.warning(
        "%s: the mirror was at %s before. Paths in info/, in config dumps in data/ and in the tables of the "
        "pipeline still begin with that; filesets that are unpacked again get the new ones, as by the recipe "
        "of the guide for moving a mirror. All else works as ever.",
        *(layout.root, before),
    )


def _noted_id(config: Path, layout: Layout) -> str | None:
    """Return the id of the mirror in this root folder; None without a note on it that can be read."""
    found, root = _noted(config) or (None, "")
    return found if root == str(layout.root) else None


def _noted(config: Path) -> tuple[str, str] | None:
    """Return the id and the root folder in the note; None without one that can be read."""
    try:
        noted = json.loads(note_path(config).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return (str(noted.get("id")), str(noted.get("root"))) if isinstance(noted, dict) else None
