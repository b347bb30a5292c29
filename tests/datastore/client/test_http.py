"""HTTP client: pooled connections, redirects, proxies, passwords, https."""

import base64
import contextlib
import http.client
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.scripted_server import Asked, answer, scripted
from support.upstream import File, Upstream

from pipeline.datastore.client.http import DataStoreClient
from pipeline.datastore.client.limits import Limits
from pipeline.datastore.client.retry import RetryPolicy
from pipeline.datastore.client.transfer import Transfer
from pipeline.errors import MirrorError, ServerUnavailable
from pipeline.sample import faults

pytestmark = pytest.mark.usefixtures("unconnected")

TIMEOUT_SECONDS = 60
LISTING = b"# productID|Most recent|Time registered|type|Description|\np|none|null|t|d|\n"
BIG = bytes(range(256)) * 8000


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory) -> Path:
    upstream = Upstream(tmp_path_factory.mktemp("connections") / "upstream")
    files = [File(f"f{number}.fits", BIG + bytes([number])) for number in range(4)]
    upstream.add("p", "f", [*files, File("small.fits", b"s"), File("t.txt", BIG, "text")])
    return upstream.folder


@pytest.fixture
def connect():
    opened: list[DataStoreClient] = []

    def connect(url: str, connections: int = 2, attempts: int = 1, timeout: float = 20) -> DataStoreClient:
        policy = RetryPolicy(attempts=attempts, first_pause=1, sleep=lambda _: None)
        opened.append(DataStoreClient(url, Limits(connections=connections, timeout=timeout), policy))
        return opened[-1]

    yield connect
    for store in opened:
        store.close()


def fetch(store: DataStoreClient, name: str, folder: Path) -> bytes:
    """The file of that name, by its row in the listing."""
    (row,) = (row for row in store.files("p", "f")[1] if row.name == name)
    partial = folder / f"{name}.{threading.get_ident()}.part"
    Transfer(store, store.retry_policy, store.file_url("p", "f", name), row, partial, lambda _: None).fetch()
    return partial.read_bytes()


def test_one_connection_serves_listings_and_files_one_after_another(server, connect, tmp_path):
    store = connect(server.url)
    for name in ("f0.fits", "small.fits", "t.txt", "f1.fits"):
        assert len(fetch(store, name, tmp_path)) in {len(BIG) + 1, len(BIG), 1}
    store.products()
    assert server.connections_made == 1
    assert len(server.requests) == 9


@pytest.mark.parametrize("connections", [1, 3])
def test_no_more_connections_than_allowed_and_no_fewer(connections, server, connect, tmp_path):
    server.faults.append(faults.delays(0.01))
    store = connect(server.url, connections)

    def work(number: int) -> None:
        for _ in range(2):
            store.filesets("p")
            content = fetch(store, f"f{number % 4}.fits", tmp_path)
            assert content == BIG + bytes([number % 4])

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    assert len(server.requests) == 16 * 2 * 3
    assert server.peak_connections == connections
    assert server.connections_made == connections


@pytest.mark.parametrize(
    "fault",
    [
        faults.fails(404, target="files"),
        faults.fails(503, target="files"),
        faults.hangs_up(after=10),
        faults.resets(after=10),
        faults.flips_byte(),
        faults.never_ends(),
        faults.runs_over(),
        faults.redirects(target="files"),
        faults.redirects("http://127.0.0.2:9/", target="files"),
        faults.stalls(after=10),
    ],
    ids=[
        *("404", "503", "hangs up", "resets", "flips a byte", "never ends", "runs over"),
        *("redirect loop", "redirect elsewhere", "stalls"),
    ],
)
def test_a_failed_request_does_not_keep_its_connection(fault, server, connect, tmp_path):
    store = connect(server.url, connections=1, timeout=0.5)
    server.faults.append(fault)
    for _ in range(2):
        with contextlib.suppress(MirrorError):
            fetch(store, "f0.fits", tmp_path)
    server.faults.clear()
    server.clear()
    assert fetch(connect(server.url, connections=1), "f2.fits", tmp_path) == BIG + b"\x02"
    assert fetch(store, "f2.fits", tmp_path) == BIG + b"\x02"


def test_what_came_after_a_files_end_is_not_taken_for_the_next_answer(server, connect, tmp_path):
    store = connect(server.url, connections=1, attempts=3)
    server.faults.append(faults.runs_over(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad" * 5))
    for name, content in {"f0.fits": BIG + b"\x00", "f1.fits": BIG + b"\x01", "small.fits": b"s"}.items():
        assert fetch(store, name, tmp_path) == content


def leads(to: str):
    """A server whose root listing is found after a redirect."""

    def answers(asked: Asked) -> bytes:
        if asked.target.startswith("/ds/index.txt"):
            return answer("302 Found", b"moved", Location=to)
        return answer(body=LISTING)

    return answers


@pytest.mark.parametrize(
    "to", ["/other/index.txt", "list.txt", "?x", "//127.0.0.1:{port}/a", "{base}/b", "ä"]
)
def test_a_redirect_within_the_server_is_followed(to, connect):
    answers = []
    with scripted(lambda asked: answers[0](asked)) as server:
        port = urlsplit(server.url).port
        answers.append(leads(to.format(port=port, base=server.url)))
        if to == "?x":
            answers[0] = lambda asked: answer(body=LISTING) if "?x" in asked.target else leads(to)(asked)
        assert [row.name for row in connect(server.url).products()] == ["p"]
        assert len(server.asked) == 2


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 Other", "307 Temporary", "308 Permanent"])
def test_each_kind_of_redirect_keeps_the_range_that_was_asked_for(status, connect):
    def answers(asked: Asked) -> bytes:
        return answer(status, Location="/b") if asked.target == "/ds/p/f/x" else answer(body=b"x")

    with scripted(answers) as server:
        store = connect(server.url)
        with store.get(store.file_url("p", "f", "x"), {"Range": "bytes=5-", "If-Range": '"e"'}) as response:
            assert response.read(9) == b"x"
    assert [(asked.target, asked.fields["range"], asked.fields["if-range"]) for asked in server.asked] == [
        ("/ds/p/f/x", "bytes=5-", '"e"'),
        ("/b", "bytes=5-", '"e"'),
    ]


def test_redirects_in_a_circle_end(server, connect):
    server.faults.append(faults.redirects())
    with pytest.raises(ServerUnavailable, match="more than 5 redirects, the last to"):
        connect(server.url, attempts=4).products()
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    "to",
    [
        "http://127.0.0.2:{port}/ds/index.txt",
        "http://127.0.0.1:9/ds/index.txt",
        "https://127.0.0.1:9/ds/index.txt",
        "http://localhost:{port}/ds/index.txt",
        "//example.org/ds/index.txt",
        "ftp://127.0.0.1:{port}/",
        "file:///etc/passwd",
        "javascript:///alert(1)",
        "https://127.0.0.2:{port}/",
    ],
)
def test_a_redirect_elsewhere_is_not_followed(to, connect):
    answers = []
    with scripted(lambda asked: answers[0](asked)) as server:
        to = to.format(port=urlsplit(server.url).port)
        answers.append(leads(to))
        with pytest.raises(ServerUnavailable) as raised:
            connect(server.url, attempts=4).products()
    seen = f"http:{to}" if to.startswith("//") else to
    assert f"got a redirect to {seen}, which is not followed" in str(raised.value)
    assert "change source.url" in str(raised.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize("to", ["http://[bad/", "http://127.0.0.1:port/", "http://127.0.0.1:99999/"])
def test_a_redirect_to_what_is_no_address(to, connect):
    with (
        scripted(leads(to)) as server,
        pytest.raises(ServerUnavailable, match=r"expected a redirect to an address, got one to "),
    ):
        connect(server.url, attempts=4).products()
    assert len(server.asked) == 1


def test_a_redirect_that_leads_nowhere_is_a_refusal(connect):
    with (
        scripted(lambda asked: answer("302 Found")) as server,
        pytest.raises(ServerUnavailable, match="got 302 Found"),
    ):
        connect(server.url).products()


def test_the_body_of_a_redirect_is_not_read(server, connect):
    server.faults.extend([faults.redirects("http://127.0.0.2:9/"), faults.never_ends(target="listings")])
    with pytest.raises(ServerUnavailable, match="which is not followed"):
        connect(server.url).products()


def forward(asked: Asked) -> bytes:
    """A forward proxy: asks for the whole address of the request, and passes the answer on."""
    address = urlsplit(asked.target)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
    try:
        fields = {name: asked.fields[name] for name in ("range", "if-range") if name in asked.fields}
        connection.request("GET", address.path, headers=fields)
        came = connection.getresponse()
        return answer(f"{came.status} {came.reason}", came.read(), ETag=came.headers.get("ETag", ""))
    finally:
        connection.close()


@pytest.fixture
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_proxy_of_the_environment_is_used(server, connect, no_proxies, monkeypatch, tmp_path):
    with scripted(forward) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/ds"))
        store = connect(server.url)
        assert [row.name for row in store.filesets("p")] == ["f"]
        assert fetch(store, "f0.fits", tmp_path) == BIG + b"\x00"
        assert [asked.target for asked in proxy.asked] == [
            f"{server.url}/p/index.txt",
            f"{server.url}/p/f/index.txt",
            f"{server.url}/p/f/f0.fits",
        ]
        assert proxy.connections == 1
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert len(connect(server.url).products()) == 1
        assert len(proxy.asked) == 3
    assert len(server.requests) == 4


def test_the_environment_is_asked_once_for_each_server(server, connect, no_proxies, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ipp password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with scripted(lambda _: answer(body=LISTING)) as one, scripted(forward) as proxy:
        store = connect(one.url)
        store.products()
        netrc.unlink()
        monkeypatch.setenv("http_proxy", proxy.url)
        store.products()
        assert len({request.fields["authorization"] for request in one.asked}) == 1
        assert len(one.asked) == 2
        assert proxy.asked == []
        connect(server.url).products()
        assert len(proxy.asked) == 1


# Addresses in which one parser sees the server at ``port``, and another one that at ``evil``.
TWO_FACED = [
    r"http://127.0.0.1:{evil}\@127.0.0.1:{port}/list",
    r"http://127.0.0.1:{port}\@127.0.0.1:{evil}/list",
    r"http://127.0.0.1:{evil}\\@127.0.0.1:{port}/list",
    r"\\127.0.0.1:{evil}/list",
    r"/\127.0.0.1:{evil}/list",
    r"http:\\127.0.0.1:{evil}/list",
    "/\t/127.0.0.1:{evil}/list",
    "http://127.0.0.1:{evil}\t@127.0.0.1:{port}/list",
    "ht\ttp://127.0.0.1:{evil}/list",
    "/list\x00",
    "/list\x7f",
    "http://127.0.0.1:{port}%40127.0.0.1:{evil}/list",
    "http://127.0.0.1:{port}:{evil}/list",
]
WITH_USER_NAME = [
    "http://ipp@127.0.0.1:{port}/list",
    "http://ipp:secret@127.0.0.1:{port}/list",
    "//ipp@127.0.0.1:{port}/list",
    "http://127.0.0.1:{port}@127.0.0.1:{evil}/list",
    "http://127.0.0.1:{port} @127.0.0.1:{evil}/list",
    "http://127.0.0.1:{evil};@127.0.0.1:{port}/list",
]


@pytest.mark.parametrize("to", TWO_FACED + WITH_USER_NAME, ids=ascii)
def test_a_redirect_with_two_readings_or_a_user_name_is_not_followed(to, connect, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ipp password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    targets = []
    with (
        scripted(lambda _: answer(body=LISTING)) as evil,
        scripted(lambda _: answer("302 Found", b"moved", Location=targets[0])) as server,
    ):
        targets.append(to.format(port=urlsplit(server.url).port, evil=urlsplit(evil.url).port))
        store = connect(server.url, attempts=4)
        with pytest.raises(ServerUnavailable) as raised:
            store.products()
        with pytest.raises(ServerUnavailable), store.get(store.file_url("p", "f", "x")):
            pass
    assert evil.asked == []
    assert [asked.target for asked in server.asked] == ["/ds/index.txt", "/ds/p/f/x"]
    expected = "without a user name" if to in WITH_USER_NAME else "to an address, got one to"
    assert f"{server.url}/index.txt: expected a redirect {expected}" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "to", ["/list#@127.0.0.1:9/", "/a@b", "/list?u@h:1", "//127.0.0.1:{port}?@x/", "/a b"]
)
def test_a_redirect_within_the_server_may_hold_an_at_sign_or_a_blank(to, connect):
    targets = []

    def answers(asked: Asked) -> bytes:
        if asked.target == "/ds/index.txt":
            return answer("302 Found", Location=targets[0])
        return answer(body=LISTING)

    with scripted(answers) as server:
        targets.append(to.format(port=urlsplit(server.url).port))
        assert len(connect(server.url).products()) == 1
    assert len(server.asked) == 2


def test_a_proxy_that_is_not_there(server, connect, no_proxies, monkeypatch):
    with scripted(forward) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
    with pytest.raises(ServerUnavailable, match=f"{server.url}/index.txt: connection refused by the proxy"):
        connect(server.url).products()
    assert server.requests == []


def test_the_usual_port_is_the_same_server(connect, no_proxies, monkeypatch):
    def answers(asked: Asked) -> bytes:
        if "index" in asked.target:
            return answer("302 Found", Location="http://Store.EXAMPLE:80/list")
        return answer(body=LISTING)

    with scripted(answers) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert len(connect("http://store.example/ds").products()) == 1
    assert [asked.target.lower() for asked in proxy.asked] == [
        "http://store.example/ds/index.txt",
        "http://store.example:80/list",
    ]


def test_a_password_of_netrc_is_sent_to_its_host_only(connect, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ipp password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    def answers(asked: Asked) -> bytes:
        good = asked.fields.get("authorization") == "Basic " + base64.b64encode(b"ipp:secret").decode()
        return answer(body=LISTING) if good else answer("401 Unauthorized")

    with scripted(answers) as server:
        assert len(connect(server.url).products()) == 1
        netrc.write_text("machine example.org login ipp password secret\n")
        with pytest.raises(ServerUnavailable, match="got 401 Unauthorized"):
            connect(server.url).products()
    assert "authorization" not in server.asked[1].fields


@pytest.fixture
def secure(certificate):
    """A server that speaks https."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with scripted(lambda asked: answer(body=LISTING), tls=context) as running:
        yield running


def test_https_with_a_certificate_of_the_environment(secure, connect, certificate, monkeypatch):
    with pytest.raises(ServerUnavailable, match="certificate verify failed"):
        connect(secure.url).products()
    assert secure.asked == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert len(connect(secure.url).products()) == 1


def test_http_that_leads_to_https_of_the_same_port(connect, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    answers = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with scripted(lambda asked: answers[0](asked), tls=context) as server:
        answers.append(leads(f"{server.url}/list.txt"))
        store = connect(server.url.replace("https:", "http:"), connections=3)
        with ThreadPoolExecutor(12) as threads:
            found = list(threads.map(lambda _: len(store.products()), range(60)))
    assert found == [1] * 60
    # At most so many for each scheme.
    assert server.most_open <= 6
    assert server.connections <= 6


def test_http_that_leads_to_https_of_the_same_host(connect):
    with (
        scripted(leads("https://127.0.0.1/ds/index.txt")) as plain,
        pytest.raises(ServerUnavailable) as raised,
    ):
        connect(plain.url).products()
    assert str(raised.value).startswith(f"{plain.url}/index.txt: ")
    assert "which is not followed" not in str(raised.value)


def test_https_that_leads_to_http_is_not_followed(secure, connect, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with (
        scripted(lambda asked: answer(body=LISTING)) as plain,
        scripted(leads(f"{plain.url}/index.txt"), tls=context) as leading,
        pytest.raises(ServerUnavailable, match="which is not followed"),
    ):
        connect(leading.url).products()
    assert plain.asked == []
