"""Process that makes maps and picture of the coverage anew; ``draw_coverage`` starts it."""

import json
import os
import sys
from pathlib import Path

from sqlalchemy import URL

from pipeline.catalog.coverage.renewal import renew_coverage
from pipeline.catalog.database import Database, database_url, sqlite_url
from pipeline.catalog.generations import current_file
from pipeline.errors import MirrorError
from pipeline.mirror.state.layout import Layout


def main() -> int:
    """Renew the coverage of the mirror that standard input names, with the lowest priority."""
    os.nice(19)
    # The folder of the update may be that of a disk that is to be unmounted.
    os.chdir("/")
    order = json.load(sys.stdin)
    layout = Layout(Path(order["root"]))
    url = database_url(order["url"]) if order["url"] is not None else _current(layout)
    if url is not None:
        try:
            renew_coverage(Database(url, read_only=True), layout)
        except MirrorError as error:
            print(error, file=sys.stderr)
            return error.exit_code
    return 0


def _current(layout: Layout) -> URL | None:
    path = current_file(layout)
    return sqlite_url(path) if path is not None else None


if __name__ == "__main__":
    sys.exit(main())
