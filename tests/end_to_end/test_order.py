"""The order in which an update fetches filesets when there is one connection."""

from threading import Event

from support.running import gate, progress_of, started, until
from support.upstream import File


def publish(upstream, product: str, filesets: dict[str, str]) -> None:
    for name, stage in filesets.items():
        upstream.add(product, name, [File(f"{name}.fits", name.encode())], stage=stage)


def fetched(server) -> list[str]:
    """The filesets in the order in which their files were requested."""
    targets = [request.target for request in server.requests]
    return [target.split("/")[3] for target in targets if target.endswith(".fits")]


def test_of_a_product_by_priority_and_from_the_newest_on(upstream, server, follower):
    publish(upstream, "p", {f"f{n}": "stack" if n in (3, 5) else "raw" for n in range(8)} | {"x": "diff"})
    follower.source["connections"] = 1
    select = [{"stage": "stack", "priority": 5}, {"stage": "raw"}]
    follower.mirror |= {"order": "newest", "products": [{"name": "p", "select": select}]}
    assert follower.update().code == 0
    assert fetched(server) == ["f5", "f3", "f7", "f6", "f4", "f2", "f1", "f0"]


def test_a_product_of_higher_priority_goes_before_the_rest_of_another(upstream, server, follower):
    publish(upstream, "backlog", {f"b{n}": "raw" for n in range(20)})
    publish(upstream, "urgent", {f"u{n}": "stack" for n in range(20)})
    # One for the listing that is held back, which is none of the scheduler's.
    follower.source["connections"] = 2
    follower.mirror["products"] = ["backlog", {"name": "urgent", "priority": 1}]
    listed, begun = Event(), Event()
    server.faults.extend([gate(listed, "urgent/index.txt"), gate(begun, "backlog/b*/*.fits")])
    with started(follower.command(), follower.folder / "log") as update:
        until(lambda: fetched(server), "a fileset of the backlog begins")
        listed.set()
        until(lambda: progress_of(follower).get("filesets") == 40, "the filesets of both are submitted")
        begun.set()
        assert update.wait().code == 0
    names = fetched(server)
    assert names[0][0] == "b"
    # Those of the backlog that were in progress, or about to begin.
    assert sum(name[0] == "b" for name in names[: names.index("u19")]) <= 6
    assert len(names) == 40
