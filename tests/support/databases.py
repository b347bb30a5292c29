"""Real database servers in temporary folders, reached by sockets in these folders."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest

from support.running import until

_EXTENSIONS = Path("/usr/share/postgresql")
_POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def _as_user(name: str) -> list[str]:
    """The beginning of a command that runs as that user where this one is root: servers refuse root."""
    return ["setpriv", f"--reuid={name}", f"--regid={name}", "--clear-groups"] if os.getuid() == 0 else []


@contextmanager
def _folder(user: str) -> Iterator[Path]:
    # Not below pytest's own folder, which no other user may enter; and short, as the path of a socket is.
    folder = Path(tempfile.mkdtemp(prefix="db-", dir="/tmp"))
    try:
        if os.getuid() == 0:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _serving(command: list[str], log: Path, socket: Path, stop: signal.Signals) -> Iterator[subprocess.Popen]:
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd="/")
    try:
        until(lambda: socket.exists() or process.poll() is not None, "a server")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.send_signal(stop)
        process.wait(60)


def _quietly(command: list[str], **more) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=120, **more)
    assert done.returncode == 0, done.stdout + done.stderr


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False, cwd="/").returncode == 0


@contextmanager
def postgresql() -> Iterator[str]:
    """Yield the URL of an empty database in PostgreSQL. The server is started with the first one."""
    if not _POSTGRESQL or (os.getuid() == 0 and shutil.which("setpriv") is None):
        pytest.skip("needs the server of PostgreSQL (Debian package postgresql)")
    folder = _server("postgresql", _start_postgresql)
    name = f"catalog{next(_numbers)}"
    create = [str(_POSTGRESQL[-1] / "createdb"), "-h", str(folder), "-U", "mirror", name]
    until(lambda: _succeeds(create), "a database")
    yield f"postgresql://mirror@/{name}?host={folder}"


@contextmanager
def mariadb() -> Iterator[str]:
    """Yield the URL of an empty database in MariaDB. The server is started with the first one."""
    if _mariadbd() is None or (os.getuid() == 0 and shutil.which("setpriv") is None):
        pytest.skip("needs the server of MariaDB (Debian package mariadb-server)")
    folder = _server("mariadb", _start_mariadb)
    name, socket = f"catalog{next(_numbers)}", folder / "socket"
    client = ["mariadb", "--no-defaults", f"--socket={socket}", "-u", "root"]
    until(lambda: _succeeds([*client, "-e", f"CREATE DATABASE {name}"]), "a database")
    yield f"mysql://root@localhost/{name}?unix_socket={socket}"


def has_extension(name: str) -> bool:
    """Return True if the server of PostgreSQL can load the extension."""
    return bool(_POSTGRESQL) and any(
        _EXTENSIONS.glob(f"{_POSTGRESQL[-1].parent.name}/extension/{name}.control")
    )


def stop_servers() -> None:
    """Stop the servers of this process."""
    _folders.clear()
    _running.close()


# Servers of this process, the folder of each, and numbers of their databases.
_running = ExitStack()
_folders: dict[str, Path] = {}
_numbers = count(1)


def _server(name: str, start: Callable[[], AbstractContextManager[Path]]) -> Path:
    """Return the folder of a server, started if it does not run."""
    if name not in _folders:
        _folders[name] = _running.enter_context(start())
    return _folders[name]


@contextmanager
def _start_postgresql() -> Iterator[Path]:
    programs = _POSTGRESQL[-1]
    with _folder("postgres") as folder:
        data = folder / "data"
        user = _as_user("postgres")
        _quietly([*user, str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "mirror", "-N"])
        settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", str(folder)]
        command = [*user, str(programs / "postgres"), "-D", str(data), *settings]
        # SIGINT closes the connections of clients, for which the server waits after SIGTERM.
        with _serving(command, Path(f"{folder}.log"), folder / ".s.PGSQL.5432", signal.SIGINT):
            yield folder
        Path(f"{folder}.log").unlink()


def _mariadbd() -> str | None:
    return shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")


@contextmanager
def _start_mariadb() -> Iterator[Path]:
    with _folder("mysql") as folder:
        user = _as_user("mysql")
        common = ["--no-defaults", f"--datadir={folder}/data"]
        install = ["--auth-root-authentication-method=normal", "--skip-test-db", f"--tmpdir={folder}"]
        _quietly([*user, "mariadb-install-db", *common, *install])
        socket = folder / "socket"
        files = [f"--socket={socket}", f"--pid-file={folder}/pid", f"--tmpdir={folder}"]
        command = [*user, str(_mariadbd()), *common, "--skip-networking", *files]
        with _serving(command, Path(f"{folder}.log"), socket, signal.SIGTERM):
            yield folder
        Path(f"{folder}.log").unlink()
