"""Passwords in what the log begins with."""

import pytest

from tasks.runtime.log import masked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://anna:secret@host/ds", "http://***@host/ds"),
        ('{"url":"https://anna:p%40ss@h:80/","other":"a@b"}', '{"url":"https://***@h:80/","other":"a@b"}'),
        ("--scheduler-url http://:secret@h/ x@y", "--scheduler-url http://***@h/ x@y"),
        ("http://host/a@b", "http://host/a@b"),
        ('"mysql://anna:se/c@ret@host/db"', '"mysql://***@host/db"'),
        ("postgresql:///db?host=/run&password=secret&x=1", "postgresql:///db?host=/run&password=***&x=1"),
        ("mysql://host/db?passwd=secret", "mysql://host/db?passwd=***"),
    ],
)
def test_passwords_are_masked(text, expected):
    assert masked(text) == expected
