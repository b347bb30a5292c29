"""Line that ends an update."""


def numbers(
    discovered: int = 0, due: int = 0, completed: int = 0, failed: int = 0, left: int | str = 0
) -> str:
    """Return the line's numbers of filesets, with all but those that are skipped."""
    return f"{discovered} discovered, {due} due: {completed} completed, {failed} failed, {left} left"


def stopped(discovered: int, completed: int) -> str:
    """Return the numbers of a run that was stopped, without a failure."""
    return numbers(discovered, discovered, completed, left=f"stopped, {discovered - completed}")
