"""The end of an update of a product: what is remembered of it."""

import json

from pipeline.durable import write_whole
from pipeline.mirror.layout import Layout, Step
from pipeline.mirror.marker_file import read_marker, write_marker
from pipeline.mirror.markers import utc_now
from pipeline.mirror.site import Site


def finish_product(site: Site, product: str, started: str, *, done: int, failed: int) -> None:
    """Note that the update which began at ``started`` went through the whole product."""
    layout = site.layout
    before = read_marker(layout.updated(product))
    held = before["bytes"] if before and not (done or failed) else _stored_bytes(layout, product)
    content = {"product": product, "run": started, "finished": utc_now(), "failed": failed, "bytes": held}
    write_marker(layout.updated(product), content)


def _stored_bytes(layout: Layout, product: str) -> int:
    """The bytes of all downloaded filesets. Sizes of markers seen before are remembered, by their time."""
    cache = layout.state(product) / "sizes.json"
    try:
        known = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        known = {}
    sizes = {}
    for name in layout.marked(Step.DOWNLOADED, product):
        path = layout.marker(Step.DOWNLOADED, product, name)
        written = path.stat().st_mtime_ns
        if known.get(name, (0, 0))[0] == written:
            sizes[name] = known[name]
        else:
            files = (read_marker(path) or {}).get("files", [])
            sizes[name] = (written, sum(file["bytes"] for file in files))
    write_whole(cache, json.dumps(sizes).encode())
    return sum(size for _, size in sizes.values())
