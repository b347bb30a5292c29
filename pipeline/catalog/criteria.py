"""Criteria of a search for images."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pipeline import terms
from pipeline.near_names import did_you_mean

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.units import Quantity

KINDS = ("image", "mask", "weight", "other")
Patterns = tuple[str, ...]
Texts = str | Iterable[str] | None
Position = "str | tuple[float, float] | SkyCoord"


@dataclass(frozen=True)
class Criteria:
    """Conditions on images, all of which must hold; one that is None or empty holds for all.

    ``at`` is the centre (ra, dec) of a cone of ``radius``, in degrees, that the image has to meet. The
    exposure starts at ``after`` or later, and before ``before``. All others are shell patterns, one of which
    has to match.
    """

    at: tuple[float, float] | None = None
    radius: float = 0.0
    after: datetime | None = None
    before: datetime | None = None
    arrived_since: datetime | None = None
    kind: Patterns = ("image",)
    stage: Patterns = ()
    filter: Patterns = ()
    exposure: Patterns = ()
    object: Patterns = ()
    skycell: Patterns = ()
    product: Patterns = ()
    data_group: Patterns = ()


def criteria_of(
    at: "str | tuple[float, float] | SkyCoord | None" = None,
    radius: "str | float | Quantity | None" = None,
    night: str | date | None = None,
    after: str | date | None = None,
    before: str | date | None = None,
    arrived_since: str | date | timedelta | None = None,
    kind: Texts = "image",
    **patterns: Texts,
) -> Criteria:
    """Return criteria from values as people write them. Raises ValueError with the expected form.

    Raises TypeError for a criterion of another name.
    """
    _check_names(patterns)
    if night is not None:
        if after is not None or before is not None:
            raise ValueError("expected either a night, or a time after or before which, got both")
        # The date in UTC of a time of any zone.
        after = terms.as_utc(terms.night(night) if isinstance(night, str) else terms.as_utc(night).date())
        try:
            before = after + timedelta(days=1)
        except OverflowError:
            raise ValueError(f"expected a night that ends in the year 9999, got {night}") from None
    if radius is not None and at is None:
        raise ValueError("expected a position with the radius, got none")
    for pattern in _patterns(kind):
        if not any(fnmatchcase(each, pattern) for each in KINDS):
            meant = did_you_mean(pattern, KINDS)
            raise ValueError(
                f"expected a kind of images ({', '.join(KINDS)}), got {pattern!r}.{meant}".rstrip(".")
            )
    return Criteria(
        at=None if at is None else _position(at),
        radius=0.0 if radius is None else _degrees(radius),
        after=_instant(after),
        before=_instant(before),
        arrived_since=_since(arrived_since),
        kind=_patterns(kind),
        **{name: _patterns(texts) for name, texts in patterns.items()},
    )


def _check_names(names: Iterable[str]) -> None:
    known = [*(field.name for field in fields(Criteria)), "night"]
    for name in names:
        if name not in known:
            meant = did_you_mean(name, known) or f" There are {', '.join(sorted(known))}."
            raise TypeError(f"expected a criterion of images, got {name!r}.{meant}")


def _position(at: "str | tuple[float, float] | SkyCoord") -> tuple[float, float]:
    if isinstance(at, str):
        return terms.position(at)
    if isinstance(at, tuple | list):
        ra, dec = at
        return terms.checked_position(float(ra), float(dec))
    return float(at.icrs.ra.deg), float(at.icrs.dec.deg)


def _degrees(radius: "str | float | Quantity") -> float:
    if isinstance(radius, str):
        return terms.angle(radius)
    return terms.checked_radius(float(radius.to_value("deg") if hasattr(radius, "to_value") else radius))


def _instant(time: str | date | None) -> datetime | None:
    if time is None:
        return None
    return terms.instant(time) if isinstance(time, str) else terms.as_utc(time)


def _since(time: str | date | timedelta | None) -> datetime | None:
    if isinstance(time, timedelta):
        return datetime.now(UTC) - time
    return terms.since(time) if isinstance(time, str) else _instant(time)


def _patterns(texts: Texts) -> Patterns:
    return (texts,) if isinstance(texts, str) else tuple(texts or ())
