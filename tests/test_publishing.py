"""Publication of own files: the tree that readers see, at each instant, and what is refused."""

import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.trees import tree

from pipeline.datastore.listing import read_files, read_filesets
from pipeline.errors import SettingsError
from pipeline.publishing import Publisher

PRODUCT = "light-curves"


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "published")
    made.add_product(PRODUCT, "table", "Light  curves")
    return made


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "mine").mkdir()
    paths = [tmp_path / "mine" / name for name in ("a.fits", "notes.txt", "all.tar.gz", "empty.csv")]
    for number, path in enumerate(paths):
        path.write_bytes(b"x" * 1000 * (3 - number))
    return paths


def served(publisher: Publisher) -> dict[str, bytes]:
    return {
        path: content for path, content in tree(publisher.folder).items() if path.rsplit("/")[-1] != ".lock"
    }


def names(publisher: Publisher) -> list[str]:
    return [row.name for row in publisher.filesets(PRODUCT)]


def test_a_fileset_is_copies_of_the_files_with_their_listing(publisher, files):
    row, size = publisher.publish(PRODUCT, "one", files)
    assert size == 6000
    whole = served(publisher)
    folder = f"{PRODUCT}/one"
    assert {path: whole.pop(f"{folder}/{path.name}") for path in files} == {
        path: path.read_bytes() for path in files
    }
    listed = read_files(whole.pop(f"{folder}/index.txt"), "x")
    assert [(each.name, each.bytes, each.md5, each.type) for each in listed] == [
        (path.name, path.stat().st_size, hashlib.md5(path.read_bytes()).hexdigest(), kind)
        for path, kind in zip(files, ("fits", "text", "tgz", "table"), strict=True)
    ]
    assert whole == {
        "index.txt": (
            "# productID|Most recent|Time registered|type|Description|\n"
            f"{PRODUCT}|one|{row.registered}|table|Light curves|\n"
        ).encode(),
        f"{PRODUCT}/index.txt": (
            f"# filesetID|time registered|type|\none|{row.registered}|notset|\n"
        ).encode(),
    }


def test_what_is_not_there_is_answered_with_the_nearest(publisher, files):
    publisher.publish(PRODUCT, "first", files)
    for action, said in (
        (
            lambda: publisher.publish("light-curve", "two", files),
            "got 'light-curve'. Nothing was changed. Did ",
        ),
        (lambda: publisher.withdraw("other", "first"), "Add it with: ipp-mirror product add other"),
        (lambda: publisher.withdraw(PRODUCT, "firs"), "product 'light-curves', which has 1, got 'firs'"),
        (
            lambda: publisher.withdraw(PRODUCT, "firs"),
            "got 'firs'. Did you mean 'first'? Nothing was changed.",
        ),
    ):
        with pytest.raises(SettingsError) as raised:
            action()
        assert said in str(raised.value)


def test_no_time_of_registration_comes_twice_also_after_a_withdrawal(publisher, files):
    times, today = [], f"{datetime.now(UTC):%Y-%m-%d}"
    for name in ("one", "two", "two", "two"):
        times.append(publisher.publish(PRODUCT, name, files)[0].registered)
        if name == "two":
            publisher.withdraw(PRODUCT, name)
    assert times == sorted(set(times))
    assert times[0] >= today
    assert names(publisher) == ["one"]
    assert not (publisher.folder / PRODUCT / "two").exists()
    assert publisher.products()[0].most_recent == "one"


def test_a_product_goes_once_its_filesets_have_gone(publisher, files):
    publisher.publish(PRODUCT, "one", files)
    with pytest.raises(
        SettingsError, match=r"expected a product without filesets, got 'light-curves' with 1"
    ):
        publisher.remove_product(PRODUCT)
    publisher.withdraw(PRODUCT, "one")
    publisher.add_product("more", "image", "")
    publisher.remove_product(PRODUCT)
    assert [row.name for row in publisher.products()] == ["more"]
    assert not (publisher.folder / PRODUCT).exists()


def test_publications_at_the_same_time_all_happen(publisher, files):
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: Publisher(publisher.folder).publish(PRODUCT, f"f{n}", files), range(12)))
    assert sorted(names(publisher)) == sorted(f"f{number}" for number in range(12))
    times = [row.registered for row in publisher.filesets(PRODUCT)]
    assert times == sorted(set(times))


@pytest.mark.parametrize("name", ["a b", ".hidden", "index.txt", "../up", "", "x|y", "x" * 256])
def test_a_name_that_readers_could_not_ask_for(name, publisher, files):
    before = served(publisher)
    for refused in (
        lambda: publisher.add_product(name, "table", ""),
        lambda: publisher.publish(PRODUCT, name, files),
        lambda: publisher.withdraw(PRODUCT, name),
    ):
        with pytest.raises(SettingsError, match=r"^(product|fileset): .*Nothing was changed"):
            refused()
    assert served(publisher) == before


def test_files_that_cannot_be_published(publisher, files, tmp_path):
    before = served(publisher)
    (tmp_path / "index.txt").touch()
    (tmp_path / "a.fits").touch()
    (tmp_path / "bad name").touch()
    os.mkfifo(tmp_path / "pipe")
    for wrong, problem in (
        ([tmp_path / "absent"], "expected a file to publish, got .*absent"),
        ([tmp_path / "mine"], "expected a file to publish, got .*mine"),
        ([tmp_path / "pipe"], "expected a file to publish, got .*pipe"),
        ([tmp_path / "index.txt"], "file: expected a name .* got 'index.txt'"),
        ([files[0], tmp_path / "a.fits"], "got two with that of .*a.fits"),
        ([tmp_path / "bad name"], "without blanks"),
    ):
        with pytest.raises(SettingsError, match=problem):
            publisher.publish(PRODUCT, "one", wrong)
    assert served(publisher) == before


def test_what_is_there_is_not_replaced_and_what_is_not_there_is_named(publisher, files):
    publisher.publish(PRODUCT, "one", files)
    before = served(publisher)
    for refused, problem in (
        (lambda: publisher.publish(PRODUCT, "one", files[:1]), "is published already"),
        (lambda: publisher.add_product(PRODUCT, "table", ""), "is there already"),
        (lambda: publisher.publish("other", "one", files), r"own \(light-curves\), got 'other'"),
        (lambda: publisher.withdraw(PRODUCT, "two"), "got 'two'"),
        (lambda: publisher.add_product("p", "table", "a|b"), "printable ASCII"),
        (lambda: publisher.add_product("p", "table", "a\nb"), "printable ASCII"),
    ):
        with pytest.raises(SettingsError, match=problem):
            refused()
    assert served(publisher) == before


def test_what_a_kill_left_is_replaced_or_removed(publisher, files):
    """A kill after the folder has appeared, in the middle of a copy, and after the row has gone."""
    product = publisher.folder / PRODUCT
    for name in ("one", ".unfinished", "gone"):
        (product / name).mkdir()
        (product / name / "part").write_bytes(b"part")
    assert names(publisher) == []
    publisher.publish(PRODUCT, "one", files)
    publisher.withdraw(PRODUCT, "gone")
    assert names(publisher) == ["one"]
    assert not [path for path in served(publisher) if "part" in path or "gone" in path]


def test_a_file_that_cannot_be_read_publishes_nothing(publisher, files):
    before = served(publisher)
    link = files[0].with_name("link.fits")
    link.symlink_to("/proc/self/mem")
    with pytest.raises(OSError) as failed:
        publisher.publish(PRODUCT, "one", [*files, link])
    assert failed.value.errno == errno.EIO
    assert served(publisher) == before


def test_listings_are_those_that_readers_accept(publisher, files):
    path = publisher.folder / PRODUCT / "index.txt"
    assert read_filesets(path.read_bytes(), "x") == []
    publisher.publish(PRODUCT, "one", files)
    assert [row.type for row in read_filesets(path.read_bytes(), "x")] == ["notset"]
