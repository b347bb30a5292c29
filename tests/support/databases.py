"""Real database servers in temporary folders, reached by sockets in these folders."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.running import until

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
        # PostgreSQL then closes the connections of clients, for which it waits after SIGTERM.
        process.send_signal(stop)
        process.wait(60)


def _quietly(command: list[str], **more) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=120, **more)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def postgresql() -> Iterator[str]:
    """Run PostgreSQL with an empty database; yield its URL."""
    if not _POSTGRESQL or (os.getuid() == 0 and shutil.which("setpriv") is None):
        pytest.skip("needs the server of PostgreSQL (Debian package postgresql)")
    programs = _POSTGRESQL[-1]
    with _folder("postgres") as folder:
        data = folder / "data"
        user = _as_user("postgres")
        _quietly([*user, str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "mirror", "-N"])
        settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", str(folder)]
        command = [*user, str(programs / "postgres"), "-D", str(data), *settings]
        with _serving(command, Path(f"{folder}.log"), folder / ".s.PGSQL.5432", signal.SIGINT):
            create = [str(programs / "createdb"), "-h", str(folder), "-U", "mirror", "catalog"]
            until(
                lambda: subprocess.run(create, capture_output=True, check=False).returncode == 0, "a database"
            )
            yield f"postgresql://mirror@/catalog?host={folder}"
        Path(f"{folder}.log").unlink()


@contextmanager
def mariadb() -> Iterator[str]:
    """Run MariaDB with an empty database; yield its URL."""
    server = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    if server is None or (os.getuid() == 0 and shutil.which("setpriv") is None):
        pytest.skip("needs the server of MariaDB (Debian package mariadb-server)")
    with _folder("mysql") as folder:
        user = _as_user("mysql")
        data = folder / "data"
        common = ["--no-defaults", f"--datadir={data}"]
        install = ["--auth-root-authentication-method=normal", "--skip-test-db", f"--tmpdir={folder}"]
        _quietly([*user, "mariadb-install-db", *common, *install])
        socket = folder / "socket"
        settings = [
            "--skip-networking",
            f"--socket={socket}",
            f"--pid-file={folder}/pid",
            f"--tmpdir={folder}",
        ]
        with _serving([*user, server, *common, *settings], Path(f"{folder}.log"), socket, signal.SIGTERM):
            create = [
                "mariadb",
                "--no-defaults",
                f"--socket={socket}",
                "-u",
                "root",
                "-e",
                "CREATE DATABASE catalog",
            ]
            until(
                lambda: subprocess.run(create, capture_output=True, check=False).returncode == 0, "a database"
            )
            yield f"mysql://root@localhost/catalog?unix_socket={socket}"
        Path(f"{folder}.log").unlink()
