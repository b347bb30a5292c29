"""Metadata Config documents (``.mdc``): read, written, edited in place (protocol notes, "Metadata Config").

A document is a ``Scope``: names in order, each with a value of one of the types of ``mdc_values`` or with a
scope of its own. What holds for all of them:

* A document is UTF-8 when the whole of it is valid UTF-8, and otherwise Latin-1, where every byte is a
  character: any bytes can be decoded, no value holds what cannot be encoded again, and an edit gives
  back every byte that it does not change. Documents are written in UTF-8.
* One that begins as gzip does is inflated, whatever its name. A document beyond ``MAX_DOCUMENT_BYTES``
  (inflated) or ``MAX_LINES`` is refused: real ones have thousands of lines, and a hostile one must not
  take the memory of the machine.
* Scopes nest to any depth: nothing here recurses. Reading and writing take time linear in the document.
* A name repeated without MULTI: the first stands and a warning is kept, or the last stands in the place of
  the first (``overwrite``). That goes for what ``METADATA UPDATE`` merges, too. UPDATE merges into the
  first scope of that name and begins one where there is none; RESET drops all of that name before.
* A row type of a ``TYPE`` line holds in its own scope, not in those nested in it; its rows have a word
  for every field.

Every error is BundleUnusable, with the source and the line where there is one.
"""

import gzip
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from pipeline.bundle.mdc.reader import (
    GZIP_MAGIC,
    LINE,
    MAX_DOCUMENT_BYTES,
    MAX_LINES,
    Reader,
    decoded,
)
from pipeline.bundle.mdc.scope import Entry, Scope
from pipeline.bundle.mdc.values import (
    BLANKS,
    NULL,
    ROW_WORD,
    VALUE_TYPES,
    VECTOR_WORD,
    is_one_value,
    written_value,
)
from pipeline.errors import BundleUnusable

__all__ = ["MAX_DOCUMENT_BYTES", "MAX_LINES", "NULL", "Entry", "Replace", "Scope", "read", "rewrite", "write"]

MAX_REWRITTEN_DEPTH = 100
"""Deeper than any document with a path in it; bounds the cost of saying where a value is."""

_INDENT = "   "
_MAX_INDENTS = 10
"""Scopes nested deeper are not indented further, or the text would grow as the square of the depth."""

Replace = Callable[[tuple[str, ...], Entry, tuple[Scope, ...]], str | None]
"""``replace(path, entry, scopes)``: the new value of a STR entry, None to leave it as it is.

``path`` holds the names of the scopes around the entry. ``scopes`` are those scopes, from the document on:
``scopes[0]`` is the document, ``scopes[-1]`` the one that holds the entry.
"""


def read(document: bytes, source: str, *, overwrite: bool = False) -> Scope:
    """The document as a scope, with the warnings about it.

    ``source`` names it in messages. ``overwrite``: the last of a repeated name stands, not the first.
    Raises BundleUnusable.
    """
    text, _ = decoded(document, source)
    return Reader(source, overwrite).read(text)


def write(scope: Scope) -> bytes:
    """The scope as a document that is read as an equal scope."""
    lines: list[str] = []
    opened = [_lines(scope, 0)]
    while opened:
        for item in opened[-1]:
            if isinstance(item, Scope):
                opened.append(_lines(item, len(opened)))
                break
            lines.append(item)
        else:
            opened.pop()
            if opened:
                lines.append(_indent(len(opened) - 1) + "END")
    return "".join(line + "\n" for line in lines).encode()


def rewrite(document: bytes, source: str, replace: Replace) -> bytes:
    """The document with new values where ``replace`` gives them; every other byte stays.

    ``replace`` is asked about every STR value: repeated ones that a reader would pass over, the fields of
    rows and the elements of vectors, too; ``NULL`` as an answer makes the value absent. A document that came
    gzip-compressed is given back so, the same bytes for the same input. Raises BundleUnusable for a document
    that is none or nests more than ``MAX_REWRITTEN_DEPTH`` deep, and for a new value that its line cannot
    hold.
    """
    text, encoding = decoded(document, source)
    edits: dict[int, list[_Edit]] = {}
    for found in _strings(Reader(source), text):
        new = replace(found.path, found.entry, found.scopes)
        if new is not None and new != found.entry.value:
            edits.setdefault(found.entry.line, []).append(_Edit(found.word, new))
    if not edits:
        return document
    lines = text.split("\n")
    for number, changes in edits.items():
        lines[number - 1] = _edited(lines[number - 1], changes, f"{source}, line {number}")
    return _encoded("\n".join(lines), encoding, source, document.startswith(GZIP_MAGIC))


class _Found(NamedTuple):
    """A STR value and where it is; ``word`` counts the words of a row or vector, None for a whole value."""

    path: tuple[str, ...]
    entry: Entry
    scopes: tuple[Scope, ...]
    word: int | None


class _Edit(NamedTuple):
    word: int | None
    new: str


def _strings(reader: Reader, text: str) -> Iterator[_Found]:
    pending: list[tuple[tuple[str, ...], tuple[Scope, ...], bool]] = [((), (reader.read(text),), False)]
    while pending:
        path, scopes, is_row = pending.pop()
        if len(path) > MAX_REWRITTEN_DEPTH:
            raise BundleUnusable(
                f"{reader.source}: expected scopes at most {MAX_REWRITTEN_DEPTH} deep, got more; "
                "it is not rewritten"
            )
        entries = scopes[-1].entries + reader.hidden.get(id(scopes[-1]), [])
        for number, entry in enumerate(entries):
            if isinstance(entry.value, Scope):
                inner = (*scopes, entry.value)
                pending.append(((*path, entry.name), inner, entry.type != "METADATA"))
            elif entry.type == "STR" and isinstance(entry.value, tuple):
                for word, value in enumerate(entry.value):
                    yield _Found(path, entry._replace(value=value), scopes, word)
            elif entry.type == "STR":
                yield _Found(path, entry, scopes, number if is_row else None)


def _edited(line: str, edits: Sequence[_Edit], where: str) -> str:
    match = LINE.match(line)
    start, text = match.start(3), match[3].rstrip(BLANKS)
    pattern = VECTOR_WORD if match[1].startswith("@") else ROW_WORD
    words = [] if edits[0].word is None else [word.span() for word in pattern.finditer(text)]
    pieces, done = [line[:start]], 0
    for word, new in edits:
        if not is_one_value(new) or (word is not None and not pattern.fullmatch(new)):
            raise BundleUnusable(f"{where}: expected a new value that the line can hold, got {new!r}")
        begin, end = (0, len(text)) if word is None else words[word]
        pieces += [text[done:begin], new]
        done = end
    if not text and not line[:start].endswith(tuple(BLANKS)):
        pieces.insert(1, " ")
    return "".join([*pieces, text[done:], line[start + len(text) :]])


def _encoded(text: str, encoding: str, source: str, gzipped: bool) -> bytes:
    try:
        document = text.encode(encoding)
    except UnicodeEncodeError as error:
        raise BundleUnusable(
            f"{source}: expected new values in the encoding of the document, which is no UTF-8, got "
            f"{error.object[error.start : error.end]!r}; it is not rewritten"
        ) from None
    return gzip.compress(document, mtime=0) if gzipped else document


def _lines(scope: Scope, depth: int) -> Iterator[str | Scope]:
    """The lines of a scope; a nested scope comes behind the line that opens it."""
    indent = _indent(depth)
    for name, fields in scope.types.items():
        yield _padded(indent, "TYPE", name, " ".join(fields), "")
    for name in sorted(scope.multi):
        if name not in scope:
            yield f"{indent}{name:<16} MULTI"
    announced = set()
    for entry in scope.entries:
        if entry.name in scope.multi and entry.name not in announced:
            announced.add(entry.name)
            yield f"{indent}{entry.name:<16} MULTI"
        yield _line(indent, entry)
        if entry.type == "METADATA":
            yield entry.value


def _line(indent: str, entry: Entry) -> str:
    name, kind, value, comment, _ = entry
    if kind == "METADATA":
        return f"{indent}{name:<16} METADATA" + (f"  # {comment}" if comment else "")
    if isinstance(value, Scope):
        words = " ".join(NULL if field.value is None else field.value for field in value.entries)
        return _padded(indent, name, kind, words, comment)
    label = f"@{name}" if isinstance(value, tuple) else name
    return _padded(indent, label, kind, written_value(VALUE_TYPES[kind], value), comment)


def _padded(indent: str, name: str, kind: str, value: str, comment: str) -> str:
    return f"{indent}{name:<16} {kind:<9} {value:<16}" + (f" # {comment}" if comment else "")


def _indent(depth: int) -> str:
    return _INDENT * min(depth, _MAX_INDENTS)
