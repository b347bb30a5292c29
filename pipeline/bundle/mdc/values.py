"""The types of Metadata Config values: what Python value a text stands for, and its text again.

Decisions where the format leaves room:

* ``NULL`` is None for every type, so a string that says NULL cannot be written.
* Integers are decimal and inside the range of their type. ``F32`` is kept as the double that the text says.
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
"""What separates and pads; the carriage return is one, so that CRLF documents read alike."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
VECTOR_WORD = re.compile(r"[^ \t\r,]+")
ROW_WORD = re.compile(r"[^ \t\r]+")
_TRUTH = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}

Scalar = str | bool | int | float | complex | datetime | None


class ValueType(NamedTuple):
    """One type: how its values are read (else ValueError, OverflowError), written, and put in words."""

    name: str
    read: Callable[[str], Scalar]
    write: Callable[[Any], str]
    expected: str


def read_scalar(kind: ValueType, text: str) -> Scalar:
    """The value that ``text`` stands for. Raises ValueError or OverflowError."""
    return None if text == NULL else kind.read(text)


def read_vector(kind: ValueType, text: str) -> tuple[Scalar, ...] | None:
    """The values of a vector; None when it says NULL and nothing else. Raises as ``read_scalar``."""
    values = tuple(read_scalar(kind, word[0]) for word in VECTOR_WORD.finditer(text))
    return None if values == (None,) else values


def written_value(kind: ValueType, value: Scalar | tuple[Scalar, ...]) -> str:
    """The text of a value, or of a vector when it is a tuple. Raises when it is not of the type."""
    if isinstance(value, tuple):
        return ",".join(NULL if each is None else kind.write(each) for each in value)
    return NULL if value is None else kind.write(value)


def reads_back(kind: ValueType, value: Scalar | tuple[Scalar, ...]) -> bool:
    """Whether the text of ``value`` is read as that value again."""
    try:
        text = written_value(kind, value)
        back = (read_vector if isinstance(value, tuple) else read_scalar)(kind, text)
    except (TypeError, ValueError, AttributeError, OverflowError):
        return False
    return is_one_value(text) and same_value(back, value)


def is_one_line(text: str) -> bool:
    """Whether a document can hold ``text`` on a line: no line end, no blanks around it, encodable."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in text and text == text.strip(BLANKS)


def is_one_value(text: str) -> bool:
    """Whether a line can hold ``text`` as a value: a ``#`` would begin a comment."""
    return "#" not in text and is_one_line(text)


def same_value(one: Any, other: Any) -> bool:
    """Equality for which nan is nan, in complex numbers and vectors too."""
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
    """``text`` unless it is one of the numbers of Python that are none here (``1_000``, other alphabets)."""
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    return text


def _read_complex(text: str) -> complex:
    return complex(_number(text[:-1] + "j" if text[-1:] in {"i", "I", "J"} else text))


def _write_complex(value: complex) -> str:
    number = complex(value)
    imaginary = repr(number.imag)
    return f"{number.real!r}{'' if imaginary.startswith('-') else '+'}{imaginary}i"


def _read_utc(text: str) -> datetime:
    leap = text[16:19] == ":60"
    moment = datetime.fromisoformat(f"{text[:17]}59{text[19:]}" if leap else text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(microsecond=0) + timedelta(seconds=1) if leap else moment


def _write_utc(value: datetime) -> str:
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _read_scale(text: str) -> datetime:
    return _read_utc(text).replace(tzinfo=None)


def _integer(name: str, low: int, high: int) -> ValueType:
    def read(text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise ValueError(text)
        number = int(text)
        if not low <= number <= high:
            raise OverflowError(text)
        return number

    return ValueType(name, read, lambda value: str(index(value)), f"an integer from {low} to {high}")


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
        ValueType(name, _read_complex, _write_complex, "a complex number such as 1.5-2i")
        for name in ("C32", "C64")
    ]
    scales = [
        ValueType(name, _read_scale, lambda value: value.isoformat(), "a time such as 2009-07-29T03:02:13")
        for name in ("UT1", "TAI", "TT")
    ]
    return [
        ValueType("STR", str, _string, "a text of one line without '#', not NULL and not in blanks"),
        ValueType("BOOL", _truth, lambda value: "T" if value else "F", "t, f, true, false, 1 or 0"),
        ValueType("UTC", _read_utc, _write_utc, "a time such as 2009-07-29T03:02:13Z"),
        *integers,
        *floats,
        *complexes,
        *scales,
    ]


VALUE_TYPES = {kind.name: kind for kind in _types()}
VALUE_TYPES["STRING"] = VALUE_TYPES["STR"]
"""The types by the word in a document; STRING is read as STR."""
