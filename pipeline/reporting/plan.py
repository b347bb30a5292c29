"""Plan of an update as one value: what is fetched, how much that is, how long it takes, whether it fits."""

from dataclasses import dataclass, field, replace
from itertools import dropwhile
from pathlib import Path
from typing import Any

from pipeline.errors import (
    EXIT_DONE,
    EXIT_FILESET_FAILED,
    EXIT_SETTINGS_OR_BUG,
    MirrorError,
    without_next_try,
)
from pipeline.reporting.amounts import Amount
from pipeline.reporting.history import FetchRate


@dataclass(frozen=True)
class ProductPlan:
    """Plan of one product, in filesets unless said otherwise.

    ``due`` are done by the next update, of which ``to_fetch`` are downloaded and the others only unpacked;
    ``to_expire`` are deleted at its end.
    The ``amount`` of ``estimated`` ones is that of others of their stage; ``unknown`` ones have none, as
    there is no other. ``problems`` are sentences on what could not be determined, and on a selection of
    nothing; ``code`` is the exit code. ``unanswered`` is True where the server gave no answer at all.
    """

    product: str
    known: int = 0
    new: int = 0
    selected: int = 0
    complete: int = 0
    skipped: int = 0
    postponed: int = 0
    due: int = 0
    to_fetch: int = 0
    to_expire: int = 0
    amount: Amount = field(default_factory=Amount)
    estimated: int = 0
    unknown: int = 0
    problems: tuple[str, ...] = ()
    code: int = 0
    unanswered: bool = False

    def with_problem(self, error: MirrorError) -> "ProductPlan":
        """Return the plan with one more problem."""
        # A plan is no run that tries again.
        problems = (*self.problems, f"{without_next_try(str(error)).removesuffix('.')}.")
        return replace(self, problems=problems, code=max(self.code, error.exit_code))

    def numbers(self) -> dict[str, Any]:
        """Return the plan as ``ipp-mirror plan --json`` prints it."""
        names = (
            "known",
            "new",
            "selected",
            "complete",
            "skipped",
            "postponed",
            "due",
            "to_fetch",
            "to_expire",
        )
        return {
            "product": self.product,
            **{name: getattr(self, name) for name in names},
            "files": round(self.amount.files),
            "bytes": round(self.amount.bytes),
            "estimated": self.estimated,
            "unknown": self.unknown,
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class DiskPlan:
    """File system of ``folder``, in bytes: ``missing`` beside those ``needed`` and those that stay free."""

    folder: Path
    free: int
    min_free: int
    needed: int

    @property
    def missing(self) -> int:
        """Bytes that are to be freed before all that is due can be fetched; 0 where nothing is needed."""
        return max(0, self.needed + self.min_free - self.free) if self.needed else 0


@dataclass(frozen=True)
class Plan:
    """Plan of an update. ``volumes`` are sentences on volumes because of which it cannot begin.

    ``fetched`` is the rate of the last runs, ``rate`` the same within the limit of the settings, in bytes per
    second; the limit itself where no run fetched enough, None without a limit.
    """

    products: list[ProductPlan]
    volumes: list[str]
    disks: list[DiskPlan]
    fetched: FetchRate | None
    rate: float | None

    @property
    def not_asked(self) -> list[str]:
        """Products of which the server was not asked, as it had given no answer for the one before them."""
        unanswered = dropwhile(lambda product: not product.unanswered, self.products)
        return [product.product for product in unanswered][1:]

    @property
    def bytes(self) -> float:
        """Bytes to fetch, in all products."""
        return sum(product.amount.bytes for product in self.products)

    @property
    def seconds(self) -> float | None:
        """Time to fetch them in seconds; None where no rate is known."""
        return self.bytes / self.rate if self.rate else None

    @property
    def code(self) -> int:
        """Exit code of ``ipp-mirror plan``: that with which the update will end, as far as is known."""
        codes = [product.code for product in self.products]
        if self.volumes:
            codes.append(EXIT_SETTINGS_OR_BUG)
        if any(disk.missing for disk in self.disks):
            codes.append(EXIT_FILESET_FAILED)
        return max(codes, default=EXIT_DONE)

    def numbers(self) -> dict[str, Any]:
        """Return the plan as ``ipp-mirror plan --json`` prints it."""
        return {
            "volumes": self.volumes,
            "products": [product.numbers() for product in self.products],
            "not_asked": self.not_asked,
            "bytes": round(self.bytes),
            "rate": self.rate and round(self.rate),
            "rate_runs": None if self.fetched is None else self.fetched.runs,
            "seconds": None if self.seconds is None else round(self.seconds),
            "disks": [
                {
                    "folder": str(disk.folder),
                    "free": disk.free,
                    "min_free": disk.min_free,
                    "needed": disk.needed,
                    "missing": disk.missing,
                }
                for disk in self.disks
            ],
        }
