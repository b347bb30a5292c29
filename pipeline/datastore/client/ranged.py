"""Fetching a large file in pieces, over all connections that would stand idle.

Rules (protocol notes, "Files"):

* The first request is for the first piece. A server that answers with the whole file is taken at its word:
  it comes over that one connection, and nothing was asked for twice.
* A server that answers with the piece and a strong ETag is asked for the others under that ETag, by
  whoever has nothing else to do. Anything but such a piece as the answer, another ETag for
  example, means that the file cannot be had in pieces: it starts afresh over one connection.
* The md5 follows the bytes that are whole from the start, while others come in.
"""

import hashlib
import threading
from functools import partial
from pathlib import Path

import requests

from pipeline.datastore.client.fetch_pool import Connections
from pipeline.datastore.client.http import CHUNK_BYTES
from pipeline.datastore.client.partial import STRONG_ETAG, Piece, Pieces
from pipeline.datastore.client.transfer import Transfer, chunks

WORTH_SPLITTING_BYTES = 16 << 20
SMALL_PIECE_BYTES = 2 << 20
_LEAST_PIECE_BYTES = 1 << 20
_MOST_PIECE_BYTES = 64 << 20
# How much may come between two notes: after a kill so much comes again, beside what was on its way.
_NOTED_BYTES = 8 << 20
# Chunks that the md5 goes on at most for each that comes in: a connection is not kept waiting for long.
_CHUNKS_AT_A_TIME = 8


def fetch(transfer: Transfer, connections: Connections) -> None:
    """Fetch the file, in pieces where that is worth it. Called by one of the connections.

    Raises as ``Transfer.fetch``.
    """
    worth = transfer.row.bytes >= WORTH_SPLITTING_BYTES and transfer.row.md5 and connections.count > 1
    if worth:
        SplitTransfer(transfer, connections).fetch()
    else:
        transfer.fetch()


class OneConnectionOnly(Exception):
    """The answer was not the piece that was asked for."""


class SplitTransfer:
    """One large file on its way, as ``Transfer`` has it, by several connections."""

    def __init__(self, transfer: Transfer, connections: Connections) -> None:
        self._transfer = transfer
        self._connections = connections
        known = transfer.note.read(_length(transfer.partial))
        held = known.held if known else []
        self._etag = known.etag if known and held else None
        self._pieces = Pieces(transfer.row.bytes, held)
        self._md5 = _Following(self._pieces, transfer.partial)
        self._tried = self._begun = self._came_whole = False
        self._changed = threading.Condition()
        self._busy = 0
        self._error: BaseException | None = None
        self._piece_bytes = self._of_that_size = 0
        self._not_noted = 0

    def fetch(self) -> None:
        """Fetch the file, called by one of the connections. Raises as ``Transfer.fetch``."""
        self._transfer.store.patiently(self._attempt)
        self._transfer.note.forget()

    def _attempt(self) -> None:
        """The first try is in pieces. When they make no file, one connection decides."""
        if self._tried:
            self._transfer.attempt()
            return
        self._tried = True
        try:
            self._in_pieces()
        except OneConnectionOnly:
            self._transfer.forget()
            self._transfer.attempt()

    def _in_pieces(self) -> None:
        while self._fetch_next():
            pass
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
        if self._error:
            if self._begun:
                self._write_note()
            raise self._error
        if not self._came_whole:
            self._transfer.check(self._md5.end())

    def _fetch_next(self) -> bool:
        """Fetch one piece; whether there may be another. What goes wrong is left to ``_in_pieces``."""
        piece = self._take()
        if piece is None:
            return False
        try:
            self._transfer.store.patiently(partial(self._ask_for, piece))
        except BaseException as error:
            self._error = self._error or error
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()
        return True

    def _take(self) -> Piece | None:
        with self._changed:
            missing = self._pieces.missing
            if self._error or self._came_whole or not missing:
                return None
            self._busy += 1
            if not self._of_that_size:
                hands = self._busy + self._connections.idle
                self._piece_bytes = piece_bytes(missing, hands, _MOST_PIECE_BYTES)
                self._of_that_size = hands
            self._of_that_size -= 1
            return self._pieces.take(self._piece_bytes)

    def _ask_for(self, piece: Piece) -> None:
        if self._error or piece.at == piece.end:
            return
        if self._came_whole:
            self._transfer.attempt()
            return
        with self._transfer.store.get(self._transfer.url, self._headers(piece)) as response:
            if response.status_code == 200 and not self._begun:
                self._came_whole = True
                self._transfer.take_whole(response)
                return
            self._transfer.refuse(response, good=(200, 206, 416))
            self._begin_under(self._etag_of(piece, response))
            self._receive(piece, response)

    def _headers(self, piece: Piece) -> dict[str, str]:
        asked = {"Range": f"bytes={piece.at}-{piece.end - 1}"}
        return asked | ({"If-Range": self._etag} if self._etag else {})

    def _etag_of(self, piece: Piece, response: requests.Response) -> str:
        """The ETag of a piece as it was asked for. Raises OneConnectionOnly for anything else."""
        size = self._transfer.row.bytes
        etag = response.headers.get("ETag", "")
        as_asked = (
            response.status_code == 206
            and response.headers.get("Content-Range") == f"bytes {piece.at}-{piece.end - 1}/{size}"
            and response.headers.get("Content-Length") in {None, str(piece.end - piece.at)}
        )
        if as_asked and STRONG_ETAG.fullmatch(etag) and etag == (self._etag or etag):
            return etag
        raise OneConnectionOnly

    def _begin_under(self, etag: str) -> None:
        """Make ready for pieces of any place, and call for the other connections."""
        if self._begun:
            return
        self._etag = etag
        # The note comes before the size, which would otherwise be taken for what has come.
        self._write_note()
        with open(self._transfer.partial, "ab") as part:
            part.truncate(self._transfer.row.bytes)
        self._begun = True
        for _ in range(self._connections.count - 1):
            self._connections.when_idle(self._fetch_next)

    def _receive(self, piece: Piece, response: requests.Response) -> None:
        with open(self._transfer.partial, "r+b") as part:
            part.seek(piece.at)
            for chunk in chunks(response, piece.end - piece.at):
                if self._error:
                    return
                if len(chunk) > piece.end - piece.at:
                    raise OneConnectionOnly
                self._transfer.received(len(chunk))
                part.write(chunk)
                part.flush()
                piece.at += len(chunk)
                self._came(len(chunk))
        if piece.at < piece.end:
            raise self._transfer.try_again(f"expected bytes up to {piece.end}, got them up to {piece.at}")

    def _came(self, count: int) -> None:
        with self._changed:
            self._not_noted += count
            if self._not_noted >= _NOTED_BYTES:
                self._write_note()
        self._md5.go_on(_CHUNKS_AT_A_TIME * CHUNK_BYTES)

    def _write_note(self) -> None:
        self._not_noted = 0
        self._transfer.note.write(self._etag, self._pieces.held())


class _Following:
    """The md5 of what is whole from the start of a part."""

    def __init__(self, pieces: Pieces, part: Path) -> None:
        self._pieces = pieces
        self._part = part
        self._digest = hashlib.md5(usedforsecurity=False)
        self._taken_in = 0
        self._lock = threading.Lock()

    def go_on(self, at_most: int) -> None:
        """Take in so many more bytes at most, unless another thread is at it."""
        if self._lock.acquire(blocking=False):
            try:
                self._take_in(min(self._pieces.whole_to(), self._taken_in + at_most))
            finally:
                self._lock.release()

    def end(self) -> "hashlib._Hash":
        """The md5 of all that is whole."""
        with self._lock:
            self._take_in(self._pieces.whole_to())
        return self._digest

    def _take_in(self, end: int) -> None:
        if end == self._taken_in:
            return
        with open(self._part, "rb", buffering=0) as part:
            part.seek(self._taken_in)
            while chunk := part.read(min(CHUNK_BYTES, end - self._taken_in)):
                self._digest.update(chunk)
                self._taken_in += len(chunk)


def piece_bytes(missing: int, hands: int, most: int) -> int:
    """How large the next pieces are, one for each of so many connections, but not larger than ``most``.

    They take two thirds of what is missing, so that pieces become smaller and all connections end at about
    the same time, however fast each is. The last ones are not split further: each is one more request.
    """
    share = -(-missing // hands)
    if share > 2 * SMALL_PIECE_BYTES:
        share = share * 2 // 3
    return max(_LEAST_PIECE_BYTES, min(share, most))


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
