"""The application: which requests it takes, and of which trees."""

import errno
import shutil
import subprocess
from urllib.parse import urlsplit

import pytest
import requests
from support.wire import TIMEOUT_SECONDS, ask, serve_folder, write_tree

from pipeline.datastore.server import DataStoreApp, serve

WGET = shutil.which("wget")
ROOT = b"# productID|Most recent|Time registered|type|Description|\nmd|o1|2009-08-11T00:00:00Z|ipp-dist|MD|\n"
TREE = {
    "index.txt": ROOT,
    "md/o1/index.txt": b"# fileID|bytes|md5sum|type|\na.tgz|10||tgz|\n",
    "md/o1/a.tgz": b"0123456789",
}


@pytest.fixture
def store(tmp_path):
    return write_tree(tmp_path / "store", TREE)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/index.txt", "GET, HEAD, POST"),
        ("PUT", "/md/o1/index.txt", "GET, HEAD, POST"),
        ("POST", "/md/o1/a.tgz", "GET, HEAD"),
        ("POST", "/md/", "GET, HEAD"),
        ("OPTIONS", "/md", "GET, HEAD"),
    ],
)
def test_only_reading_is_allowed(store, method, path, allowed):
    with serve_folder(store) as server:
        answer = ask(server, path, method=method)
    assert (answer.status, answer.fields["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/index.txt", "/md/index.txt", "/md/index.txt?o1", "/md/o1/index.txt"])
def test_a_listing_can_be_asked_for_by_every_way_of_reading(store, path):
    with serve_folder(store) as server:
        got, head = ask(server, path), ask(server, path, method="HEAD")
        assert got.status == head.status == 200
        assert head.rest == b""
        assert described(head) == described(got)
        for data in (b"", b"text=1&since=o1", bytes(50_000)):
            posted = requests.post(server.url + path, data=data, headers={"Expect": "100-continue"})
            assert (posted.status_code, posted.content) == (200, got.body)


def described(answer):
    return {name: answer.fields[name] for name in answer.fields if name not in {"date", "transfer-encoding"}}


@pytest.mark.parametrize(
    "byte", ["\0", "\t", "\x0b", "\x0c", "\x1b", "\x7f", "\xe9", "\\", "^", "{", "%", "%zz"]
)
@pytest.mark.parametrize("path", ["/md{}", "/md{}/index.txt", "/md/index.txt?{}", "/md?{}", "/md/o1/{}"])
def test_no_byte_of_a_target_is_an_error_of_the_server(store, caplog, byte, path):
    with serve_folder(store) as server:
        assert ask(server, path.replace("{}", byte)).status in {200, 301, 400, 404}
    assert caplog.records == []


# Requests of the original clients, which append "/index.txt" to what they are given, and of others.
@pytest.mark.parametrize("base", ["/ds", "//ds", "/ds/", "/ds//", "//ds///"])
@pytest.mark.parametrize("product", ["md", "md/", "/md//"])
def test_repeated_slashes_are_one(store, base, product):
    with serve_folder(store, prefix="") as bare, serve_folder(store) as server:
        host = server.url.removesuffix("/ds")
        for path in (f"/{product}/index.txt", f"/{product}/index.txt?o1", f"/{product}/o1/index.txt"):
            expected = ask(server, path.replace("//", "/").replace("//", "/")).body
            assert expected.startswith(b"#")
            assert requests.get(host + base + path).content == ask(bare, path).body == expected
        assert requests.get(f"{host}{base}//{product}//o1//a.tgz").content == b"0123456789"
        assert requests.get(f"{host}{base}//index.txt").content == ask(server, "/index.txt").body


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/md", "./md/"),
        ("/md/o1", "./o1/"),
        ("//md", "./md/"),
        ("/md//o1", "./o1/"),
        ("//evil.example", "./evil.example/"),
        ("/evil.example", "./evil.example/"),
        ("/%65vil.example", "./evil.example/"),
        ("/\\evil.example", "./%5Cevil.example/"),
        ("/%5Cevil.example", "./%5Cevil.example/"),
        ("/a:b+c", "./a%3Ab%2Bc/"),
        ("/md?page=2", "./md/?page=2"),
        ("/md?a=//evil&b=\\'", "./md/?a=%2F%2Fevil&b=%5C%27"),
        ("", "./ds/"),
    ],
)
def test_a_page_has_a_slash_at_its_end(store, path, location):
    names = ["evil.example", "\\evil.example", "a:b+c"]
    write_tree(store, {f"{name}/index.txt": b"# filesetID|time registered|type|\n" for name in names})
    with serve_folder(store) as server:
        for method in ("GET", "HEAD"):
            answer = ask(server, path, method=method)
            assert (answer.status, answer.fields["location"]) == (301, location)
            assert answer.is_whole or method == "HEAD"
        followed = requests.get(server.url + path)
        assert followed.status_code == 200
        assert urlsplit(followed.url).netloc == urlsplit(server.url).netloc


@pytest.mark.parametrize(
    "path", ["/nothing", "/md/nothing", "/.md", "/md/o1/nothing", "//evil.example/%2f.."]
)
def test_nothing_leads_to_what_is_not_there(store, path):
    with serve_folder(store) as server:
        answer = ask(server, path)
    assert (answer.status, answer.fields.get("location")) == (404, None)


@pytest.mark.parametrize(("prefix", "outside"), [("", "/ds/index.txt"), ("/ipp049/ds", "/index.txt")])
def test_the_store_is_below_its_prefix_and_nowhere_else(store, prefix, outside):
    with serve_folder(store, prefix=prefix) as server:
        assert server.url.endswith(prefix)
        assert ask(server, "/index.txt").body.split(b"|")[0] == b"# productID  "
        answer = requests.get(server.url.removesuffix(prefix) + outside)
        assert answer.status_code == 404
        assert (f"; its Data Store is at {prefix}/." in answer.text) is bool(prefix)


@pytest.mark.parametrize("path", ["", "/", "//"])
def test_the_root_of_the_host_leads_to_the_data_store(store, path):
    with serve_folder(store, prefix="/ipp049/ds") as server:
        host = server.url.removesuffix("/ipp049/ds")
        answer = requests.get(host + path, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (302, "./ipp049/ds/")
        assert requests.get(host + path).text == requests.get(f"{server.url}/").text


REASONS = {
    "/md": (301, "The page is at the address in the Location field."),
    "/nothing": (404, "The requested URL was not found on this server."),
    "/md/index.txt": (405, "The requested URL takes the methods in the Allow field only."),
}


@pytest.mark.parametrize("path", REASONS)
def test_the_page_of_an_error_is_one_sentence(store, path):
    status, reason = REASONS[path]
    with serve_folder(store) as server:
        answer = ask(server, path, method="DELETE" if status == 405 else "GET")
    assert (answer.status, f"<p>{reason}</p>".encode() in answer.body) == (status, True)


@pytest.mark.parametrize(("plus", "colon"), [("+", ":"), ("%2B", "%3A"), ("%2b", ":")])
def test_names_are_found_as_they_are_and_percent_encoded(plus, colon, tmp_path):
    rows = b"f+1:a|t|T|\nf+1:b|t|T|\n"
    tree = {
        "index.txt": ROOT,
        "p+:/index.txt": b"# filesetID|time registered|type|\n" + rows,
        "p+:/f+1:a/index.txt": TREE["md/o1/index.txt"],
        "p+:/f+1:a/x+:y": b"content",
    }
    product, fileset = f"p{plus}{colon}", f"f{plus}1{colon}a"
    with serve_folder(write_tree(tmp_path / "store", tree)) as server:
        assert b"a.tgz" in ask(server, f"/{product}/{fileset}/index.txt").body
        assert ask(server, f"/{product}/{fileset}/x{plus}{colon}y").body == b"content"
        newer = ask(server, f"/{product}/index.txt?{fileset}").body
    assert [line.split(b"|")[0].strip() for line in newer.splitlines()[1:2]] == [b"f+1:b"]


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
        assert ask(server, "/p/f/index.txt").status == ask(server, "/p/f/").status == 404
        assert ask(server, "/p/f/x").status == 403
        assert "md" in ask(server, "/").body.decode()


class Broken(Memory):
    """A tree on a disk that fails."""

    def __init__(self, error):
        self.error = error

    def fileset_listing(self, product, fileset):
        raise self.error

    def file(self, product, fileset, name):
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(errno.EMFILE, "Too many open files"), 503),
        (OSError(errno.ESTALE, "Stale file handle"), 503),
        (OSError(errno.EIO, "Input/output error"), 503),
        (PermissionError(errno.EACCES, "Permission denied"), 403),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), 404),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory"), 404),
    ],
)
@pytest.mark.parametrize("path", ["/p/f/index.txt", "/p/f/x", "/p/f", "/p/f/"])
def test_an_error_of_the_disk_is_one_line(caplog, error, status, path):
    with serve(DataStoreApp(Broken(error))) as server:
        assert ask(server, path).status == status
        assert ask(server, "/index.txt").body == ROOT
    expected = [f"cannot respond to GET {b'/ds' + path.encode()!r}: {error}"] if status == 503 else []
    assert [record.getMessage() for record in caplog.records] == expected
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.skipif(WGET is None, reason="wget is not installed")
@pytest.mark.parametrize(
    ("begin", "folder"), [("/", ""), ("/md/", "md"), ("/md", "md"), ("/md/o1/", "md/o1")]
)
def test_wget_fetches_what_is_below_its_address_and_nothing_else(store, tmp_path, begin, folder):
    write_tree(store, {"other/o2/index.txt": b"# fileID|bytes|md5sum|type|\nb.fits|3||fits|\n"})
    write_tree(store, {"other/o2/b.fits": b"odd", "md/o3/index.txt": b"# fileID|bytes|md5sum|type|\n"})
    (store / "index.txt").unlink()
    with serve_folder(store) as server:
        command = [WGET, "--quiet", "--recursive", "--level=inf", "--no-host-directories", "--tries=1"]
        subprocess.run([*command, server.url + begin], cwd=tmp_path, check=True, timeout=TIMEOUT_SECONDS)
    assert files_of(tmp_path / "ds") == files_of(store, folder)


def files_of(root, folder=""):
    """The files below a folder by their paths from the root, without pages and generated listings."""
    paths = [path for path in (root / folder).rglob("*") if path.is_file()]
    assert all(path.is_relative_to(root / folder) for path in root.rglob("*") if path.is_file()) or folder
    names = {"index.html", "index.txt"}
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if path.name not in names}
