"""Files of peers in ``workers/`` that hold something else than this program writes: they count as absent."""

import json
import os
import socket
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.mirror.resources.membership import Membership, NoUpdateToJoin
from pipeline.mirror.resources.peer_files import StepDone
from pipeline.mirror.resources.peers import PeerRegistry, wait_for_exit
from pipeline.mirror.state.layout import Layout

DAMAGED = [b"", b"\0", b"[]", b"1", b"{}", b'{"name": 1}', b"[" * 10_000, b"\xff"]
DONE = {"task": "t", "status": "DONE", "received": 1, "code": 0}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    source, mirror = {"url": "http://127.0.0.1:1/ds"}, {"root": str(tmp_path)}
    return Settings.model_validate({"source": source, "mirror": mirror})


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.lock_file.parent.mkdir()
    layout.lock_file.touch()
    return layout


@pytest.mark.parametrize("content", DAMAGED)
def test_a_registration(content, layout: Layout, settings: Settings):
    registry = PeerRegistry(layout, "now", "w", settings)
    path = layout.peers / "host.1.abc.json"
    path.write_bytes(content)
    changes = registry.poll()
    assert (changes.running, changes.hanging, changes.exited) == ([], 0, [])
    registry.close()
    assert wait_for_exit(layout) == []


@pytest.mark.parametrize("content", DAMAGED)
def test_a_notice(content, layout: Layout, settings: Settings):
    layout.peers.mkdir()
    (layout.peers / "update.json").write_bytes(content)
    with pytest.raises(NoUpdateToJoin):
        Membership(layout, "w", settings)
    assert wait_for_exit(layout) == []


LINES = [
    *DAMAGED,
    *(
        json.dumps(DONE | wrong).encode()
        for wrong in ({"status": "RUNNING"}, {"received": -1}, {"code": 999}, {"code": "30"}, {"task": None})
    ),
]


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_report(line, layout: Layout, settings: Settings):
    registry = PeerRegistry(layout, "now", "w", settings)
    peer = Membership(layout, "p", settings)
    registry.poll()
    peer.report(StepDone("first", "DONE", 1, 0))
    (report,) = layout.peers.glob(f"{socket.gethostname()}.{os.getpid()}.*.report")
    with open(report, "ab") as file:
        file.write(line + b"\n")
    peer.report(StepDone("last", "FAILED", 2, 30))
    assert registry.reported() == [StepDone("first", "DONE", 1, 0), StepDone("last", "FAILED", 2, 30)]
    peer.leave()
    registry.close()
