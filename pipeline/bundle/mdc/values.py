"""Types of Metadata Config values: conversion from text to Python values, and back.

Decisions where the format leaves room:

* ``NULL`` is None for every type, so the string ``"NULL"`` cannot be written.
* Integers are decimal and inside the range of their type. ``F32`` is kept as the double in the text.
* Complex numbers are one word, ``1.5-2i`` (``j`` is read too).
* UTC is an aware datetime; an offset is converted, and a text without one is UTC. UT1, TAI and TT are
  scales that no time zone describes: they are naive datetimes. A leap second, which a datetime cannot
  hold, is read as the first instant after it; digits beyond the microsecond are dropped.
* A vector is a tuple; commas and blanks separate, however many.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import index
from typing import Any, NamedTuple

NULL = "NULL"
BLANKS = " \t\r"
"""Separators and padding; the carriage return is among them for documents with CRLF line ends."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
VECTOR_WORD = re.compile(r"[^ \t\r,]+")
ROW_WORD = re.compile(r"[^ \t\r]+")
_TRUTH = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}

Scalar = str | bool | int | float | complex | datetime | None


class ValueType(NamedTuple):
    """Type of values: parser (raises ValueError or OverflowError), formatter, and words for messages."""

    name: str
    parse: Callable[[str], Scalar]
    format: Callable[[Any], str]
    expected: str


def parse_scalar(kind: ValueType, text: str) -> Scalar:
    """Return the value in ``text``. Raises ValueError or OverflowError."""
    return None if text == NULL else kind.parse(text)


def parse_vector(kind: ValueType, text: str) -> tuple[Scalar, ...] | None:
    """Return the values of a vector; None for a lone NULL. Raises as ``parse_scalar``."""
    values = tuple(parse_scalar(kind, word[0]) for word in VECTOR_WORD.finditer(text))
    return None if values == (None,) else values


def format_value(kind: ValueType, value: Scalar | tuple[Scalar, ...]) -> str:
    """Return the text of a value, or of a vector if it is a tuple.

    Raises TypeError, ValueError, AttributeError or OverflowError for a value of another type.
    """
    if isinstance(value, tuple):
        return ",".join(NULL if each is None else kind.format(each) for each in value)
    return NULL if value is None else kind.format(value)


def round_trips(kind: ValueType, value: Scalar | tuple[Scalar, ...]) -> bool:
    """Return True if the text of ``value`` is parsed as that value again."""
    try:
        text = format_value(kind, value)
        back = (parse_vector if isinstance(value, tuple) else parse_scalar)(kind, text)
    except (TypeError, ValueError, AttributeError, OverflowError):
        return False
    return is_one_value(text) and same_value(back, value)


def is_one_line(text: str) -> bool:
    """Return True if a line can hold ``text``: no line end, no blanks around it, valid in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in text and text == text.strip(BLANKS)


def is_one_value(text: str) -> bool:
    """Return True if a line can hold ``text`` as a value: a ``#`` would begin a comment."""
    return "#" not in text and is_one_line(text)


def same_value(one: Any, other: Any) -> bool:
    """Return True if the values are equal, where nan equals nan, also in complex numbers and vectors."""
    return one == other or repr(one) == repr(other)


def _string(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _truth(text: str) -> bool:
    try:
        return _TRUTH[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _number(text: str) -> str:
    """Return ``text``. Raises ValueError for ``1_000`` and other numbers that only Python accepts."""
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    return text


def _parse_complex(text: str) -> complex:
    return complex(_number(text[:-1] + "j" if text[-1:] in {"i", "I", "J"} else text))


def _format_complex(value: complex) -> str:
    number = complex(value)
    imaginary = repr(number.imag)
    return f"{number.real!r}{'' if imaginary.startswith('-') else '+'}{imaginary}i"


def _parse_utc(text: str) -> datetime:
    leap = text[16:19] == ":60"
    moment = datetime.fromisoformat(f"{text[:17]}59{text[19:]}" if leap else text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(microsecond=0) + timedelta(seconds=1) if leap else moment


def _format_utc(value: datetime) -> str:
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _parse_scale(text: str) -> datetime:
    return _parse_utc(text).replace(tzinfo=None)


def _integer(name: str, low: int, high: int) -> ValueType:
    def parse(text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise ValueError(text)
        number = int(text)
        if not low <= number <= high:
            raise OverflowError(text)
        return number

    return ValueType(name, parse, lambda value: str(index(value)), f"an integer from {low} to {high}")


def _types() -> list[ValueType]:
    integers = [
        kind
        for bits in (8, 16, 32, 64)
        for kind in (
            _integer(f"S{bits}", -(2 ** (bits - 1)), 2 ** (bits - 1) - 1),
            _integer(f"U{bits}", 0, 2**bits - 1),
        )
    ]
    floats = [
        ValueType(name, lambda text: float(_number(text)), lambda value: repr(float(value)), "a number")
        for name in ("F32", "F64")
    ]
    complexes = [
        ValueType(name, _parse_complex, _format_complex, "a complex number such as 1.5-2i")
        for name in ("C32", "C64")
    ]
    scales = [
        ValueType(name, _parse_scale, lambda value: value.isoformat(), "a time such as 2009-07-29T03:02:13")
        for name in ("UT1", "TAI", "TT")
    ]
    return [
        ValueType("STR", str, _string, "a text of one line without '#', not NULL and not in blanks"),
        ValueType("BOOL", _truth, lambda value: "T" if value else "F", "t, f, true, false, 1 or 0"),
        ValueType("UTC", _parse_utc, _format_utc, "a time such as 2009-07-29T03:02:13Z"),
        *integers,
        *floats,
        *complexes,
        *scales,
    ]


VALUE_TYPES = {kind.name: kind for kind in _types()}
VALUE_TYPES["STRING"] = VALUE_TYPES["STR"]
"""Types by the word in a document; STRING is a synonym of STR."""
