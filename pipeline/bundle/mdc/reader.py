"""Reader of Metadata Config documents: from bytes to text, from lines to scopes, without recursion."""

import gzip
import io
import re
import zlib
from collections.abc import Callable
from typing import NoReturn

from pipeline.bundle.mdc.scope import NAME, RESERVED, Entry, Scope, is_name, row_scope
from pipeline.bundle.mdc.values import (
    BLANKS,
    ROW_WORD,
    VALUE_TYPES,
    Scalar,
    ValueType,
    parse_scalar,
    parse_vector,
)
from pipeline.errors import BundleUnusable
from pipeline.units import as_count

MAX_DOCUMENT_BYTES = 64 * 1024**2
MAX_LINES = 2_000_000
MAX_WARNINGS = 100

GZIP_MAGIC = b"\x1f\x8b"
LINE = re.compile(r"^[ \t\r]*([^ \t\r\n#]*)[ \t\r]*([^ \t\r\n#]*)[ \t\r]*([^\n#]*)(?:#([^\n]*))?", re.M)
"""Name, type, remaining text with trailing blanks, comment: all may be empty, so every line matches."""

_READ_BYTES = 1024**2
_SHOWN = 60


def read(document: bytes, source: str, *, overwrite: bool = False) -> Scope:
    """Return the outermost scope of a document, with the warnings about the document.

    ``source`` names the document in messages. With ``overwrite`` the last entry of a repeated name is kept,
    otherwise the first. Raises BundleUnusable for an invalid document.
    """
    text, _ = decode(document, source)
    return Reader(source, overwrite).read(text)


def decode(document: bytes, source: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> tuple[str, str]:
    """Return the text of a document, and its encoding.

    Raises BundleUnusable for a document beyond the limits, or cut off in its compressed form.
    """
    if document.startswith(GZIP_MAGIC):
        document = _inflate(document, source, max_bytes)
    if len(document) > max_bytes or document.count(b"\n") > MAX_LINES:
        raise BundleUnusable(
            f"{source}: expected a document of at most {max_bytes} bytes and {MAX_LINES} lines, "
            "got more. It is not read."
        )
    try:
        return document.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return document.decode("latin-1"), "latin-1"


def _inflate(document: bytes, source: str, max_bytes: int) -> bytes:
    chunks, size = [], 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(document)) as file:
            while size <= max_bytes and (chunk := file.read(_READ_BYTES)):
                chunks.append(chunk)
                size += len(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise BundleUnusable(
            f"{source}: expected a whole gzip-compressed document, got {error}. It is not read."
        ) from None
    return b"".join(chunks)


class Reader:
    """Reader of one document, line by line.

    With ``overwrite`` the last entry of a repeated name is kept, otherwise the first. ``hidden`` holds the
    entries of the document that its scopes lack, replaced by another entry of that name or dropped by RESET.
    The key is the ``id`` of the scope, which exists as long as the scope that ``read`` returned and
    ``hidden``.
    """

    def __init__(self, source: str, overwrite: bool = False) -> None:
        self.source = source
        self.overwrite = overwrite
        self.hidden: dict[int, list[Entry]] = {}
        self.line = 0
        self.root = self.scope = Scope()
        self.around: list[tuple[Scope, int]] = []
        self.with_gaps: dict[int, Scope] = {}
        self.repeated = 0

    def read(self, text: str) -> Scope:
        """Return the outermost scope. Raises BundleUnusable, with the line."""
        for self.line, match in enumerate(LINE.finditer(text), start=1):
            name, word, rest, comment = match.groups("")
            if not name:
                continue
            kind = VALUE_TYPES.get(word)
            if kind is None or name in RESERVED:
                self._structure(name, word, rest.rstrip(BLANKS), comment.strip(BLANKS))
            else:
                self._value(name, kind, rest.rstrip(BLANKS), comment.strip(BLANKS))
        self._finish()
        return self.root

    def _value(self, name: str, kind: ValueType, text: str, comment: str) -> None:
        parse: Callable[[ValueType, str], Scalar | tuple[Scalar, ...]] = parse_scalar
        if name[0] == "@":
            name, parse = name[1:], parse_vector
        if not NAME.fullmatch(name) or name in RESERVED:
            self._fail("a name of letters, digits and '_ . -'", name)
        try:
            value = parse(kind, text)
        except (ValueError, OverflowError):
            self._fail(f"{kind.expected} as {kind.name} of {name}", text)
        self._place(Entry(name, kind.name, value, comment, self.line))

    def _structure(self, name: str, word: str, text: str, comment: str) -> None:
        if name == "END":
            self._end(word)
        elif name == "TYPE":
            self._declare(word, text)
        elif not is_name(name):
            self._fail("a name of letters, digits and '_ . -'", name)
        elif word == "METADATA":
            self._open(name, text, comment)
        elif word == "MULTI":
            self._multi(name, text)
        elif word in self.scope.types:
            self._row(name, word, text, comment)
        else:
            self._fail(f"a type after the name {name[:_SHOWN]}", word)

    def _place(self, entry: Entry) -> None:
        scope = self.scope
        kept = scope.first(entry.name)
        if kept is None or entry.name in scope.multi:
            scope.append(entry)
        elif self.overwrite:
            self._hide([scope.replace(entry)])
        else:
            self._hide([entry])
            self._warn(kept)

    def _hide(self, entries: list[Entry]) -> None:
        self.hidden.setdefault(id(self.scope), []).extend(entries)

    def _warn(self, kept: Entry) -> None:
        self.repeated += 1
        if self.repeated <= MAX_WARNINGS:
            self.root.warnings.append(
                f"{self.source}, line {self.line}: expected {kept.name[:_SHOWN]} once, as it is not MULTI; "
                f"it stays as on line {kept.line}"
            )

    def _open(self, name: str, option: str, comment: str) -> None:
        scope = Scope()
        if option == "RESET":
            self._forget(name)
        elif option not in {"", "UPDATE"}:
            self._fail(f"UPDATE, RESET or nothing after METADATA of {name}", option)
        there = self.scope.first(name) if option == "UPDATE" else None
        if there is None:
            self._place(Entry(name, "METADATA", scope, comment, self.line))
        elif there.type == "METADATA" and isinstance(there.value, Scope):
            scope = there.value
        else:
            self._fail(f"{name} to be a METADATA scope to merge into", there.type)
        self.around.append((self.scope, self.line))
        self.scope = scope

    def _end(self, word: str) -> None:
        if word:
            self._fail("nothing after END", word)
        if not self.around:
            self._fail("END only where a scope is open", "END")
        self.scope, _ = self.around.pop()

    def _multi(self, name: str, option: str) -> None:
        if option == "RESET":
            self._forget(name)
        elif option not in {"", "UPDATE"}:
            self._fail(f"UPDATE, RESET or nothing after MULTI of {name}", option)
        self.scope.multi.add(name)

    def _declare(self, name: str, text: str) -> None:
        try:
            self.scope.add_type(name, ROW_WORD.findall(text))
        except BundleUnusable as error:
            raise BundleUnusable(f"{self.source}, line {self.line}: {error}") from None

    def _row(self, name: str, kind: str, text: str, comment: str) -> None:
        fields, words = self.scope.types[kind], ROW_WORD.findall(text)
        if len(words) != len(fields):
            self._fail(f"{len(fields)} words for {kind} {name}, as its TYPE line has fields", text)
        self._place(Entry(name, kind, row_scope(fields, words, self.line), comment, self.line))

    def _forget(self, name: str) -> None:
        if name in self.scope:
            self._hide(self.scope.forget(name))
            self.with_gaps[id(self.scope)] = self.scope

    def _finish(self) -> None:
        if self.around:
            _, line = self.around[-1]
            raise BundleUnusable(
                f"{self.source}: expected END for the scope of line {line}, got the end of the document; "
                "it was cut off and is not used"
            )
        for scope in self.with_gaps.values():
            scope.close_gaps()
        if self.repeated > MAX_WARNINGS:
            self.root.warnings.append(
                f"{self.source}: {as_count(self.repeated - MAX_WARNINGS, 'more name')} repeated"
            )

    def _fail(self, expected: str, got: str) -> NoReturn:
        shown = repr(got[:_SHOWN]) + ("…" if len(got) > _SHOWN else "") if got else "nothing"
        raise BundleUnusable(
            f"{self.source}, line {self.line}: expected {expected}, got {shown}; the document is not used"
        )
