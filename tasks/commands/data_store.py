"""Client of the Data Store for commands that ask it and run no task."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config import Source
    from pipeline.datastore.client import ListingClient


@contextmanager
def listing_client(source: "Source") -> "Iterator[ListingClient]":
    """Yield a client of the listings of the Data Store; its connections are closed at the end."""
    from pipeline.datastore.client import DataStoreClient, Limits, RetryPolicy

    limits = Limits(source.connections, source.timeout, source.least_speed)
    retries = RetryPolicy(attempts=source.attempts, first_pause=source.retry_pause, sleep=time.sleep)
    client = DataStoreClient(source.url, limits, retries)
    try:
        yield client
    finally:
        client.close()
