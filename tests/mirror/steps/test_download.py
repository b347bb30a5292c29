"""Filesets downloaded side by side by one process: over no more connections than the settings allow."""

import hashlib
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import pytest
from support.follower import Follower
from support.scripted_server import Asked, answer, scripted
from support.trees import tree

from pipeline.mirror.context import open_context
from pipeline.mirror.state.markers import Fileset
from pipeline.mirror.steps.download import download_fileset
from tasks.steps import STEPS

TIMEOUT_SECONDS = 60
FILES = {
    "one": {"a.fits": random.Random(1).randbytes(1_500_000)},
    "large": {"large.fits": random.Random(2).randbytes(17 << 20)},
    "few": {f"{number}.fits": random.Random(number).randbytes(5_000) for number in range(6)},
    "many": {f"{number}.fits": random.Random(number).randbytes(5_000) for number in range(30)},
}


def true_answer(asked: Asked) -> bytes:
    """The answer of an honest server: chunked for listings, ranges of files."""
    fileset, name = unquote(asked.target).split("/")[-2:]
    if name == "index.txt":
        rows = "".join(
            f"{file}|{len(content)}|{hashlib.md5(content).hexdigest()}|fits|null|\n"
            for file, content in FILES[fileset].items()
        )
        listing = f"# fileID|bytes|md5sum|type|component|\n{rows}\n".encode()
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(listing), listing)
        return answer(body=body, Content_Length="", Transfer_Encoding="chunked")
    content = FILES[fileset][name]
    if "range" not in asked.fields:
        return answer(body=content)
    first, last = map(int, asked.fields["range"].removeprefix("bytes=").split("-"))
    place = f"bytes {first}-{last}/{len(content)}"
    return answer("206 Partial Content", content[first : last + 1], Content_Range=place)


@pytest.mark.parametrize("connections", [1, 2, 3])
def test_filesets_of_every_kind_together_keep_to_the_connections(connections, follower: Follower):
    """A file, a large one in ranges, few small ones, many small ones, and listings; each round anew."""
    published = {f"p/{fileset}/{name}": body for fileset in FILES for name, body in FILES[fileset].items()}
    pauses: list[float] = []
    with scripted(true_answer) as server:
        follower.url = server.url
        follower.source["connections"] = connections
        with ThreadPoolExecutor() as threads, open_context(follower.config, STEPS, pauses.append) as context:
            for _ in range(3):
                filesets = [Fileset("p", name, "2009-07-29T00:00:01Z") for name in FILES]
                running = [
                    threads.submit(download_fileset, context, fileset, lambda *_: None)
                    for fileset in filesets
                ]
                assert [each.result(TIMEOUT_SECONDS) for each in running] == [None] * len(FILES)
                stored = tree(follower.root / "store")
                assert {path: body for path, body in stored.items() if path.endswith(".fits")} == published
                shutil.rmtree(follower.root / "store")
                shutil.rmtree(follower.root / "state" / "p")
    assert server.most_open == server.connections <= connections
    assert pauses == []
