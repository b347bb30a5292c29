"""Fixtures: a Data Store that tests change and serve again, and the mirror that follows it."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from support.databases import stop_servers
from support.follower import Follower
from support.upstream import Upstream

from pipeline.sample.simulator import Simulator, simulate

# The time of one example says more about the load of the machine than about the code.
hypothesis.settings.register_profile("any speed", deadline=None)
hypothesis.settings.load_profile("any speed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start what runs in the background with SIGINT ignored, which processes of tests would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names a case of bytes that are no text by its place: compressed bytes hold the second of their making.

    Each process of a run collects the tests by itself, and all must find the same names.
    """
    return argname if isinstance(val, bytes) and not val.isascii() else None


def pytest_sessionfinish() -> None:
    """Stop the database servers that tests have asked for."""
    stop_servers()


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "upstream")


@pytest.fixture
def server(upstream: Upstream):
    with simulate(upstream.folder) as running:
        yield running


@pytest.fixture
def follower(tmp_path: Path, server: Simulator, upstream: Upstream) -> Follower:
    return Follower(tmp_path, server.url, served=upstream.folder)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than ``tmp_path``."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip(f"needs a second file system at {shared}")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    """A certificate of 127.0.0.1 with its key, both in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    named = "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 {named} -keyout {path} -out {path}.crt"
    subprocess.run(command.split(), check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path
