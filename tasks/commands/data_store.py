"""Client of the Data Store for commands that ask it and run no task."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config import Source
    from pipeline.datastore.client import ListingClient


@contextmanager
def listing_client(source: "Source") -> "Iterator[ListingClient]":
    """Yield a client of the listings of the Data Store; its connections are closed at the end."""
    from pipeline.mirror.context import upstream_client

    with closing(upstream_client(source, time.sleep)) as client:
        yield client
