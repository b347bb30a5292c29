"""Results as plain text, for the terminal."""

from collections.abc import Sequence

from bench.measure import Run, Spread


def print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print the rows below their title; the first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"\n{title}")
    for row in rows:
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(value.rjust(width) for value, width in others)]
        print("  " + "  ".join(cells).rstrip())
    print(flush=True)


def comparison_table(runs: dict[str, list[Run]], peers: Sequence[str], size: int) -> list[list[str]]:
    """Return a row for each tool; ``size`` is the bytes fetched, ratios are to the best peer."""
    times = {name: Spread.of([run.seconds for run in each]) for name, each in runs.items()}
    best = min((times[name].median for name in peers if name in times), default=None)
    rows = [["", "seconds", "min-max", "ratio to best peer", "MB/s", "CPU s/GB", "peak MB"]]
    for name, each in runs.items():
        time = times[name]
        rows.append(
            [
                name,
                f"{time.median:.2f}",
                f"{time.least:.2f}-{time.most:.2f}",
                f"{time.median / best:.2f}" if best else "-",
                f"{size / time.median / 1e6:.0f}",
                f"{Spread.of([run.cpu_seconds for run in each]).median / size * 1e9:.1f}",
                f"{max(run.peak_bytes for run in each) / 1e6:.0f}",
            ]
        )
    return rows


def measured_cells(runs: Sequence[Run]) -> list[str]:
    """Return seconds, their range, CPU seconds and peak of memory of the runs."""
    time = Spread.of([run.seconds for run in runs])
    return [
        f"{time.median:.2f}",
        f"{time.least:.2f}-{time.most:.2f}",
        f"{Spread.of([run.cpu_seconds for run in runs]).median:.2f}",
        f"{max(run.peak_bytes for run in runs) / 1e6:.0f}",
    ]
