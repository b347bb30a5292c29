"""Mistakes of YAML as sentences for people: line, column, what was expected and what is there.

No sentence repeats a value, which may hold a password: of a line it has the name of the setting at most.
"""

import re
from collections.abc import Callable
from pathlib import Path

import yaml
from yaml.reader import ReaderError

_NAME = re.compile(r"(\w+) *:(?:\s|$)")

Explanation = Callable[[re.Match[str], yaml.MarkedYAMLError, str], str]


def yaml_problem(error: yaml.YAMLError, text: str, path: Path) -> str:
    """Return a sentence on an error in the text of the file at ``path``."""
    if isinstance(error, ReaderError):
        # At a character of the text, or of the text so far.
        line = text.count("\n", 0, error.position) + 1
        said = f"expected printable characters, got U+{error.character:04X}"
        return f"{path}, line {line}: {said}. Nothing was started."
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem is None or error.problem_mark is None:
        return f"{path}: expected YAML, got something else. Nothing was started."
    mark = error.problem_mark
    lines = text.splitlines()
    line_text = lines[mark.line] if mark.line < len(lines) else ""
    if error.problem == "could not find expected ':'" and error.context_mark:
        # The problem is seen only in a later line.
        mark = error.context_mark
    said = _explained(error, line_text)
    return f"{path}, line {mark.line + 1}, column {mark.column + 1}: {said}. Nothing was started."


def _explained(error: yaml.MarkedYAMLError, line: str) -> str:
    """Return what was expected and found; ``line`` is that of the error."""
    problem = error.problem or ""
    for pattern, explanation in _EXPLANATIONS:
        if match := pattern.match(problem):
            return explanation(match, error, line)
    return problem if problem.startswith("expected ") else f"expected YAML, got: {problem}"


def _indentation(_match: re.Match[str], error: yaml.MarkedYAMLError, line: str) -> str:
    column = error.problem_mark.column if error.problem_mark else 0
    if line[:column].strip():
        return f"expected the end of the line, or ': ', got {_shown(line[column:])}"
    in_list = error.context == "while parsing a block collection"
    return (
        "expected the line to begin in the column of the settings that it belongs with"
        f"{', which in a list is the column behind the dash' if in_list else ''}, got "
        f"{_shown(line)} in column {column + 1}"
    )


def _second_value(_match: re.Match[str], error: yaml.MarkedYAMLError, line: str) -> str:
    column = error.problem_mark.column if error.problem_mark else 0
    if ": " in line[:column]:
        return "expected one ': ' in a line, got two. Put a value that has one in quotation marks"
    return f"expected the line to begin in the column of the line above, got {_shown(line)}"


def _shown(text: str) -> str:
    """Return the name of the setting, or the dash of the item, that begins the text, else its kind."""
    name = _NAME.match(text.strip())
    return repr(name[1]) if name else "'-'" if text.strip().startswith("- ") else "text"


def _no_end(what: str) -> Explanation:
    def explain(match: re.Match[str], error: yaml.MarkedYAMLError, _line: str) -> str:
        begin = error.context_mark
        where = f" that begins in line {begin.line + 1}, column {begin.column + 1}" if begin else ""
        mark, found = match.groupdict().get("mark") or "", match.groupdict().get("found")
        got = {None: "the end of the file", "<stream end>": "the end of the file"}.get(found, repr(found))
        return f"expected {mark or 'a quotation mark'} at the end of the {what}{where}, got {got}"

    return explain


def _character(match: re.Match[str], _error: yaml.MarkedYAMLError, _line: str) -> str:
    if match["found"] == "\\t":
        return "expected blanks as the indentation, got a tab"
    return f"expected a value, got {match['found']!r} at its beginning. Put the value in quotation marks"


def _nothing(match: re.Match[str], _error: yaml.MarkedYAMLError, _line: str) -> str:
    if match["found"] == "<stream end>":
        return "expected a value and the end of the list or settings in brackets, got the end of the file"
    return f"expected a value, got {match['found']!r}. Put a value that begins with it in quotation marks"


def _reference(_match: re.Match[str], error: yaml.MarkedYAMLError, _line: str) -> str:
    return _in_quotation_marks("&" if "anchor" in (error.context or "") else "*")


def _tag(_match: re.Match[str], _error: yaml.MarkedYAMLError, _line: str) -> str:
    return _in_quotation_marks("!")


def _in_quotation_marks(mark: str) -> str:
    return f"expected a value, got {mark}: a value that begins with {mark} has to be in quotation marks"


def _says(text: str) -> Explanation:
    return lambda match, _error, _line: match.expand(text)


_EXPLANATIONS: list[tuple[re.Pattern[str], Explanation]] = [
    (re.compile(pattern), explanation)
    for pattern, explanation in (
        (r"expected <block end>, but found", _indentation),
        (r"expected the node content, but found '(?P<found>.+)'", _nothing),
        (
            r"expected chomping or indentation indicators, but found '(?P<found>.+)'",
            _says(r"expected the end of the line behind | or >, got '\g<found>'"),
        ),
        (r"mapping values are not allowed here", _second_value),
        (r"found character '(?P<found>.+)' that cannot start any token", _character),
        (r"expected alphabetic or numeric character|found undefined alias", _reference),
        (r"expected ',' or '(?P<mark>.)', but got '(?P<found>.+)'", _no_end("list or settings")),
        (r"found unexpected end of stream", _no_end("text")),
        (r"could not find expected ':'", _says("expected 'name: value', got a line without ': '")),
        (r"but found another document", _says("expected one document, got a second one behind '---'")),
        (r"could not determine a constructor for the tag|found undefined tag handle", _tag),
    )
]
