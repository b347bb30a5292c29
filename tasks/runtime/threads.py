"""Thread that works for as long as a block of code runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def thread_beside(
    name: str, work: Callable[[threading.Event], None], wait: float | None = None
) -> Iterator[None]:
    """Run ``work`` in a thread; the event that it gets is set at the end of the block.

    Wait then at most ``wait`` seconds for its end.
    """
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(wait)
