"""Filesets of a server far away: what is asked for before the answer to something else has ended."""

import hashlib
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import Follower, tree
from scripted_server import Answers, Asked, Scripted, Withheld, answer, scripted

from pipeline.datastore import transfer
from pipeline.datastore.client import DataStore
from pipeline.errors import FilesFailed, ServerUnavailable
from pipeline.mirror.context import Site, open_site
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.steps import download
from pipeline.mirror.steps.download import Download

PATIENCE_SECONDS = 60
LARGE = random.Random(1).randbytes(1_500_000)
SMALL = {name: random.Random(name).randbytes(5_000) for name in ("b", "c")}
MANY = {f"{number}.fits": random.Random(number).randbytes(5_000) for number in range(6)}
FILES = {"a": {"a.fits": LARGE}, **{name: {f"{name}.fits": SMALL[name]} for name in SMALL}, "many": MANY}
# Files of "many" that are listed without an md5.
UNSURE: set[str] = set()


@pytest.fixture(autouse=True)
def far(monkeypatch) -> None:
    """A server that counts as far; the next request goes out with the first bytes, always."""
    monkeypatch.setattr(DataStore, "far_seconds", 0.1)
    monkeypatch.setattr(transfer, "EARLY_ROUND_TRIPS", 1e6)
    monkeypatch.setattr(download, "TURN_SECONDS", PATIENCE_SECONDS)


def true_answer(asked: Asked) -> bytes:
    """What an honest server says to it: chunked for listings, as they come."""
    fileset, name = unquote(asked.target).split("/")[-2:]
    if name != "index.txt":
        return answer(body=FILES[fileset][name])
    rows = "".join(
        f"{file}|{len(content)}|{'' if file in UNSURE else hashlib.md5(content).hexdigest()}|fits|null|\n"
        for file, content in FILES[fileset].items()
    )
    listing = f"# fileID|bytes|md5sum|type|component|\n{rows}\n".encode()
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(listing), listing)
    return answer(body=body, Content_Length="", Transfer_Encoding="chunked")


class Downloads:
    """Downloads of one process, each in a thread of its own.

    ``pauses`` are those before something was tried again, in seconds.
    """

    def __init__(self, site: Site, threads: ThreadPoolExecutor, pauses: list[float]) -> None:
        self.pauses = pauses
        self._site = site
        self._threads = threads

    def begin(self, fileset: str) -> Future:
        """Begin with a fileset."""
        work = Download(self._site, Fileset("p", fileset, "2009-07-29T00:00:01Z"), lambda *_: None)
        return self._threads.submit(work.run)

    def wait_for_listings(self, count: int) -> None:
        """Wait until so many are to be asked for next."""
        until = time.monotonic() + PATIENCE_SECONDS
        while len(self._site.connections._waiting) < count:
            assert time.monotonic() < until, "no listing waits for the connection"
            time.sleep(0.001)


@contextmanager
def downloads(
    follower: Follower,
    server: Scripted,
    pause: Callable[[float], None] = lambda _: None,
    connections: int = 1,
) -> Iterator[Downloads]:
    follower.url = server.url
    follower.source |= {"connections": connections, "attempts": 2}
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        pause(seconds)

    with ThreadPoolExecutor() as threads, open_site(follower.config, sleep) as site:
        yield Downloads(site, threads, pauses)


@dataclass
class Ended:
    """How downloads ended; ``others`` are those that were begun while another one was at work."""

    server: Scripted
    pauses: list[float]
    others: list[Future]


def while_a_large_file_comes(follower: Follower, listings: Answers = true_answer) -> Ended:
    """The file has its end withheld until the next two requests are here: those for the other listings."""
    others: list[Future] = []

    def answers(asked: Asked) -> bytes | Withheld:
        whole = true_answer(asked)
        if asked.target.endswith("/a.fits"):
            others.extend(running.begin(name) for name in SMALL)
            running.wait_for_listings(2)
            return Withheld(whole[:-1000], whole[-1000:], requests=2)
        return listings(asked) if asked.target.endswith("/index.txt") else whole

    with scripted(answers) as server, downloads(follower, server) as running:
        running.begin("a").result(PATIENCE_SECONDS)
        wait(others, PATIENCE_SECONDS)
    return Ended(server, running.pauses, others)


def stored(root: Path) -> dict[str, bytes]:
    return {path: content for path, content in tree(root / "store").items() if path.endswith(".fits")}


def stored_as_published(*filesets: str) -> dict[str, bytes]:
    return {
        f"p/{fileset}/{name}": content for fileset in filesets for name, content in FILES[fileset].items()
    }


def test_listings_come_behind_a_file_without_a_pause(follower):
    ended = while_a_large_file_comes(follower)
    assert [other.exception() for other in ended.others] == [None, None]
    assert ended.server.connections == 1
    assert len(ended.server.asked) == 6
    assert ended.pauses == []
    assert stored(follower.root) == stored_as_published("a", "b", "c")


@pytest.mark.parametrize(
    "bad",
    [answer("503 Service Unavailable"), answer(body=b"<html>"), b""],
    ids=["503", "no listing", "hangs up"],
)
def test_a_listing_that_fails_holds_up_nothing_that_was_asked_for_with_it(bad, follower):
    refused: list[Asked] = []

    def listings(asked: Asked) -> bytes:
        if "/a/" in asked.target or refused:
            return true_answer(asked)
        refused.append(asked)
        return bad

    ended = while_a_large_file_comes(follower, listings)
    assert [other.exception() for other in ended.others] == [None, None]
    assert len(refused) == 1
    assert stored(follower.root) == stored_as_published("a", "b", "c")


def test_a_listing_that_cannot_be_had_fails_its_fileset_alone(follower):
    def listings(asked: Asked) -> bytes:
        return answer("404 Not Found") if "/b/" in asked.target else true_answer(asked)

    ended = while_a_large_file_comes(follower, listings)
    failed, done = (other.exception() for other in ended.others)
    assert isinstance(failed, ServerUnavailable)
    assert "404 Not Found" in str(failed)
    assert done is None
    assert stored(follower.root) == stored_as_published("a", "c")


def test_a_listing_does_not_wait_for_connections_that_wait(follower, monkeypatch):
    """The server wants a file to be asked for again later; what else it has can be had meanwhile."""
    monkeypatch.setattr(download, "TURN_SECONDS", 0.05)
    refused: list[Asked] = []

    def answers(asked: Asked) -> bytes:
        if asked.target.endswith("/a.fits") and not refused:
            refused.append(asked)
            return answer("503 Service Unavailable", Retry_After="17")
        return true_answer(asked)

    def pause(seconds: float) -> None:
        assert seconds == 17
        running.begin("b").result(PATIENCE_SECONDS)

    with scripted(answers) as server, downloads(follower, server, pause) as running:
        running.begin("a").result(PATIENCE_SECONDS)
    assert stored(follower.root) == stored_as_published("a", "b")


@pytest.mark.parametrize("connections", [1, 2, 3])
def test_filesets_of_every_kind_together_keep_to_the_connections(connections, follower):
    """A large file in its turn, small ones in a row, and listings, each round anew."""
    with scripted(true_answer) as server, downloads(follower, server, connections=connections) as running:
        for _ in range(5):
            begun = [running.begin(name) for name in FILES]
            assert [each.result(PATIENCE_SECONDS) for each in begun] == [None] * len(FILES)
            assert stored(follower.root) == stored_as_published(*FILES)
            shutil.rmtree(follower.root / "store")
            shutil.rmtree(follower.root / "state" / "p")
    assert server.most_open == server.connections <= connections
    assert running.pauses == []


def small_files_together(follower: Follower, bad: bytes | None = None, at: int | None = None) -> Ended:
    """How a fileset of small files comes when the first has its end withheld until all others are asked for.

    ``bad`` is the first answer to the one ``at`` that place.
    """
    refused: list[Asked] = []

    def answers(asked: Asked) -> bytes | Withheld:
        if bad is not None and asked.target.endswith(f"/{at}.fits") and not refused:
            refused.append(asked)
            return bad
        whole = true_answer(asked)
        first = asked.target.endswith("/0.fits")
        return Withheld(whole[:1000], whole[1000:], requests=5) if first else whole

    with scripted(answers) as server, downloads(follower, server) as running:
        running.begin("many").result(PATIENCE_SECONDS)
    assert stored(follower.root) == stored_as_published("many")
    return Ended(server, running.pauses, [])


def test_the_small_files_of_a_fileset_are_asked_for_together(follower):
    """All of them when the first begins, over its connection."""
    ended = small_files_together(follower)
    assert ended.server.connections == 1
    assert len(ended.server.asked) == 7


def test_the_start_of_the_next_file_is_not_taken_for_the_end_of_one_without_md5(follower, monkeypatch):
    """That is too short, on a connection that stays: nothing is asked for behind it."""
    monkeypatch.setitem(globals(), "UNSURE", {"2.fits"})
    follower.source["timeout"] = 0.5

    def answers(asked: Asked) -> bytes:
        whole = true_answer(asked)
        return whole[:-1000] if asked.target.endswith("/2.fits") else whole

    with (
        scripted(answers) as server,
        downloads(follower, server) as running,
        pytest.raises(FilesFailed) as failed,
    ):
        running.begin("many").result(PATIENCE_SECONDS)
    assert list(failed.value.reasons) == ["2.fits"]
    assert "TimeoutError" in str(failed.value)


@pytest.mark.parametrize("bad", [answer("503 Service Unavailable"), b""], ids=["503", "hangs up"])
@pytest.mark.parametrize("at", range(1, 6))
def test_what_was_asked_for_behind_a_file_that_could_not_be_had_is_asked_for_again(at, bad, follower):
    ended = small_files_together(follower, bad, at)
    asked = Counter(unquote(each.target).split("/")[-1] for each in ended.server.asked)
    assert asked == {"index.txt": 1} | {name: 1 if number < at else 2 for number, name in enumerate(MANY)}
    assert ended.pauses == []
