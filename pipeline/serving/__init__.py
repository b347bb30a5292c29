"""Mirror as a Data Store for other sites.

    from pipeline.serving import MirrorTree, serve_mirror

    serve_mirror(Layout(root), host="127.0.0.1", port=8080)    # until SIGTERM or SIGINT

``MirrorTree`` is the tree that is served; ``pipeline.datastore.server`` does the serving.
"""

from collections.abc import Iterable

from pipeline.datastore.server import DataStoreApp, run
from pipeline.mirror.state.layout import Layout
from pipeline.serving.mirror_tree import MirrorTree

__all__ = ["MirrorTree", "serve_mirror"]


def serve_mirror(layout: Layout, *, host: str, port: int, hidden: Iterable[str] = ()) -> None:
    """Serve what the mirror holds until SIGTERM or SIGINT. ``hidden`` products are served but not listed.

    Raises OSError when ``port`` of ``host`` cannot be listened on.
    """
    run(DataStoreApp(MirrorTree(layout, hidden)), host=host, port=port)
