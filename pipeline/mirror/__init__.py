"""One mirror on disk: what it holds, what its runs share, and the steps that fill it.

* ``state``: paths, markers, listings, failures, and what is pending.
* ``resources``: locks, disk space, connections, bytes per second.
* ``context``: settings, steps and resources of one run.
* ``steps``: discovery, download, extraction, removal, verification.

Imports point from ``steps`` to ``state``. Nothing here depends on Luigi.
"""
