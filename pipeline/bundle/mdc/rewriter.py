"""Editing of Metadata Config documents in place: new values for strings, every other byte as it is."""

import gzip
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from pipeline.bundle.mdc.reader import GZIP_MAGIC, LINE, MAX_DOCUMENT_BYTES, Reader, decode
from pipeline.bundle.mdc.scope import Entry, Scope
from pipeline.bundle.mdc.values import BLANKS, ROW_WORD, VECTOR_WORD, is_one_value
from pipeline.errors import BundleUnusable

MAX_REWRITTEN_DEPTH = 100
"""Deeper than any document with a path in it; bounds the cost of the paths of scopes."""


class StringValue(NamedTuple):
    """STR value in a document, and its place.

    ``path`` holds the names of the scopes around the value. ``scopes`` are those scopes, from the document
    on: ``scopes[0]`` is the document, ``scopes[-1]`` the one that holds the value. ``value`` is None for
    NULL. ``line`` is counted from 1. ``word`` is the index of the value among the words of a row or vector;
    None for a value that has the line to itself.
    """

    path: tuple[str, ...]
    name: str
    value: str | None
    scopes: tuple[Scope, ...]
    line: int
    word: int | None = None


Replace = Callable[[StringValue], str | None]
"""Function from a string to its new value, or to None to leave it as it is."""


class _Edit(NamedTuple):
    word: int | None
    new: str


def rewrite(document: bytes, source: str, replace: Replace, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Return the document with the new values that ``replace`` gives; every other byte stays.

    ``replace`` is called for every STR value, also for repeated ones that a reader passes over, for the
    fields of rows and for the elements of vectors; the new value ``NULL`` makes a value absent. The result
    for a gzip-compressed document is compressed too, to the same bytes for the same input. ``source`` names
    the document in messages. ``max_bytes`` limits the inflated document.

    Raises BundleUnusable for an invalid document, for one beyond the limits or nested more than
    ``MAX_REWRITTEN_DEPTH`` deep, and for a new value that its line cannot hold.
    """
    text, encoding = decode(document, source, max_bytes)
    edits: dict[int, list[_Edit]] = {}
    for string in _strings(Reader(source), text):
        new = replace(string)
        if new is not None and new != string.value:
            edits.setdefault(string.line, []).append(_Edit(string.word, new))
    if not edits:
        return document
    lines = text.split("\n")
    for number, changes in edits.items():
        lines[number - 1] = _edited(lines[number - 1], changes, f"{source}, line {number}")
    return _encode("\n".join(lines), encoding, source, document.startswith(GZIP_MAGIC))


def _strings(reader: Reader, text: str) -> Iterator[StringValue]:
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
                pending.append(((*path, entry.name), (*scopes, entry.value), entry.type != "METADATA"))
            elif entry.type == "STR":
                for word, value in _words(entry, number if is_row else None):
                    yield StringValue(path, entry.name, value, scopes, entry.line, word)


def _words(entry: Entry, field: int | None) -> Iterator[tuple[int | None, str | None]]:
    """Yield the strings of a STR entry with their ``word``; ``field`` is the index of a field in its row."""
    if isinstance(entry.value, tuple):
        for word, value in enumerate(entry.value):
            yield word, value if isinstance(value, str) else None
    else:
        yield field, entry.value if isinstance(entry.value, str) else None


def _edited(line: str, edits: Sequence[_Edit], where: str) -> str:
    match = next(LINE.finditer(line))
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


def _encode(text: str, encoding: str, source: str, gzipped: bool) -> bytes:
    try:
        document = text.encode(encoding)
    except UnicodeEncodeError as error:
        raise BundleUnusable(
            f"{source}: expected new values in the encoding of the document, which is no UTF-8, got "
            f"{error.object[error.start : error.end]!r}; it is not rewritten"
        ) from None
    return gzip.compress(document, mtime=0) if gzipped else document
