"""Server of the Data Store protocol; a folder of files is enough to publish from.

>>> import tempfile, urllib.request
>>> from pathlib import Path
>>> with tempfile.TemporaryDirectory() as folder:
...     with serve(DataStoreApp(PublishedTree(Path(folder)))) as server:
...         response = urllib.request.urlopen(f"{server.url}/index.txt").read().decode()
>>> response.split("|")[0].strip()
'# productID'

``python -m pipeline.datastore.server --store FOLDER`` serves a folder from the command line. Another tree is
served by a class with the methods of ``Tree``.
"""

from pipeline.datastore.server.app import DataStoreApp, ServerLimits
from pipeline.datastore.server.http_server import RunningServer, run, serve
from pipeline.datastore.server.tree import PublishedTree, Tree

__all__ = ["DataStoreApp", "PublishedTree", "RunningServer", "ServerLimits", "Tree", "run", "serve"]
