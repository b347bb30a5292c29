"""Values for columns, from listings and from dbinfo: as every database takes them, None for absent ones."""

from pipeline.bundle import mdc
from pipeline.catalog.tables import LONGEST_NAME


def string_value(row: mdc.Scope | None, name: str | None) -> str | None:
    """Return the text in a column of dbinfo; None without the row or the column, and for anything else."""
    value = row.get(name) if row is not None and name else None
    return value if isinstance(value, str) else None


def integer_value(row: mdc.Scope | None, name: str) -> int | None:
    """Return the number in a column of dbinfo; None as ``string_value``, and beyond 64 bits."""
    value = row.get(name) if row is not None else None
    return value if isinstance(value, int) and abs(value) < 2**63 else None


def listed_value(value: str | None) -> str | None:
    """Return a value of the listing; None for ``null``, as absent ones are (protocol notes, "Listings")."""
    return None if value == "null" else as_text(value)


def as_text(value: str | None) -> str | None:
    """Return a text that every database takes, None for an empty one."""
    return value.replace("\0", "\ufffd") if value else None


def short_text(value: str | None) -> str | None:
    """Return the beginning of a text that a column for a name takes, None for an empty one."""
    text = as_text(value)
    return text[:LONGEST_NAME] if text else None
