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
    ],
)
def test_passwords_are_masked(text, expected):
    assert masked(text) == expected
