"""Metadata Config documents (``.mdc``): read, write, edit in place (protocol notes, "Metadata Config").

A document is a ``Scope``: names in order, each with a value of one of the types in ``values.py`` or with a
nested scope. ``rewrite`` changes values and leaves every other byte as it is:

>>> document = b"CAMERA STR GPC1\\nFILES METADATA\\n  INPUT STR neb://V/a.fits # raw\\nEND\\n"
>>> root = read(document, "example.mdc")
>>> root["CAMERA"], root["FILES"]["INPUT"]
('GPC1', 'neb://V/a.fits')
>>> def local(string):
...     return "/data/a.fits" if string.path == ("FILES",) and string.name == "INPUT" else None
>>> rewrite(document, "example.mdc", local).splitlines()[2]
b'  INPUT STR /data/a.fits # raw'
>>> scope = Scope()
>>> scope.add("EXPTIME", "F32", 113.0, comment="seconds")
>>> write(scope)
b'EXPTIME          F32       113.0            # seconds\\n'

Rules for all documents:

* A document is UTF-8 if the whole of it is valid UTF-8, and otherwise Latin-1, where every byte is a
  character: any bytes can be decoded, every value can be encoded again, and a rewritten document keeps
  every byte that is not changed. Documents are written in UTF-8.
* A document that begins with the magic number of gzip is inflated, whatever its name. A document beyond
  ``MAX_DOCUMENT_BYTES`` (inflated) or ``MAX_LINES`` is refused: real ones have thousands of lines, and a
  hostile one must not use up the memory of the machine.
* Scopes nest to any depth, because no function is recursive. Reading and writing take time linear in the
  size of the document.
* Of a name that is repeated without MULTI, the first entry is kept, with a warning; with ``overwrite`` the
  last one is kept, in the place of the first. The same holds for entries that ``METADATA UPDATE`` merges.
  UPDATE merges into the first scope of that name, and begins one if there is none; RESET drops all earlier
  entries of that name.
* A row type of a ``TYPE`` line is valid in its own scope, not in nested ones; its rows have a word for every
  field.

Every error is BundleUnusable, with the source, and the line where one is to blame.
"""

from pipeline.bundle.mdc.reader import MAX_DOCUMENT_BYTES, MAX_LINES, read
from pipeline.bundle.mdc.rewriter import MAX_REWRITTEN_DEPTH, Replace, StringValue, rewrite
from pipeline.bundle.mdc.scope import Entry, Scope
from pipeline.bundle.mdc.values import NULL
from pipeline.bundle.mdc.writer import write

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "MAX_LINES",
    "MAX_REWRITTEN_DEPTH",
    "NULL",
    "Entry",
    "Replace",
    "Scope",
    "StringValue",
    "read",
    "rewrite",
    "write",
]
