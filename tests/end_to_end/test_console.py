"""Messages of an update: the console groups failures by their cause, the log has them all."""

import os
import socket
from typing import NamedTuple

import pytest
from support.follower import Follower
from support.upstream import File, Upstream

from pipeline import __version__
from pipeline.sample import faults

PRODUCT = "md-all-rel-200907"
REFUSED = [f"r{number}" for number in range(5)]


class Messages(NamedTuple):
    console: list[str]
    log: list[str]


@pytest.fixture
def messages(upstream: Upstream, server, follower: Follower) -> Messages:
    """Messages of an update with one good fileset, five that are refused, and a wrong one."""
    upstream.add(PRODUCT, "good", [File("g.fits", b"g")])
    for name in REFUSED:
        upstream.add(PRODUCT, name, [File(f"{name}.fits", name.encode())])
    upstream.add(PRODUCT, "wrong", [File("w.fits", b"w", listed={"md5": "0" * 32})])
    server.faults.append(faults.fails(403, target=f"{PRODUCT}/r*/*.fits"))
    result = follower.update()
    assert result.code == 30, result.output
    log = (follower.root / "log" / "update_mirror.log").read_text()
    return Messages(result.output.splitlines(), log.splitlines())


def test_one_cause_is_one_message_and_one_count(messages):
    console = messages.console
    assert sum("403" in line for line in console) == 1
    assert sum("expected md5" in line for line in console) == 1
    counted = f"4 more filesets failed for the same reason as fileset {PRODUCT}/r"
    assert sum(line.startswith(counted) for line in console) == 1


def test_the_log_has_a_line_for_each_fileset(messages):
    for name in REFUSED:
        assert sum(f" WARNING fileset {PRODUCT}/{name}: " in line for line in messages.log) == 1
    assert sum(line.endswith(f" fileset {PRODUCT}/good: downloaded") for line in messages.log) == 1
    assert sum(line.endswith(f" fileset {PRODUCT}/good: extracted") for line in messages.log) == 1


def test_the_log_begins_with_the_program_its_host_and_its_settings(messages, follower):
    begins, settings = messages.log[:2]
    assert f"run begins: ipp-mirror {__version__}, Luigi 3." in begins
    assert f"; host {socket.gethostname()}, process " in begins
    assert f", user id {os.geteuid()}; command: " in begins
    assert f'settings of {follower.config}: {{"source":{{"url":"{follower.url}",' in settings
    assert not any("run begins" in line for line in messages.console)
