"""Recognition of a central scheduler that this user has started with ``ipp-mirror scheduler``."""

import os
from pathlib import Path

import requests

# Address of the scheduler that is used without being named.
HOST, PORT = "127.0.0.1", 8082
_LISTENING = "0A"
# Luigi's own time for a connection to a scheduler, which answers one request at a time: the list of all
# tasks for its page takes seconds.
ANSWER_SECONDS = 10.0


def is_own_scheduler(port: int = PORT, seconds: float = ANSWER_SECONDS) -> bool:
    """Return True if this user listens at the port of this machine, and answers as a ``MirrorScheduler``.

    The answer alone is no proof: any user of the machine may listen at the port. Raises TimeoutError for a
    listener of this user that does not answer within so many seconds.
    """
    return _is_own_listener(port) and _answers_as_mirror_scheduler(f"http://{HOST}:{port}", seconds)


def _is_own_listener(port: int) -> bool:
    """Return True if all sockets that listen at the port are this user's (proc(5), /proc/net/tcp)."""
    owners = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, rows):
            local, state, owner = fields[1], fields[3], int(fields[7])
            if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                owners.add(owner)
    return owners == {os.geteuid()}


def _answers_as_mirror_scheduler(url: str, seconds: float) -> bool:
    try:
        answer = requests.post(f"{url}/api/is_pause_enabled", data={"data": "{}"}, timeout=seconds)
        stated = answer.json()["response"]
    except requests.Timeout:
        raise TimeoutError from None
    except (requests.RequestException, ValueError, LookupError, TypeError):
        return False
    return isinstance(stated, dict) and stated.get("several") is True
