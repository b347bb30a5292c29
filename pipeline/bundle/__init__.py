"""Content of a distribution fileset: ``.mdc`` documents, dirinfo, dbinfo, config dumps, archives.

>>> from pathlib import Path
>>> document = b"destdir METADATA\\ndestdir STR gpc1/2009\\nEND\\ncomponents METADATA\\nXY01 STR o1\\nEND\\n"
>>> dirinfo = read_dirinfo(document, "dirinfo.chip.1.mdc")
>>> dirinfo.folder("XY01")
'gpc1/2009/o1'
>>> print(localized_dirinfo(document, "dirinfo.chip.1.mdc", Path("/mirror/data")).decode().splitlines()[1])
destdir STR /mirror/data/gpc1/2009

``pipeline.bundle.mdc`` reads and writes documents, ``pipeline.bundle.unpack`` unpacks archives. Nothing here
uses the network or depends on the mirror.
"""

from pipeline.bundle.config_dump import relocated_config_dump
from pipeline.bundle.dbinfo import RUN_TABLES, localized_dbinfo
from pipeline.bundle.dirinfo import DirInfo, localized_dirinfo, read_dirinfo

__all__ = [
    "RUN_TABLES",
    "DirInfo",
    "localized_dbinfo",
    "localized_dirinfo",
    "read_dirinfo",
    "relocated_config_dump",
]
