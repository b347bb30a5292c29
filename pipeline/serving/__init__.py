"""Mirror, and the products of the site's own, as a Data Store for other sites.

    from pipeline.serving import MirrorTree, serve_mirror

    serve_mirror(Layout(root), host="127.0.0.1", port=8080)    # until SIGTERM or SIGINT

``SiteTree`` is the tree that is served, of a ``MirrorTree`` and the ``OwnTree`` of what the site publishes;
``pipeline.datastore.server`` does the serving.
"""

from collections.abc import Iterable

from pipeline.datastore.server import DataStoreApp, run
from pipeline.mirror.state.layout import Layout
from pipeline.serving.mirror_tree import MirrorTree
from pipeline.serving.site_tree import OwnTree, SiteTree

__all__ = ["MirrorTree", "OwnTree", "SiteTree", "serve_mirror"]


def serve_mirror(layout: Layout, *, host: str, port: int, hidden: Iterable[str] = ()) -> None:
    """Serve what the mirror holds, and what the site publishes, until SIGTERM or SIGINT.

    ``hidden`` products are served but not listed.

    Raises OSError when ``port`` of ``host`` cannot be listened on.
    """
    hidden = frozenset(hidden)
    tree = SiteTree(MirrorTree(layout, hidden), OwnTree(layout.published, hidden))
    run(DataStoreApp(tree), host=host, port=port)
