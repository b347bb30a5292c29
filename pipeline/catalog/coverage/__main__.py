"""Process that makes maps and picture of the coverage anew; ``start_coverage`` starts it."""

import json
import os
import sys
from pathlib import Path

from pipeline.catalog.coverage.renewal import renew_coverage
from pipeline.catalog.database import Database, database_url, sqlite_url
from pipeline.catalog.generations import current_file
from pipeline.mirror.state.layout import Layout


def main() -> None:
    """Renew the coverage of the mirror that standard input names, with the lowest priority."""
    os.nice(19)
    # The folder of the update may be that of a disk that is to be unmounted.
    os.chdir("/")
    order = json.load(sys.stdin)
    layout = Layout(Path(order["root"]))
    path = current_file(layout)
    if order["url"] is not None:
        renew_coverage(Database(database_url(order["url"]), read_only=True), layout)
    elif path is not None:
        renew_coverage(Database(sqlite_url(path), read_only=True), layout)


if __name__ == "__main__":
    main()
