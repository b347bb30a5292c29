"""Two mirrors of the same products at one central scheduler, updated at the same time."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from support.follower import Follower
from support.running import Turnstile, leftovers, luigi_command, started, until
from support.summary_line import numbers
from support.upstream import Upstream, served_filesets

PRODUCT = "md-all-rel-200907"
FILESETS = 10
CONNECTIONS = 4


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    for number in range(FILESETS):
        upstream.add_bundles(PRODUCT, f"o{number}.chip.{number}", {"XY01": {f"{number}.fits": b"x" * 3000}})
    return upstream


@pytest.fixture
def mirrors(follower: Follower, tmp_path: Path) -> list[Follower]:
    """Two mirrors that differ in their folders only."""
    both = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        both.append(Follower(folder, follower.url, {"connections": CONNECTIONS, "timeout": 60}))
    return both


def ask(port: int, method: str) -> dict:
    answer = requests.get(f"http://127.0.0.1:{port}/api/{method}", params={"data": "{}"}, timeout=10)
    return answer.json()["response"]


def both_complete(port: int, mirrors: list[Follower], release: Upstream, bundles: Turnstile, folder: Path):
    """Update both at once, with filesets of both in progress at the same time: each is complete."""
    with ExitStack() as stack:
        updates = [
            stack.enter_context(started(luigi_command(mirror, port), folder / f"{number}.log"))
            for number, mirror in enumerate(mirrors)
        ]
        # Each has as many as its own connections allow.
        until(lambda: bundles.waiting == 2 * CONNECTIONS or any(u.ended for u in updates), "not both fetch")
        bundles.open()
        for update in updates:
            end = update.wait()
            assert end.code == 0, end.output
            assert numbers(FILESETS, FILESETS, FILESETS) in end.output
    for mirror in mirrors:
        assert mirror.content("store") == served_filesets(release)
        assert mirror.marked("extracted", PRODUCT) == set(release.products[PRODUCT])
        assert leftovers(mirror.root) == []


@pytest.mark.parametrize("scheduler", [False, True], indirect=True, ids=["central", "luigid"])
def test_two_mirrors_share_no_task_and_no_resource(port, mirrors, release, bundles, tmp_path):
    both_complete(port, mirrors, release, bundles, tmp_path)
    resources = {resource["name"] for resource in ask(port, "resource_list")}
    assert len(resources) == 4
    ids = {name.removeprefix("connections-") for name in resources if name.startswith("connections-")}
    assert resources == {f"{kind}-{mirror}" for kind in ("connections", "unpackers") for mirror in ids}
    # As the page shows them.
    tasks = requests.get(f"http://127.0.0.1:{port}/api/task_list", params={"data": "{}"}, timeout=10)
    shown = [task["display_name"] for task in tasks.json()["response"].values()]
    for mirror in ids:
        assert sum(f"mirror={mirror}" in name for name in shown) >= FILESETS
    assert all("mirror=" in name for name in shown)


def test_a_copy_of_a_whole_mirror_is_another_mirror(port, mirrors, release, bundles, tmp_path):
    one, other = mirrors
    one.root.mkdir()
    (one.root / "mirror.json").write_text('{"format": 1, "id": "5f0c1a2b3c4d5e6f"}')
    shutil.copytree(one.root, other.root)
    both_complete(port, mirrors, release, bundles, tmp_path)
