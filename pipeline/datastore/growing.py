"""A part of a file for one who reads it while it comes: how far it can be read, and whether that still holds.

What is read before the whole file was verified is good for nothing unless the very same bytes are verified in
the end. So whoever writes the part says first when bytes that were announced may become others, and
whoever reads looks after each read whether that was said.
"""

import io
import threading
from pathlib import Path


class GivenUp(Exception):
    """What was read of a growing part is not what the file will be, or no more of it will come."""


class Growing:
    """How far a part is whole from its start. Safe for use by several threads."""

    def __init__(self) -> None:
        self._whole = 0
        self._given_up = False
        self._changed = threading.Condition()

    def whole_to(self, end: int) -> None:
        """All bytes up to ``end`` are in the part, for others to read."""
        with self._changed:
            self._whole = max(self._whole, end)
            self._changed.notify_all()

    def start_afresh(self) -> None:
        """Said before the part is emptied or removed: what was announced does not hold any more."""
        with self._changed:
            if self._whole:
                self.give_up()

    def give_up(self) -> None:
        """Let go of whoever reads."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def check(self) -> None:
        """Raise GivenUp when what was announced until now does not hold."""
        if self._given_up:
            raise GivenUp

    def beyond(self, at: int) -> int:
        """Up to where it is whole, once that is further than ``at``. Raises GivenUp."""
        with self._changed:
            self._changed.wait_for(lambda: self._given_up or self._whole > at)
            self.check()
            return self._whole


class GrowingFile(io.RawIOBase):
    """The file of ``size`` bytes that grows in ``part``, and has the name ``final`` when it is whole.

    To be read from its start to its end, by one thread. A read waits until there are bytes. Raises GivenUp.
    """

    def __init__(self, growing: Growing, size: int, part: Path, final: Path) -> None:
        self._growing = growing
        self._size = size
        self._paths = (part, final)
        self._file: io.FileIO | None = None
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Said to be: gzip then knows how far it is. Nobody goes back in it."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill the buffer with what is there, at least one byte before the end."""
        if self._at == self._size:
            return 0
        end = self._growing.beyond(self._at)
        if self._file is None:
            self._file = self._opened()
        count = self._file.readinto(memoryview(buffer)[: end - self._at])
        # After the read: what changed before this moment is not taken for what was announced.
        self._growing.check()
        self._at += count
        return count

    def close(self) -> None:
        """Close the part."""
        if self._file is not None:
            self._file.close()
        super().close()

    def _opened(self) -> io.FileIO:
        part, final = self._paths
        try:
            return io.FileIO(part)
        except FileNotFoundError:
            return io.FileIO(final)
