"""Failures and problems with one cause, of which the console shows the first one and a count."""

import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.errors import VARIABLE, FilesFailed, MirrorError, cause_in, kind_of
from pipeline.units import as_count

# The same in a problem of a file on disk, whose text may name files too.
_VARIABLE_OF_PROBLEMS = re.compile(rf"[^\s.]+\.\S+|\b[0-9a-f]{{8}}\b|{VARIABLE.pattern}|\d+")
_NAMED = 3


@dataclass(frozen=True)
class Failure:
    """Failure of a fileset, a product or a run, for the records of the log: attribute ``failure``.

    ``likeness`` says what another subject with the same cause has in common with this one.
    """

    subject: str
    cause: str
    likeness: str = "failed for the same reason as"

    @classmethod
    def of_problem(cls, path: str, what: str) -> "Failure":
        """Return the problem of a file on disk that a verification found."""
        cause = f"file {_VARIABLE_OF_PROBLEMS.sub('…', what)}"
        return cls(f"file {path}", cause, "had the same problem as")

    @classmethod
    def of(cls, subject: str, error: MirrorError) -> "Failure":
        """Return the failure with a cause that is equal where only names and numbers differ."""
        if isinstance(error, FilesFailed):
            file, error = next(iter(error.reasons.items()))
        else:
            file = ""
        kind, _, name = subject.partition(" ")
        cause = cause_in(str(error), (file, name, *name.split("/")))
        return cls(subject, f"{kind} {kind_of(error)} {cause}")


@dataclass
class _Repeated:
    first: Failure
    count: int = 0
    named: list[str] = field(default_factory=list)


class FirstOfEachCause(logging.Filter):
    """Filter that passes the first failure of each cause, and counts the others. Safe for several threads.

    With ``each_failure`` the others pass too; ``short_text`` of their records says which failure is alike.
    """

    def __init__(self, each_failure: bool = False) -> None:
        super().__init__()
        self._each_failure = each_failure
        self._causes: dict[str, _Repeated] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a failure whose cause has been shown."""
        failure: Failure | None = getattr(record, "failure", None)
        if failure is None:
            return True
        with self._lock:
            known = self._causes.setdefault(failure.cause, _Repeated(failure))
            if known.first.subject == failure.subject:
                return True
            known.count += 1
            if len(known.named) < _NAMED:
                known.named.append(failure.subject.partition(" ")[2])
        record.short_text = f"{failure.subject} {failure.likeness} {known.first.subject}"
        return self._each_failure

    def repeated(self) -> Iterator[str]:
        """Yield a sentence for each cause that several failures had."""
        for each in self._causes.values():
            if each.count:
                kind = each.first.subject.partition(" ")[0]
                others = each.count - len(each.named)
                more = f" and {as_count(others, 'other')}, which the log names" if others else ""
                yield (
                    f"{as_count(each.count, f'more {kind}')} {each.first.likeness} {each.first.subject}: "
                    f"{', '.join(each.named)}{more}"
                )
