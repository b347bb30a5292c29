"""Writer of Metadata Config documents: from scopes to lines, without recursion."""

from collections.abc import Iterator

from pipeline.bundle.mdc.scope import Entry, Scope
from pipeline.bundle.mdc.values import NULL, VALUE_TYPES, format_value

_INDENT = "   "
_MAX_INDENTS = 10
"""Depth from which on scopes are not indented further: the text would grow as the square of the depth."""


def write(scope: Scope) -> bytes:
    """Return the document, in UTF-8, that is read as an equal scope."""
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


def _lines(scope: Scope, depth: int) -> Iterator[str | Scope]:
    """Yield the lines of a scope; each nested scope follows the line that opens it."""
    indent = _indent(depth)
    for name, fields in scope.types.items():
        yield _padded(indent, "TYPE", name, " ".join(fields), "")
    for name in sorted(scope.multi):
        if name not in scope:
            yield f"{indent}{name:<16} MULTI"
    announced: set[str] = set()
    for entry in scope.entries:
        if entry.name in scope.multi and entry.name not in announced:
            announced.add(entry.name)
            yield f"{indent}{entry.name:<16} MULTI"
        yield _line(indent, entry)
        if entry.type == "METADATA" and isinstance(entry.value, Scope):
            yield entry.value


def _line(indent: str, entry: Entry) -> str:
    name, kind, value, comment, _ = entry
    if kind == "METADATA":
        return f"{indent}{name:<16} METADATA" + (f"  # {comment}" if comment else "")
    if isinstance(value, Scope):
        words = " ".join(NULL if field.value is None else str(field.value) for field in value.entries)
        return _padded(indent, name, kind, words, comment)
    label = f"@{name}" if isinstance(value, tuple) else name
    return _padded(indent, label, kind, format_value(VALUE_TYPES[kind], value), comment)


def _padded(indent: str, name: str, kind: str, value: str, comment: str) -> str:
    return f"{indent}{name:<16} {kind:<9} {value:<16}" + (f" # {comment}" if comment else "")


def _indent(depth: int) -> str:
    return _INDENT * min(depth, _MAX_INDENTS)
