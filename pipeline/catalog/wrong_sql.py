"""Sentences on SQL of a user that is no query, or a wrong one: for SQLite, PostgreSQL and MariaDB."""

import re
from collections.abc import Collection, Mapping

from pipeline.errors import SettingsError
from pipeline.near_names import did_you_mean

# Columns of each table and view of the catalog.
Names = Mapping[str, Collection[str]]

_NAMES = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = "
NAMES_OF_POSTGRESQL = f"{_NAMES}current_schema()"
NAMES_OF_MARIADB = f"{_NAMES}database()"
_READ_ONLY = "the catalog is read-only for queries. Nothing was changed"
_WRITES = re.compile(
    r"[\s(]*(insert|update|delete|replace|merge|drop|create|alter|truncate|rename|vacuum|grant|copy)\b",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"not authorized|read.only transaction|prohibited", re.IGNORECASE)
# The words of SQLite, PostgreSQL and MariaDB, in this order.
_NO_TABLE = re.compile(
    r"no such table: (?:main\.)?(?P<a>\S+)|relation \"(?P<b>[^\"]+)\" does not exist"
    r"|Table '(?:[^'.]*\.)?(?P<c>[^'.]+)' doesn't exist"
)
_NO_COLUMN = re.compile(
    r"no such column: \"?(?P<a>[^\s\"]+)|column \"?(?P<b>[\w.]+)\"? does not exist"
    r"|Unknown column '(?P<c>[^']+)'"
)
_SEVERAL = re.compile(r"one statement at a time|multiple commands")
# What PostgreSQL and MariaDB add to the words of an error.
_DECORATION = re.compile(r" LINE \d+: .*? \^(?= |$)")
_SYNTAX = re.compile(r"You have an error in your SQL syntax; .* (near .*) at line \d+")
_TABLES_SHOWN = 12


def wrong_sql(reason: str) -> SettingsError:
    """Return the error for a statement that is no query, or a wrong one."""
    return SettingsError(
        f"expected one SQL query that reads the catalog, such as SELECT: {reason.rstrip('.')}."
    )


def explained(sql: str, words: str, names: Names) -> SettingsError:
    """Return the error for a statement that a database refused with these words."""
    if not sql.strip():
        return wrong_sql("got none")
    if written := _WRITES.match(sql):
        return wrong_sql(f"got {written[1].upper()}, and {_READ_ONLY}")
    if match := _NO_TABLE.search(words):
        return _on_table(_name_in(match), names)
    if match := _NO_COLUMN.search(words):
        return _on_column(_name_in(match).rpartition(".")[2], sql, names)
    if _REFUSED.search(words):
        return wrong_sql(f"{words.rstrip('.')}; {_READ_ONLY}")
    if _SEVERAL.search(words):
        return wrong_sql("got several statements")
    return wrong_sql(_SYNTAX.sub(r"syntax error \1", _DECORATION.sub("", words)))


def _name_in(match: re.Match[str]) -> str:
    return str(next(filter(None, match.groups())))


def _on_table(name: str, names: Names) -> SettingsError:
    meant = did_you_mean(name, names)
    all_of_them = f" It has {', '.join(sorted(names))}." if names else ""
    return SettingsError(f"expected a table or a view of the catalog, got {name!r}.{meant or all_of_them}")


def _on_column(name: str, sql: str, names: Names) -> SettingsError:
    """Return the error on a column that the tables of the statement do not have."""
    words = set(re.findall(r"\w+", sql.casefold()))
    asked = sorted(table for table in names if table.casefold() in words)
    meant = did_you_mean(name, {column for table in asked or names for column in names[table]})
    others = sorted(table for table, columns in names.items() if name in columns)[:_TABLES_SHOWN]
    where = f" There is one in {', '.join(others)}." if others else meant
    shown = f" `SELECT * FROM {', '.join(asked)} LIMIT 1` shows those that there are." if asked else ""
    return SettingsError(
        f"expected a column of {' or '.join(asked) or 'the catalog'}, got {name!r}.{where}{shown}"
    )
