"""The pages for people: what they say, where their links lead, what a browser makes of them."""

import re
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import quote, urljoin

import pytest
import requests
from support.browser import needs_browser, open_page
from support.wire import recorded, serve_folder, write_tree

from pipeline.datastore.server import ServerLimits

ROWS_PER_PAGE = 10
CHIP = "o4741g0234o.chip.14517.31.1"
ODD = 'odd: 50%25+&<b>"x"#?;\'é'
BYTES_THAT_ARE_NO_TEXT = b"\xff.fits".decode("utf-8", "surrogateescape")
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Content of a page; complains about tags that do not match and attributes that repeat."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: dict[str, str] = {}
        self.texts: list[tuple[str, str]] = []
        self.tags: Counter[str] = Counter()
        self.open: list[str] = []
        self.href: str | None = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes)
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        if tag == "a":
            self.href = dict(attributes)["href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if text.strip():
            self.texts.append((self.open[-1], text))
            if self.open[-1] == "a":
                self.links[text] = self.href

    def in_tag(self, *tags):
        return [text for tag, text in self.texts if tag in tags]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rows = b"".join(b"f%04d|2009-08-11T00:00:00Z|X|\n" % number for number in range(2 * ROWS_PER_PAGE + 1))
    return write_tree(
        tmp_path_factory.mktemp("pages"),
        {
            "index.txt": recorded("01_root_index.txt").body,
            "md-all-rel-200907/index.txt": recorded("02_product_index.txt").body,
            f"md-all-rel-200907/{CHIP}/index.txt": recorded("08_fileset_index.txt").body,
            "pstampresults/web_1001/index.txt": recorded("09_fileset_mixed_pstamp_1001.txt").body,
            "empty-product/index.txt": recorded("06_product_empty.txt").body,
            "large/index.txt": b"# filesetID|time registered|type|\n" + rows,
            f"{ODD}/{ODD}/index.txt": f"# fileID|bytes|md5sum|type|\n{ODD}.fits|3||<i>|\n".encode()
            + b"\xff.fits|12345||x|\n",
            f"{ODD}/{ODD}/{ODD}.fits": b"odd",
            f"{ODD}/{ODD}/{BYTES_THAT_ARE_NO_TEXT}": b"bytes",
        },
    )


@pytest.fixture(scope="module", params=["/ds", ""])
def server(request, store):
    with serve_folder(
        store, prefix=request.param, limits=ServerLimits(rows_per_page=ROWS_PER_PAGE)
    ) as running:
        yield running


def get(server, path):
    response = requests.get(server.url + path)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert int(response.headers["Content-Length"]) == len(response.content)
    return Page(response.text), response.url


def test_the_root_page_lists_the_products(server):
    page, _ = get(server, "/")
    assert page.in_tag("title", "h1") == ["Data Store", "Data Store"]
    assert page.in_tag("th")[:5] == ["productID", "Most recent", "Time registered", "type", "Description"]
    assert "MD fields, all stages, release 2009-07" in page.in_tag("td")
    assert {"md-all-rel-200907", "o4741g0237o.warp.7001.35.1", "empty-product"} < page.links.keys()
    assert "none" not in page.links


def test_a_product_page_lists_its_filesets_newest_first(server):
    page, _ = get(server, "/md-all-rel-200907/")
    assert page.in_tag("title", "h1") == ["Product md-all-rel-200907"] * 2
    names = [name for name in page.links if name not in {"Data Store", "text version"}]
    assert (len(names), names[0], names[-1]) == (6, "o4741g0237o.warp.7001.35.1", CHIP)
    assert "null" not in page.in_tag("td")


def test_a_fileset_page_has_a_table_for_each_kind_of_file(server):
    page, _ = get(server, "/pstampresults/web_1001/")
    assert page.tags["table"] == page.tags["caption"] == page.tags["thead"] == 3
    assert {"results.fits", "results.mdc", "1001_3_ota14_XY14.fits"} < page.links.keys()
    assert "8,640" in page.in_tag("td")
    assert "5 files, 95,310 bytes · " in page.in_tag("p")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/empty-product", "This product has no filesets."),
        ("/md-all-rel-200907", "6 filesets, newest first · "),
    ],
)
def test_a_page_says_how_much_there_is(server, path, words):
    assert words in get(server, path)[0].in_tag("p")


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", ["", "/md-all-rel-200907", f"/md-all-rel-200907/{CHIP}"])
def test_links_lead_to_what_they_name(server, path, slash):
    page, url = get(server, path + slash)
    base = server.url + path + "/"
    assert urljoin(url, page.links["text version"]) == f"{base}index.txt"
    crumbs = ["Data Store", "md-all-rel-200907"][: path.count("/")]
    above = [f"{server.url}/", f"{server.url}/md-all-rel-200907/"][: path.count("/")]
    assert [urljoin(url, page.links[name]) for name in crumbs] == above


@pytest.mark.parametrize("agent", ["Wget/1.21.3", "Mozilla/5.0 (like wget)"])
def test_pages_for_wget_have_no_links_upward(server, agent):
    for path in ("/", "/md-all-rel-200907/", f"/md-all-rel-200907/{CHIP}/"):
        response = requests.get(server.url + path, headers={"User-Agent": agent})
        links = Page(response.text).links.values()
        assert links and all(urljoin(response.url, link).startswith(response.url) for link in links)
        assert response.headers["Vary"] == "User-Agent"
        assert get(server, path)[0].in_tag("td", "th", "h1") == Page(response.text).in_tag("td", "th", "h1")


@pytest.mark.parametrize("slash", ["", "/"])
def test_odd_names_are_shown_and_linked_as_they_are(server, slash):
    path = f"/{quote(ODD, safe='')}"
    page, url = get(server, path + slash)
    assert page.in_tag("h1") == [f"Product {ODD}"]
    assert urljoin(url, page.links[ODD]) == f"{server.url}{path}{path}/"
    page, url = get(server, path + path + slash)
    assert page.in_tag("h1") == [f"Fileset {ODD}"]
    assert page.tags["i"] == page.tags["b"] == 0
    assert requests.get(urljoin(url, page.links[f"{ODD}.fits"])).content == b"odd"
    assert requests.get(urljoin(url, page.links["\N{REPLACEMENT CHARACTER}.fits"])).content == b"bytes"
    assert urljoin(url, page.links["Data Store"]) == f"{server.url}/"
    assert urljoin(url, page.links[ODD]) == f"{server.url}{path}/"


def test_a_large_product_is_shown_a_page_at_a_time(server):
    seen, path = [], "/large"
    for _ in range(3):
        page, url = get(server, path)
        seen += [name for name in page.links if re.fullmatch(r"f\d{4}", name)]
        path = urljoin(url, page.links.get("Older", "")).removeprefix(server.url)
    assert "Older" not in page.links
    assert seen == [f"f{number:04d}" for number in reversed(range(2 * ROWS_PER_PAGE + 1))]
    assert "Page 3 of 3" in page.in_tag("li")
    assert "21 filesets, newest first · " in page.in_tag("p")


@pytest.mark.parametrize("number", ["0", "-1", "x", "99999999999999999999", "%D9%A3%00", "4"])
def test_a_page_number_out_of_range_shows_the_nearest_page(server, number):
    page, _ = get(server, f"/large?page={number}")
    assert page.in_tag("li")[-1] == ("Page 3 of 3" if number == "4" else "Page 1 of 3")


@pytest.mark.parametrize("path", ["/nothing", "/large/nothing/", "/.hidden", "/large/nothing/x/"])
def test_there_is_no_page_of_what_is_not_there(server, path):
    assert requests.get(server.url + path).status_code == 404


@needs_browser
def test_a_browser_shows_the_page_without_complaint(server, tmp_path):
    url = f"{server.url}/md-all-rel-200907/{CHIP}"
    picture = tmp_path / "page.png"
    shot = open_page(url, picture, "1100,600")
    assert shot.returncode == 0, shot.stderr
    assert f"<h1>Fileset {CHIP}</h1>" in shot.stdout
    assert "CONSOLE" not in shot.stderr
    assert picture.stat().st_size > 10_000
