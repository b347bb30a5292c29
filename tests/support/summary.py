"""Line that ends an update."""


def numbers(
    discovered: int = 0,
    selected: int = 0,
    complete: int = 0,
    failed: int = 0,
    skipped: int = 0,
    left: int | str = 0,
    word: str = "extracted",
) -> str:
    """Return the line's numbers of filesets; ``word`` is that for the complete ones."""
    return (
        f"{discovered} discovered, {selected} selected: {complete} {word}, "
        f"{failed} failed, {skipped} skipped, {left} left"
    )


def stopped(discovered: int, complete: int) -> str:
    """Return the numbers of a run that was stopped, without a failure."""
    return numbers(discovered, discovered, complete, left=f"stopped, {discovered - complete}")
