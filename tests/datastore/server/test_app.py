"""The application: which requests it takes, and of which trees."""

import pytest
import requests
from support.wire import ask, serve_folder, write_tree

from pipeline.datastore.server import DataStoreApp, serve

ROOT = b"# productID|Most recent|Time registered|type|Description|\nmd|o1|2009-08-11T00:00:00Z|ipp-dist|MD|\n"
TREE = {
    "index.txt": ROOT,
    "md/o1/index.txt": b"# fileID|bytes|md5sum|type|\na.tgz|10||tgz|\n",
    "md/o1/a.tgz": b"0123456789",
}


@pytest.fixture
def store(tmp_path):
    return write_tree(tmp_path / "store", TREE)


def test_only_reading_is_allowed(store):
    with serve_folder(store) as server:
        answer = ask(server, "/index.txt", method="DELETE")
    assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(("prefix", "outside"), [("", "/ds/index.txt"), ("/ipp049/ds", "/index.txt")])
def test_the_store_is_below_its_prefix_and_nowhere_else(store, prefix, outside):
    with serve_folder(store, prefix=prefix) as server:
        assert server.url.endswith(prefix)
        assert ask(server, "/index.txt").body.split(b"|")[0] == b"# productID  "
        assert requests.get(server.url.removesuffix(prefix) + outside).status_code == 404


class Memory:
    """A tree that is no folder."""

    def root_listing(self):
        return ROOT

    def product_listing(self, product, after=None):
        return f"{product} after {after}".encode()

    def fileset_listing(self, product, fileset):
        return None

    def file(self, product, fileset, name):
        raise PermissionError


def test_any_tree_can_be_served():
    with serve(DataStoreApp(Memory())) as server:
        assert ask(server, "/index.txt").body == ROOT
        assert ask(server, "/p/index.txt").body == b"p after None"
        assert ask(server, "/p/index.txt?f%20g").body == b"p after f g"
        assert ask(server, "/p/f/index.txt").status == ask(server, "/p/f").status == 404
        assert ask(server, "/p/f/x").status == 403
        assert "md" in ask(server, "/").body.decode()
