"""``ipp-mirror worker``, and its alias."""

from support.command import ipp_mirror
from support.follower import Follower

NAME = "ipp-mirror: the name of this command is `ipp-mirror worker`; `assist` is an alias.\n"


def test_a_worker_without_an_update_to_join_ends_with_10(follower: Follower):
    ended = ipp_mirror("worker", "--config", follower.config)
    assert ended.returncode == 10
    assert "Traceback" not in ended.stderr


def test_assist_is_worker_and_says_so(follower: Follower):
    worker = ipp_mirror("worker", "--config", follower.config)
    assist = ipp_mirror("assist", "--mirror-config", follower.config)
    assert (assist.returncode, assist.stdout) == (worker.returncode, worker.stdout)
    assert assist.stderr == NAME + worker.stderr
