"""The Data Store protocol: listings, client, server. Independent of mirrors.

>>> from pipeline.datastore.listing import read_filesets
>>> body = b"# filesetID|time registered|type|stage|\\no1.chip.7.1.1|2009-04-15T03:02:11Z|IPP-DIST|chip|\\n"
>>> [row] = read_filesets(body, "http://127.0.0.1/ds/md/index.txt")
>>> row.name, row.registered, row.column("stage")
('o1.chip.7.1.1', '2009-04-15T03:02:11Z', 'chip')
"""
