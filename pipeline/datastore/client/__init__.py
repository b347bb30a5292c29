"""Client of a Data Store: listings, and files that arrive whole and verified.

* ``http``: connections, redirects, and the errors of the network; the only user of requests and urllib3,
  with ``session``, ``limits`` and ``transport_errors``. ``fetcher`` is what the other modules need of it.
  They are not imported here, as what asks no server does without these packages.
* ``listings``: the three kinds of listings, by their addresses.
* ``transfer``, ``ranged``, ``partial``: one file, whole or in byte ranges, resumed where that is safe.
* ``retry``: number of tries, and the pauses between them. ``fetch_pool``, ``semaphore``: concurrency.

>>> from pipeline.datastore.client import RetryPolicy
>>> from pipeline.datastore.client.http import DataStoreClient
>>> from pipeline.datastore.client.limits import Limits
>>> limits = Limits(connections=4, timeout=60)
>>> retries = RetryPolicy(attempts=2, first_pause=1)
>>> store = DataStoreClient("http://127.0.0.1:8080/ds", limits, retries)
>>> store.file_url("md-all-rel-200907", "o4741g0236o.raw.44435.41.1", "dbinfo.raw.44435.mdc")
'http://127.0.0.1:8080/ds/md-all-rel-200907/o4741g0236o.raw.44435.41.1/dbinfo.raw.44435.mdc'
>>> rows = store.filesets("md-all-rel-200907")  # doctest: +SKIP
>>> store.close()
"""

from pipeline.datastore.client.fetch_pool import FetchPool
from pipeline.datastore.client.fetcher import ADVICE_ON_ADDRESS, NoAnswer, NotFound
from pipeline.datastore.client.listings import ListingClient, UnknownFileset
from pipeline.datastore.client.ranged import RangePolicy
from pipeline.datastore.client.retry import RetryableError, RetryPolicy, retry
from pipeline.datastore.client.transfer import Transfer, TransferPolicy

__all__ = [
    "ADVICE_ON_ADDRESS",
    "FetchPool",
    "ListingClient",
    "NoAnswer",
    "NotFound",
    "RangePolicy",
    "RetryPolicy",
    "RetryableError",
    "Transfer",
    "TransferPolicy",
    "UnknownFileset",
    "retry",
]
