"""Outlook of a mirror: how much of what is selected is here, and when the rest will be."""

from dataclasses import dataclass

from pipeline.reporting.history import WHOLE_RUNS
from pipeline.reporting.report import MirrorReport
from pipeline.units import as_duration, as_size


@dataclass(frozen=True)
class Outlook:
    """Sums over the products: filesets, bytes in ``store/``, bytes that are to be fetched.

    ``bytes_left`` is a rough estimate where ``bytes_left_known`` is False. ``size_left`` is its text: empty
    while a run shows its own estimate, which rests on the listings that it has read. ``seconds_left`` is None
    where it cannot be estimated: until all is here while an update works, else the time that one will take.
    ``pace`` is the rate that it rests on, as text.
    """

    known: int
    selected: int
    complete: int
    left: int
    failed: int
    skipped: int
    withdrawn: int
    bytes: int
    bytes_left: int
    bytes_left_known: bool
    size_left: str
    seconds_left: int | None
    pace: str

    @property
    def time_left(self) -> str:
        """The time until all is here, as text; nothing where it is not known."""
        return "" if self.seconds_left is None else as_duration(self.seconds_left)


def outlook(report: MirrorReport) -> Outlook:
    """Return the outlook of a mirror."""
    products = report.products
    numbers = {
        name: sum(getattr(product.filesets, name) for product in products)
        for name in ("known", "selected", "complete", "left", "skipped", "withdrawn")
    }
    failed = sum(product.failed for product in products)
    bytes_left = sum(product.bytes_left for product in products)
    is_known = all(product.bytes_left_known for product in products)
    # What failed is not a matter of time.
    is_coming = numbers["left"] > failed and (is_known or bytes_left > 0)
    seconds, pace = _time_left(report, bytes_left) if is_coming else (None, "")
    return Outlook(
        **numbers,
        failed=failed,
        bytes=sum(product.bytes for product in products),
        bytes_left=bytes_left,
        bytes_left_known=is_known,
        size_left="" if _shows_own(report) else _size_left(bytes_left, is_known),
        seconds_left=seconds,
        pace=pace,
    )


def _shows_own(report: MirrorReport) -> bool:
    """Return True while a run that fetches all that is selected shows how much of that is left."""
    progress = report.progress
    return progress is not None and progress.task in WHOLE_RUNS and progress.bytes_left > 0


def _size_left(bytes_left: int, is_known: bool) -> str:
    return f"{'about' if is_known else 'roughly'} {as_size(bytes_left)}" if bytes_left else ""


def _time_left(report: MirrorReport, bytes_left: int) -> tuple[int | None, str]:
    """Return the seconds of fetching, and the rate: of the run that works, else that of an update."""
    progress = report.progress
    if progress is not None:
        fetches = progress.task in WHOLE_RUNS
        return (progress.seconds_left, f"{as_size(progress.rate)}/s") if fetches else (None, "")
    is_waiting = report.holder is None or not report.holder.is_alive
    if not report.rate or not bytes_left or not is_waiting or report.paused or report.volumes:
        return None, ""
    return round(bytes_left / report.rate), f"{as_size(report.rate)}/s"


def outlook_text(report: MirrorReport) -> str:
    """Return in one line how much of what is selected is here, and when the rest will be."""
    found = outlook(report)
    said = [_here(found)]
    if found.left:
        said.append(when_here(report))
    elif report.last_success is None:
        said.append("not all products are gone through yet")
    if report.volumes:
        said.append("not all disks can be used")
    return "; ".join(said)


def _here(found: Outlook) -> str:
    if not found.selected:
        return f"none of {found.known:,} known filesets is selected" if found.known else "no fileset is known"
    if not found.left:
        here = "here or skipped" if found.skipped else "here"
        if found.selected == 1:
            return f"the selected fileset is {here}"
        return f"all {found.selected:,} selected filesets are {here}"
    size = f", {found.size_left}" if found.size_left else ""
    noun = "fileset" if found.selected == 1 else "filesets"
    return f"{found.left:,} of {found.selected:,} selected {noun} left{size}"


def when_here(report: MirrorReport) -> str:
    """Return when what is left will be here, or why that is not known."""
    found = outlook(report)
    is_working = report.holder is not None and report.holder.is_alive
    if found.time_left:
        about = f"about {found.time_left}"
        return f"{f'here in {about}' if is_working else f'{about} of an update'} at {found.pace}"
    if is_working:
        return "a run is at work, the time left is not known"
    if report.paused:
        return "updates are paused"
    if found.left == found.failed:
        return "all of them failed"
    return "no run is at work, the time left is not known"
