"""Servers for a run: Data Store, central scheduler, relay. Each is stopped by its process id."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pwd import getpwuid

from bench.relay import HOST, Link

REPOSITORY = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
_START_SECONDS = 30.0


@dataclass(frozen=True)
class Daemon:
    """Running process that listens on ``port`` of 127.0.0.1."""

    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """Return the user and system time of the process so far, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        """Return the peak of the memory of the process so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextlib.contextmanager
def data_store(store: Path, home: Path) -> Iterator[Daemon]:
    """Run the project's own server."""
    command = [sys.executable, "-m", "pipeline.datastore.server", "--store", str(store), "--port", "0"]
    with _running(command, home / "server.log") as process:
        yield Daemon(process.pid, _printed_port(home / "server.log", process))


@contextlib.contextmanager
def nginx(store: Path, home: Path) -> Iterator[Daemon]:
    """Run nginx with the listings as plain files, which is enough for first updates."""
    port = _free_port()
    config = home / "nginx.conf"
    config.write_text(_NGINX.format(home=home, store=store, port=port, user=getpwuid(os.getuid()).pw_name))
    command = [shutil.which("nginx") or "nginx", "-p", str(home), "-c", str(config)]
    with _running(command, home / "nginx.log") as process:
        _wait_for(port, process)
        yield Daemon(process.pid, port)


@contextlib.contextmanager
def luigid(home: Path) -> Iterator[Daemon]:
    """Run Luigi's central scheduler as ``make scheduler`` does, with an empty state."""
    port = _free_port()
    state = home / f"luigid-{port}.pickle"
    command = [sys.executable, "-m", "tasks.runtime.luigid"]
    command += ["--address", HOST, "--port", str(port), "--state-path", str(state)]
    with _running(command, home / "luigid.log") as process:
        _wait_for(port, process)
        yield Daemon(process.pid, port)
    state.unlink(missing_ok=True)


@contextlib.contextmanager
def relay(to_port: int, link: Link, home: Path) -> Iterator[Daemon]:
    """Run a relay in a separate process."""
    command = [sys.executable, "-m", "bench.relay", "--to", str(to_port)]
    command += ["--round-trip", str(link.round_trip), "--window", str(link.window), "--rate", str(link.rate)]
    with _running(command, home / "relay.log") as process:
        yield Daemon(process.pid, _printed_port(home / "relay.log", process))


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "wb") as output:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _printed_port(log: Path, process: subprocess.Popen[bytes]) -> int:
    """Return the port in the first output of the process."""
    for _ in _polls(process):
        if found := re.search(rf"http://{re.escape(HOST)}:(\d+)", log.read_text()):
            return int(found[1])
    raise AssertionError("_polls raises at its end")


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in _polls(process):
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return


def _polls(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Yield repeatedly. Raises RuntimeError when the process has ended, or after ``_START_SECONDS``."""
    end = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        yield
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r}: expected it to listen within {_START_SECONDS:g} s")


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return listener.getsockname()[1]


_NGINX = """
daemon off; pid {home}/nginx.pid; worker_processes 1; user {user}; error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type application/x-gzip;
  client_body_temp_path {home}/nginx-tmp; proxy_temp_path {home}/nginx-tmp;
  fastcgi_temp_path {home}/nginx-tmp; uwsgi_temp_path {home}/nginx-tmp; scgi_temp_path {home}/nginx-tmp;
  server {{ listen 127.0.0.1:{port}; location /ds/ {{ alias {store}/; }} }}
}}
"""
