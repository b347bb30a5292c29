"""Summary line of an update, as it is expected."""

NOTHING = "none new, all that are selected complete"


def numbers(
    discovered: int = 0,
    selected: int = 0,
    complete: int = 0,
    failed: int = 0,
    skipped: int = 0,
    left: int = 0,
    word: str = "extracted",
) -> str:
    """Return the line's numbers of filesets; ``word`` is that for the complete ones."""
    if not selected:
        return f"{discovered} discovered, none selected" if discovered else NOTHING
    return (
        f"{discovered} discovered, {selected} selected: {complete} {word}, "
        f"{failed} failed, {skipped} skipped, {left} left"
    )


def stopped(discovered: int, complete: int) -> str:
    """Return the numbers of a run that was stopped, without a failure."""
    line = numbers(discovered, discovered, complete, left=discovered - complete)
    return line.replace("0 skipped, ", "0 skipped; stopped with ")
