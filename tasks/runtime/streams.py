"""Standard output and error that stop no run: closed, on a full disk, without a reader, or not in UTF-8."""

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _LossyFile(io.FileIO):
    """Standard output or error; what cannot be written is dropped, and ``error`` is the last reason."""

    error: OSError | None = None

    def write(self, content: "ReadableBuffer") -> int:
        """Return the length of the content, written or dropped."""
        size = memoryview(content).nbytes
        try:
            written = super().write(content)
        except OSError as error:
            self.error = error
            return size
        # None: a non-blocking pipe or terminal is full.
        return size if written is None else written


def use_lossy_streams() -> None:
    """Replace standard output and error, unless another program has replaced them.

    Characters that the encoding lacks are written as escapes.
    """
    _open_closed_descriptors()
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _lossy(1, sys.stdout)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _lossy(2, sys.stderr)


def output_error() -> OSError | None:
    """Return the last reason why standard output could not be written; None if all of it was written."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, _LossyFile) else None


def _open_closed_descriptors() -> None:
    """Open those of the first three descriptors that are closed.

    Else a file of the mirror would get the descriptor, and with it all output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _lossy(descriptor: int, before: TextIO | None) -> TextIO:
    if before is not None:
        before.flush()
    raw = io.BufferedWriter(_LossyFile(descriptor, "w", closefd=False))
    encoding = before.encoding if before is not None else "utf-8"
    return io.TextIOWrapper(raw, encoding, errors="backslashreplace", line_buffering=True)
