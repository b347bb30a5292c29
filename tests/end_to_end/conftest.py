"""Fixtures of updates that are held up, and of the schedulers that several processes share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.follower import Follower
from support.running import Scheduler, Turnstile, free_port
from support.upstream import File, Upstream

from pipeline.sample.simulator import Simulator

PRODUCT = "md-all-rel-200907"


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    """A fileset of one bundle, and one of a plain file."""
    upstream.add_bundles(PRODUCT, "o1.chip.1.1.1", {"XY01": {"a.fits": b"A" * 5000}})
    upstream.add(PRODUCT, "plain", [File("small.fits", b"s" * 70)])
    return upstream


@pytest.fixture
def bundles(server: Simulator, follower: Follower) -> Iterator[Turnstile]:
    """A turnstile before all bundles."""
    # However long the processes of a test take to start, no request is given up meanwhile.
    follower.source["timeout"] = 120
    turnstile = Turnstile()
    server.faults.insert(0, turnstile.fault("*/*/*.tgz"))
    yield turnstile
    turnstile.open()


@pytest.fixture
def scheduler(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scheduler]:
    """A central scheduler, the project's; Luigi's where the parameter is True."""
    scheduler = Scheduler(tmp_path, free_port(), getattr(request, "param", False))
    running = scheduler.start()
    yield scheduler
    running.kill()


@pytest.fixture
def port(scheduler: Scheduler) -> int:
    """The port of the central scheduler."""
    return scheduler.port
