"""State of a mirror on disk: paths, markers, listings, failures, skips, and what is pending.

>>> import tempfile
>>> from pathlib import Path
>>> fileset = Fileset("md-all-rel-200907", "o4741g0236o.chip.14519.33.1", "2009-04-15T03:02:11Z")
>>> with tempfile.TemporaryDirectory() as folder:
...     layout = Layout(Path(folder))
...     mark_done(layout, MarkerKind.DOWNLOADED, fileset, "2009-04-15T03:05:00Z", {"files": []})
...     layout.marked(MarkerKind.DOWNLOADED, fileset.product)
{'o4741g0236o.chip.14519.33.1'}
"""

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.markers import Fileset, fresh_marker, mark_done

__all__ = ["Fileset", "Layout", "MarkerKind", "fresh_marker", "mark_done"]
