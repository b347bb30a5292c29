"""Bundles from a far server are unpacked while they come: with the same outcome, whatever happens."""

import asyncio
import io
import json
import random
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable
from functools import cache
from hashlib import md5
from pathlib import Path
from threading import Event

import pytest
from conftest import File, Follower, Upstream, bundle, dirinfo, ended, served_filesets
from running import Running, leftovers, started, tree_is_true, until
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.bundle.unpack import temporary_name
from pipeline.datastore import habits
from pipeline.datastore.client import FAR_SECONDS
from pipeline.datastore.habits import Habit
from pipeline.mirror.state.layout import short_digest

PRODUCT = "md-all-rel-200907"
CHIP = "o1.chip.1.1.1"
NAME = f"{CHIP}.XY01.tgz"
LARGE = f"{PRODUCT}/{CHIP}/{NAME}"
FIRST = "gpc1/MD01/o1.XY01/a.fits"
# The server holds back what comes after so many bytes of the bundle.
HELD_AT = 9 << 20
DUMP = b"FILES METADATA\n\tINPUT METADATA\n\t\tA STR /data/ipp001.0/gpc1/x.fits\n\tEND\nEND\n"


@cache
def members(seed: int = 1) -> dict[str, bytes]:
    """What the large bundle holds: an early member, a config dump, and 18 MB that do not shrink."""
    noise = random.Random(seed).randbytes(18 << 20)
    return {"a.fits": noise[: 1 << 20], "a.mdc": DUMP, "deep/b.fits": noise, "c.fits": b"%d" % seed}


def archive(content: dict[str, bytes], *last: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An archive of honest members, and then others. It is as large as they are."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz", compresslevel=0) as written:
        for name, content_of_one in content.items():
            written.addfile(member(name, len(content_of_one)), io.BytesIO(content_of_one))
        for info, content_of_one in last:
            written.addfile(info, io.BytesIO(content_of_one))
    return whole.getvalue()


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, "/etc/passwd"
    return info


@cache
def packed(seed: int = 1) -> bytes:
    return archive(members(seed))


def add(upstream: Upstream, content: bytes, **listed: str) -> None:
    """Register the fileset of a large bundle and a small one, its dirinfo behind them."""
    upstream.add(
        PRODUCT,
        CHIP,
        [
            File(NAME, content, "tgz", "XY01", listed),
            File(f"{CHIP}.XY02.tgz", bundle({"d.fits": b"D" * 3000}), "tgz", "XY02"),
            File(
                f"dirinfo.{CHIP}.mdc",
                dirinfo("gpc1/MD01", {"XY01": "o1.XY01", "XY02": "o1.XY02"}),
                "text",
                "dirinfo",
            ),
        ],
    )


@pytest.fixture
def release(upstream: Upstream, server, follower: Follower) -> Upstream:
    """A release on a server that is far away."""
    add(upstream, packed())
    server.habits.append(habits.delays(4 * FAR_SECONDS))
    return upstream


def complete(follower: Follower, release: Upstream, seed: int = 1) -> None:
    """As a mirror that unpacks a bundle when it is here."""
    assert follower.content("store") == served_filesets(release)
    local = DUMP.replace(b"/data/ipp001.0", str(follower.root / "data").encode())
    data = {f"gpc1/MD01/o1.XY01/{name}": content for name, content in members(seed).items()}
    data |= {"gpc1/MD01/o1.XY01/a.mdc": local, "gpc1/MD01/o1.XY02/d.fits": b"D" * 3000}
    assert follower.content("data") == data
    assert follower.marked("failed", PRODUCT) == set()
    assert leftovers(follower.root) == []
    tree_is_true(follower.root, PRODUCT, {CHIP})


def held(send: Send, at: int, place: int, opened: Event) -> Send:
    """``send`` of a body that begins at ``place`` of its file; from ``at`` on it waits for ``opened``."""

    async def sends(message: Message) -> None:
        nonlocal place
        body = message.get("body", b"")
        if place + len(body) > at and not opened.is_set():
            free = max(0, at - place)
            if free:
                await send({"type": "http.response.body", "body": body[:free], "more_body": True})
                message = {**message, "body": body[free:]}
            while not opened.is_set():
                await asyncio.sleep(0.01)
        place += len(body)
        await send(message)

    return sends


def first_byte(scope: Scope) -> int:
    asked = dict(scope["headers"]).get(b"range", b"bytes=0-").decode()
    return int(asked.removeprefix("bytes=").split("-")[0])


def holds(opened: Event, at: int = HELD_AT, target: str = LARGE) -> Habit:
    """What comes after the first ``at`` bytes of the file is not sent until ``opened`` is set."""

    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        await app(scope, receive, held(send, at, first_byte(scope), opened))

    return Habit(act, target)


def temporary(follower: Follower, path: str = FIRST) -> Path:
    place = follower.root / "data" / path
    return place.with_name(temporary_name(place.name, short_digest(f"{PRODUCT}/{CHIP}")))


def temporaries(follower: Follower) -> list[Path]:
    return list((follower.root / "data").rglob("*.unpacking"))


def unpacks_ahead(follower: Follower, update: Running) -> None:
    """Wait until an early member is written, while the rest of its bundle is not here."""
    until(lambda: update.ended or temporary(follower).exists(), "nothing is unpacked ahead")
    assert not update.ended, update.output
    assert not (follower.root / "data" / FIRST).exists()
    assert follower.marked("downloaded", PRODUCT) == set()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_bundle_is_unpacked_while_it_comes(ranges, release, server, follower, tmp_path):
    opened = Event()
    server.habits.append(holds(opened))
    if not ranges:
        server.habits.append(habits.ignores_range(target=LARGE))
    with started(follower.command(), tmp_path / "output") as update:
        unpacks_ahead(follower, update)
        opened.set()
        assert update.wait().code == 0
    complete(follower, release)
    assert sum(request.bytes_sent for request in server.requests if NAME in request.target) == len(packed())
    assert "0 new, 0 done" in follower.update().output


def sends_another(content: bytes) -> Habit:
    """Who asks for the bundle in pieces gets those of another archive of that size."""

    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        place = first_byte(scope)

        async def replaced(message: Message) -> None:
            nonlocal place
            if body := message.get("body", b""):
                message = {**message, "body": content[place : place + len(body)]}
                place += len(body)
            await send(message)

        in_pieces = any(name == b"range" for name, _ in scope["headers"])
        await app(scope, receive, replaced if in_pieces else send)

    return Habit(act, LARGE)


TROUBLES: dict[str, Callable[[], Habit]] = {
    "another archive comes in pieces": lambda: sends_another(packed(2)),
    "a byte is flipped": lambda: habits.flips_byte(target=LARGE, times=1),
    "another ETag with each piece": lambda: habits.changes_etag(target=LARGE),
    "a piece of another place": lambda: habits.shifts_content_range(target=LARGE),
    "each answer is cut": lambda: habits.hangs_up(after=2 << 20, target=LARGE, times=3),
    "each connection is reset": lambda: habits.resets(target=LARGE, times=3),
    "the server is away for a while": lambda: habits.fails(503, target=LARGE, times=3),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_was_unpacked_from_bytes_that_were_not_the_listed_ones_is_never_seen(
    trouble, release, server, follower, tmp_path
):
    assert len(packed(2)) == len(packed())
    opened = Event()
    # The habit named first has the last word on what is sent.
    server.habits.extend([holds(opened, at=2 << 20), TROUBLES[trouble]()])
    with started(follower.command(), tmp_path / "output") as update:
        unpacks_ahead(follower, update)
        opened.set()
        result = update.wait()
    assert result.code == 0, result.output
    complete(follower, release)


def test_a_bundle_that_never_has_the_listed_md5_leaves_nothing_of_it(upstream, release, server, follower):
    add(upstream, packed(), md5="0" * 32)
    result = follower.update()
    assert result.code == 30, result.output
    assert f"expected md5 {'0' * 32} as listed" in result.output
    assert follower.content("data") == {}
    assert not list((follower.root / "incoming").rglob("unpacking.json"))
    add(upstream, packed())
    assert follower.update().code == 0
    complete(follower, upstream)


def test_the_bundle_is_replaced_upstream_while_it_is_unpacked(release, server, follower, tmp_path):
    """Its pieces are of the old registration and of the new one: that fails. Then only the new one counts."""
    opened = Event()
    server.habits.append(holds(opened, at=2 << 20))
    with started(follower.command(), tmp_path / "output") as update:
        unpacks_ahead(follower, update)
        add(release, packed(2))
        opened.set()
        result = update.wait()
    assert result.code in {0, 30}, result.output
    result = follower.update()
    assert result.code == 0, result.output
    complete(follower, release, seed=2)


@pytest.mark.parametrize("far", [True, False])
def test_killed_while_a_bundle_is_unpacked_that_comes(far, release, server, follower, tmp_path):
    killed_ahead(server, follower, tmp_path)
    if not far:
        server.habits.clear()
    result = follower.update()
    assert result.code == 0, result.output
    complete(follower, release)


def killed_ahead(server, follower: Follower, folder: Path) -> None:
    """An update that is killed while it unpacks what is not here yet."""
    opened = Event()
    server.habits.append(holds(opened))
    with started(follower.command(), folder / "output") as update:
        unpacks_ahead(follower, update)
        update.kill()
    opened.set()
    server.habits.pop()
    assert temporaries(follower)


def test_killed_and_then_the_server_does_not_answer(release, server, follower, tmp_path):
    killed_ahead(server, follower, tmp_path)
    server.habits.append(habits.fails(404, target=f"{PRODUCT}/{CHIP}/index.txt"))
    assert follower.update().code == 30
    assert temporaries(follower) == []
    server.habits.pop()
    assert follower.update().code == 0
    complete(follower, release)


def test_killed_and_then_registered_again(release, server, follower, tmp_path):
    killed_ahead(server, follower, tmp_path)
    add(release, packed(2))
    assert follower.update().code == 0
    complete(follower, release, seed=2)


def test_killed_and_then_only_to_be_kept_packed(release, server, follower, tmp_path):
    killed_ahead(server, follower, tmp_path)
    follower.mirror["unpack"] = False
    assert follower.update().code == 0
    assert leftovers(follower.root) == []
    assert follower.content("data") == {}
    follower.mirror["unpack"] = True
    assert follower.update().code == 0
    complete(follower, release)


def test_killed_and_then_withdrawn(release, server, follower, tmp_path):
    killed_ahead(server, follower, tmp_path)
    release.withdraw(PRODUCT, CHIP)
    release.add(PRODUCT, "later", [File("new.fits", b"new")])
    assert follower.update().code == 0
    assert leftovers(follower.root) == []
    assert follower.content("data") == follower.content("info") == {}


def test_killed_and_then_skipped(release, server, follower, tmp_path):
    killed_ahead(server, follower, tmp_path)
    skip = [sys.executable, "-m", "tasks", "skip", "--mirror-config", str(follower.config)]
    assert ended([*skip, "--reason", "why not", PRODUCT, CHIP]).code == 0
    assert follower.update().code == 0
    assert leftovers(follower.root) == []
    assert follower.content("data") == follower.content("info") == {}


def test_stopped_while_a_bundle_is_unpacked_that_comes(release, server, follower, tmp_path):
    opened = Event()
    server.habits.append(holds(opened))
    with started(follower.command(), tmp_path / "output") as update:
        unpacks_ahead(follower, update)
        update.send(signal.SIGTERM)
        opened.set()
        result = update.wait()
    assert result.code == 25, result.output
    complete(follower, release)


def written(path: str) -> str:
    """What a file that is written whole has for a name before."""
    return str(Path(path).with_name(f".{md5(Path(path).name.encode()).hexdigest()}.writing"))


# The instants around the record: whether the next run takes over what was unpacked ahead.
INCOMING = f"incoming/{PRODUCT}/{CHIP}"
INSTANTS = {
    "the journal gets its name": ("rename", written(f"{INCOMING}/unpacking.json"), 1, False),
    "a temporary file is made": ("openat", "", 1, False),
    "the record gets its name": ("rename", written(f"{INCOMING}/unpacking.json"), 2, False),
    "the fileset is published": ("rename", f"{INCOMING}/files", 1, True),
    "the fileset is marked": ("rename", written(f"state/{PRODUCT}/downloaded/{CHIP}.json"), 1, True),
    "the bundle's members get their names": ("rename", "", 1, False),
}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("name", INSTANTS)
def test_killed_just_when(name, release, server, follower, tmp_path):
    call, path, when, taken_over = INSTANTS[name]
    place = follower.root / path if path else temporary(follower)
    inject = f"inject={call}:signal=SIGKILL:when={when}"
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-o", str(trace), "-P", str(place), "-e", f"trace={call}", "-e", inject]
    with started([*strace, *follower.command()], tmp_path / "output") as update:
        until(lambda: update.ended or was_killed(trace), "the instant does not come")
        assert was_killed(trace), update.output
        update.kill()
    kept = tmp_path / "kept"
    if temporary(follower).exists():
        kept.hardlink_to(temporary(follower))
    result = follower.update()
    assert result.code == 0, result.output
    complete(follower, release)
    assert (kept.exists() and kept.samefile(follower.root / "data" / FIRST)) == taken_over


def was_killed(trace: Path) -> bool:
    return trace.exists() and "+++ killed by SIGKILL" in trace.read_text()


# What cannot be unpacked is told of as if nobody had tried it ahead.


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a name that leads out": lambda: archive(members(), (member("../../../escape", 1), b"x")),
    "a link": lambda: archive(members(), (member("link", 0, tarfile.SYMTYPE), b"")),
    "a member twice": lambda: archive(members(), (member("a.fits", 1), b"x")),
    "an end that is missing": lambda: packed()[:-100_000],
    "bytes behind it": lambda: packed() + b"more",
    "a wrong checksum": lambda: packed()[:-8] + bytes(8),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_an_unusable_bundle_fails_as_it_does_when_nobody_is_ahead(
    hostile, upstream, release, server, follower, tmp_path
):
    add(upstream, HOSTILE[hostile]())
    opened = Event()
    server.habits.append(holds(opened))
    with started(follower.command(), tmp_path / "output") as update:
        unpacks_ahead(follower, update)
        opened.set()
        far = update.wait()
    assert far.code == 30, far.output
    assert "Traceback" not in far.output
    assert follower.content("data") == {}
    assert not list(tmp_path.rglob("escape"))
    told = reasons(follower)
    # A bundle that is here is unpacked as ever.
    near = follower.update()
    assert (near.code, reasons(follower)) == (30, told)
    add(upstream, packed())
    assert follower.update().code == 0
    complete(follower, upstream)


def reasons(follower: Follower) -> list[dict[str, str]]:
    return json.loads((follower.root / "state" / PRODUCT / "failed" / f"{CHIP}.json").read_bytes())["files"]
