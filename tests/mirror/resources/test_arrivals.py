"""The order of arrival as it is written: entries, positions, loss, damage, and who is served what for it."""

import multiprocessing
import os
import threading
import time

import pytest
from support.arrivals import PRODUCT, Holding, index_of, row

from pipeline.mirror.state.layout import Layout, MarkerKind
from pipeline.mirror.state.marker_file import write_marker
from pipeline.mirror.state.markers import Fileset
from pipeline.serving import MirrorTree

ONE, TWO, THREE, FOUR = (row(name, second) for second, name in enumerate(["one", "two", "three", "four"]))
TITLE = "# The order in which the filesets became visible in store/; docs/on-disk.md\n"
HEADER = "# filesetID|time registered|type|stage|arrival|md5 of index.txt|crc32|\n"


@pytest.fixture
def holding(tmp_path) -> Holding:
    """A mirror that knows four filesets and has none yet."""
    holding = Holding(Layout(tmp_path))
    holding.know(ONE, TWO, THREE, FOUR)
    assert holding.arrivals.settle(PRODUCT)
    return holding


def served(holding: Holding, after: str | None = None) -> list[str]:
    """The filesets that a reader gets; with ``after`` those that it gets for ``?after``."""
    listing = MirrorTree(holding.layout).product_listing(PRODUCT, after)
    lines = [line for line in (listing or b"").decode().splitlines() if line and not line.startswith("#")]
    return [line.split("|")[0].strip() for line in lines]


def path_of(holding: Holding):
    return holding.layout.arrivals(PRODUCT)


def test_an_entry_is_the_whole_row_its_number_and_what_it_is_checked_by(holding):
    assert path_of(holding).read_text() == TITLE
    assert [holding.arrive(each) for each in (TWO, row("one", 0, "more"))] == ["1", "2"]
    assert path_of(holding).read_text() == (
        TITLE
        + HEADER
        + "two|2009-08-11T00:00:01Z|IPP-DIST|chip|1|2a69f6f1991b81577b8f6a3c72b135d0|1ff23aed|\n"
        "one|2009-08-11T00:00:00Z|IPP-DIST|chip|more|2|2a69f6f1991b81577b8f6a3c72b135d0|db8cf2ce|\n"
    )


def test_columns_that_change_are_named_above_the_row(holding):
    plain = ("filesetID", "time registered", "type")
    other = ONE.__class__("one", "t", "x", plain, ("one", "t", "x"))
    for each in (TWO, other, THREE, FOUR):
        holding.arrive(each)
    headers = [line for line in path_of(holding).read_text().splitlines() if line.startswith("# filesetID")]
    assert [header.split("|")[3] for header in headers] == ["stage", "arrival", "stage"]
    assert b"# filesetID|time registered|type|stage|\ntwo|" in MirrorTree(holding.layout).read_product(
        PRODUCT
    )


def test_a_killed_publication_leaves_an_entry_that_nobody_sees(holding):
    holding.arrive(ONE)
    with holding.arrivals.entered(Fileset.of(PRODUCT, TWO), index_of(b"x")):
        pass  # killed before the rename
    assert served(holding) == ["one"]
    holding.arrive(THREE)
    assert served(holding, "one") == ["three"]
    assert holding.arrive(TWO) == "4"
    assert served(holding) == ["one", "three", "two"]
    assert served(holding, "three") == ["two"]


def test_a_fileset_published_before_the_kill_keeps_its_place(holding):
    holding.arrive(ONE)
    with holding.arrivals.entered(Fileset.of(PRODUCT, TWO), index_of(b"x")):
        holding.publish(TWO, b"x")
    holding.arrive(THREE)
    with holding.arrivals.entered(Fileset.of(PRODUCT, TWO), index_of(b"x")) as number:
        assert number == "2"
    assert holding.entries() == ["one 1", "two 2", "three 3"]


def test_a_repair_in_place_keeps_the_entry_and_a_fileset_that_was_incomplete_is_entered_again(holding):
    for each in (ONE, TWO, THREE):
        holding.arrive(each)
    assert holding.arrive(ONE) == "1"
    assert served(holding) == ["one", "two", "three"]
    (holding.layout.store(PRODUCT, "one") / "a.fits").unlink()
    assert served(holding) == ["two", "three"]
    assert holding.arrive(ONE) == "~4"
    assert served(holding) == ["two", "three", "one"]
    assert served(holding, "three") == ["one"]
    assert served(holding, "one") == ["two", "three", "one"], "a reader of old may have seen nothing after it"


def test_while_a_fileset_is_pending_again_its_held_registration_is_served(holding):
    holding.arrive(ONE)
    holding.arrive(TWO)
    again = row("one", 9)
    holding.know(TWO, THREE, FOUR, again)
    holding.unmark("one")
    with holding.arrivals.entered(Fileset.of(PRODUCT, again), index_of(b"new")):
        listing = MirrorTree(holding.layout).read_product(PRODUCT)
        assert b"one|2009-08-11T00:00:00Z|" in listing and b":09Z" not in listing
        holding.publish(again, b"new")
        listing = MirrorTree(holding.layout).read_product(PRODUCT)
        assert b"one|2009-08-11T00:00:09Z|" in listing and b"one|2009-08-11T00:00:00Z" not in listing
    assert served(holding, "two") == ["one"]


def test_a_reader_between_a_new_registration_and_a_repaired_fileset_gets_all(holding):
    """It has the old registration of the one and takes the other for the next row."""
    for each in (ONE, TWO):
        holding.arrive(each)
    for each in (THREE, FOUR):
        holding.arrive(each)
    holding.arrive(row("one", 9), b"new")
    (holding.layout.store(PRODUCT, "two") / "a.fits").unlink()
    holding.arrive(TWO)
    assert served(holding) == ["three", "four", "one", "two"]
    assert served(holding, "one") == served(holding)
    assert served(holding, "four") == ["one", "two"]


def test_what_is_listed_upstream_again_is_new_to_those_that_came_meanwhile(holding):
    for each in (ONE, TWO, THREE):
        holding.arrive(each)
    holding.arrivals.enter_again(PRODUCT, {"one", "unknown"})
    assert holding.entries() == ["one 1", "two 2", "three 3", "one 4"]
    assert served(holding, "three") == ["one"]


def test_what_was_listed_again_stays_at_the_end_when_the_order_is_lost(holding):
    for each in (ONE, TWO, THREE):
        holding.arrive(each)
    holding.arrivals.enter_again(PRODUCT, {"one"})
    path_of(holding).unlink()
    holding.arrivals.settle(PRODUCT)
    assert holding.entries() == ["two 2", "three 3", "one ~4"]
    assert served(holding, "three") == ["one"]
    assert served(holding, "one") == ["two", "three", "one"]


@pytest.mark.parametrize("unfinished", [b"fo", b"four|2009|1|", HEADER.encode(), bytes(70)])
def test_an_unfinished_end_is_cut_off_by_the_next_entry(unfinished, holding):
    holding.arrive(ONE)
    sound = path_of(holding).read_bytes()
    path_of(holding).write_bytes(sound + unfinished)
    assert served(holding) == ["one"]
    assert holding.arrive(TWO) == "2"
    assert path_of(holding).read_bytes().startswith(sound)
    assert holding.entries() == ["one 1", "two 2"]
    assert served(holding) == ["one", "two"]


def test_a_lost_order_is_that_of_the_numbers_in_the_markers(holding):
    for each in (TWO, FOUR, ONE, THREE):
        holding.arrive(each)
    content = path_of(holding).read_bytes()
    path_of(holding).unlink()
    holding.arrivals.settle(PRODUCT)
    assert path_of(holding).read_bytes() == content


DAMAGES = {
    "cut in a row": lambda content: content[:-20],
    "rows cut off": lambda content: b"".join(content.splitlines(keepends=True)[:3]),
    "begin cut off": lambda content: content[10:],
    "byte of a row flipped": lambda content: content.replace(b"four|", b"foul|"),
    "byte of the last row flipped": lambda content: content[:-4] + b"X" + content[-3:],
    "byte of the header flipped": lambda content: content.replace(b"|stage|", b"|stags|"),
    "zeros in it": lambda content: content[:150] + bytes(70) + content[220:],
    "zeros": lambda content: bytes(len(content)),
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_and_repaired(damage, holding):
    for each in (TWO, FOUR, ONE, THREE):
        holding.arrive(each)
    content = path_of(holding).read_bytes()
    path_of(holding).write_bytes(DAMAGES[damage](content))
    assert served(holding) == ["one", "two", "three", "four"], "in the order of the listing"
    assert served(holding, "four") == ["one", "two", "three", "four"]
    holding.arrivals.settle(PRODUCT)
    assert path_of(holding).read_bytes() == content


def test_an_entry_without_its_marker_survives_damage_elsewhere(holding):
    """Filesets that are pending again, or that a kill left without a marker."""
    for each in (TWO, ONE, THREE):
        holding.arrive(each)
    holding.unmark("two")
    path_of(holding).write_bytes(path_of(holding).read_bytes().replace(b"three|", b"xhree|"))
    holding.arrivals.settle(PRODUCT)
    assert holding.entries() == ["two 1", "one 2", "three 3"]


def test_nothing_is_entered_in_a_lost_file_before_it_is_settled(holding):
    """An order that named the new fileset alone would hide all others."""
    holding.arrive(TWO)
    path_of(holding).unlink()
    assert holding.arrive(ONE) is None
    assert not path_of(holding).exists()
    assert served(holding) == ["one", "two"]
    holding.arrivals.settle(PRODUCT)
    assert holding.entries() == ["two 1", "one ~2"]


def earlier_mirror(holding: Holding) -> None:
    """Filesets without numbers in their markers, which came in the order three, one, four, two."""
    path_of(holding).unlink()
    for second, each in enumerate([THREE, ONE, FOUR, TWO], start=1):
        holding.publish(each, b"x")
        holding.mark(each, second=second)


def test_the_order_of_a_mirror_without_one_is_that_of_the_listing_but_for_its_end(holding):
    earlier_mirror(holding)
    holding.arrivals.settle(PRODUCT)
    assert holding.entries() == ["one ~0", "three ~0", "four 1", "two 2"]
    assert served(holding) == ["one", "three", "four", "two"]
    assert served(holding, "two") == []
    assert served(holding, "four") == ["two"]
    for behind in ("one", "three"):
        assert served(holding, behind) == served(holding)
    late = row("late", 5)
    holding.know(ONE, late, TWO, THREE, FOUR)
    holding.arrive(late)
    assert (served(holding, "two"), served(holding, "four")) == (["late"], ["two", "late"])


def test_numbered_filesets_come_after_those_from_before_there_were_numbers(holding):
    earlier_mirror(holding)
    holding.arrivals.settle(PRODUCT)
    more = [row(name, second) for second, name in enumerate(["five", "six"], start=5)]
    holding.know(*more, ONE, TWO, THREE, FOUR)
    for each in more:
        holding.arrive(each)
    path_of(holding).unlink()
    holding.arrivals.settle(PRODUCT)
    assert holding.entries() == ["one ~0", "two ~0", "three ~0", "four ~0", "five 3", "six 4"]
    assert served(holding, "five") == ["six"]


def test_a_fileset_of_an_earlier_version_that_came_later_is_entered_last(holding):
    holding.arrive(ONE)
    holding.publish(TWO, b"x")
    holding.mark(TWO)
    holding.arrivals.settle(PRODUCT)
    assert holding.entries() == ["one 1", "two ~2"]


def test_dead_entries_are_dropped_when_they_prevail_and_the_order_stays(holding):
    def killed(each):
        with holding.arrivals.entered(Fileset.of(PRODUCT, each), index_of(b"other")):
            pass

    holding.arrive(TWO)
    for _ in range(2):
        killed(THREE)
    holding.arrive(ONE)
    holding.arrivals.settle(PRODUCT)
    assert holding.entries() == ["two 1", "three 2", "three 3", "one 4"], "as many live ones as dead ones"
    killed(FOUR)
    killed(row("two", 9))
    holding.arrivals.settle(PRODUCT)
    assert holding.entries() == ["two 1", "one 4"]
    assert holding.arrive(THREE) == "5"
    assert served(holding) == ["two", "one", "three"]


def test_a_sound_order_is_not_read_again(holding):
    holding.arrive(ONE)
    for path in (path_of(holding), holding.layout.state(PRODUCT) / MarkerKind.DOWNLOADED):
        os.utime(path, (1, 1))
    holding.arrivals.settle(PRODUCT)
    path_of(holding).write_bytes(path_of(holding).read_bytes().replace(b"one|", b"eno|"))
    os.utime(path_of(holding), (1, 1))
    holding.arrivals.settle(PRODUCT)
    assert holding.entries() == ["eno 1"], "nothing shows the damage"
    os.utime(path_of(holding))
    holding.arrivals.settle(PRODUCT)
    assert holding.entries() == ["one 1"]


@pytest.mark.parametrize("hours", [-1, 1])
def test_an_order_is_young_by_the_clock_of_its_file_system(hours, holding, monkeypatch):
    """The clock of this host is an hour behind that of the file server, or ahead of it."""
    there = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: there + hours * 3600 * 10**9)
    monkeypatch.setattr(time, "time", lambda: there / 10**9 + hours * 3600)
    holding.arrive(ONE)
    seen = holding.layout.arrivals_seen(PRODUCT)
    holding.arrivals.settle(PRODUCT)
    assert not seen.exists(), "another change may have the same time"
    for path in (path_of(holding), holding.layout.state(PRODUCT) / MarkerKind.DOWNLOADED):
        os.utime(path, ns=(there - 3 * 10**9, there - 3 * 10**9))
    holding.arrivals.settle(PRODUCT)
    assert seen.exists()


def test_withdrawn_filesets_do_not_stand_at_the_end_of_a_rebuilt_order(holding):
    earlier_mirror(holding)
    write_marker(holding.layout.marker(MarkerKind.WITHDRAWN, PRODUCT, "two"), {})
    holding.arrivals.settle(PRODUCT)
    assert holding.entries() == ["two ~0", "three ~0", "one 1", "four 2"]


def test_a_product_without_a_listing_gets_no_order(tmp_path):
    holding = Holding(Layout(tmp_path))
    assert not holding.arrivals.settle(PRODUCT)
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_a_long_order_is_found_without_the_rest(holding):
    """The header is repeated, whether rows were appended or written anew."""
    rows = [row(f"fileset.{number}", 0, "x" * 3000) for number in range(100)]
    holding.know(*rows)
    for each in rows:
        holding.arrive(each)
    content = path_of(holding).read_bytes()
    assert content.count(b"# filesetID") > 3
    assert len(served(holding)) == 100
    path_of(holding).unlink()
    holding.arrivals.settle(PRODUCT)
    assert path_of(holding).read_bytes() == content
    holding.know(*rows, ONE)
    assert holding.arrive(ONE) == "101"


FILESETS_EACH = 40


def publish_many(root, writer: int) -> None:
    holding = Holding(Layout(root))
    threads = [
        threading.Thread(
            target=lambda half=half: [
                holding.arrive(row(f"{writer}.{number}")) for number in range(half, FILESETS_EACH, 2)
            ]
        )
        for half in (0, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_reader_misses_nothing_while_processes_and_threads_publish(holding):
    """It asks for what is behind its newest fileset, while others ask the same server for everything."""
    names = [f"{writer}.{number}" for writer in (0, 1) for number in range(FILESETS_EACH)]
    holding.know(ONE, *map(row, names))
    holding.arrive(ONE)
    tree = MirrorTree(holding.layout)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=publish_many, args=(holding.layout.root, at)) for at in (0, 1)]
    for writer in writers:
        writer.start()
    stopping = threading.Event()

    def ask() -> None:
        while not stopping.is_set():
            tree.product_listing(PRODUCT)

    others = [threading.Thread(target=ask) for _ in range(2)]
    for other in others:
        other.start()
    seen = ["one"]
    while len(seen) <= len(names):
        ended = not any(writer.is_alive() for writer in writers)
        listing = tree.product_listing(PRODUCT, seen[-1]).decode().splitlines()
        seen += [line.split("|")[0].strip() for line in listing if line and not line.startswith("#")]
        if ended:
            break
    stopping.set()
    for each in (*writers, *others):
        each.join()
    assert sorted(seen) == sorted(["one", *names])
    assert served(holding) == seen


def test_nothing_is_published_between_an_entry_and_its_fileset(holding):
    other = threading.Thread(target=holding.arrive, args=(TWO,))
    with holding.arrivals.entered(Fileset.of(PRODUCT, ONE), index_of(b"x")):
        other.start()
        other.join(timeout=0.3)
        assert holding.entries() == ["one 1"]
        assert served(holding) == []
        holding.publish(ONE, b"x")
    other.join()
    assert served(holding) == ["one", "two"]
