"""Search for images: against rows that are chosen one by one, in SQLite and in servers."""

import random
import sqlite3
import tracemalloc
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

import pytest
from support.databases import mariadb, postgresql
from support.image_rows import ARRIVED, image_file, image_row, write_images

from pipeline.catalog.columns import COLUMNS, WRITTEN, columns_named
from pipeline.catalog.criteria import criteria_of
from pipeline.catalog.database import Database, database_url
from pipeline.catalog.find import count, find, find_paths
from pipeline.catalog.headers.filters import band_of
from pipeline.catalog.reader import ServerReader, SqliteReader
from pipeline.catalog.sky import Cone
from pipeline.catalog.tables import image

PLACES = [
    (0.1, 0.2),
    (359.9, -0.1),
    (150.1, 2.2),
    (35.9, -4.3),
    (200.0, 89.9017),
    (20.0, 89.8031),
    (10.0, -89.95),
]
STAGES = ("raw", "chip", "warp", "stack")
FILTERS = ("g.00000", "r.00000", "i.00000", "w.00000", "?.00000", "open", "R", None)
BEGAN = datetime(1858, 11, 17, tzinfo=UTC)


def survey(number: int) -> list[dict]:
    """Images at few places, so that cones meet some of them; some have no footprint, some no position."""
    numbers = random.Random(1)
    rows = []
    for place in range(number):
        ra, dec = numbers.choice(PLACES)
        position = ((ra + numbers.gauss(0, 0.3)) % 360, max(-90, min(90, dec + numbers.gauss(0, 0.3))))
        chosen = numbers.choice(FILTERS)
        more = {
            "stage": numbers.choice(STAGES),
            "filter": chosen,
            "band": band_of(chosen),
            "kind": numbers.choice(("image", "image", "image", "mask")),
            "t_min": numbers.choice((None, 55041 + numbers.uniform(0, 3))),
            "exp_name": f"o{numbers.randrange(20):04d}",
            "object": numbers.choice(("MD01", "MD02", "md01", "M%_[1]", None)),
            "skycell": numbers.choice(("skycell.1566.004", "skycell.1566.005", None)),
            "fileset_id": numbers.choice((1, 2)),
        }
        if numbers.random() < 0.1:
            position = (None, None)
        elif numbers.random() < 0.2:
            more |= {"footprint": None, "radius": numbers.choice((None, 0.2))}
        side = numbers.choice((0.05, 0.3, 3.0))
        rows.append(image_row(f"data/{place:04d}.fits", *position, side, **more))
    return rows


ROWS = survey(1500)
COLUMN_NAMES = [column.name for column in image.c]


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory):
    reader = SqliteReader(image_file(tmp_path_factory.mktemp("catalog") / "images.sqlite", ROWS))
    yield reader
    reader.close()


@contextmanager
def reader_of(server):
    """The same images in a database server of that kind."""
    with server() as url:
        write_images(Database(database_url(url)), ROWS)
        with closing(ServerReader(Database(database_url(url), read_only=True))) as reader:
            yield reader


def text_matches(value, patterns):
    return value is not None and any(fnmatchcase(value, pattern) for pattern in patterns)


def filter_matches(name, pattern):
    if name is None:
        return False
    if pattern in set("grizyw"):
        return band_of(name) == pattern
    return fnmatchcase(name, pattern) or fnmatchcase(name.split(".")[0], pattern)


def is_hit(row, kind=("image",), at=None, radius=0.0, after=None, before=None, arrived_since=None, **texts):
    """The criteria once more, row by row and without an index."""
    if at is not None:
        if row["ra"] is None:
            return False
        cone = Cone(*at, radius)
        if row["footprint"]:
            is_near = cone.meets_polygon([float(angle) for angle in row["footprint"].split()])
        else:
            is_near = cone.separation(row["ra"], row["dec"]) <= radius + (row["radius"] or 0)
        if not is_near:
            return False
    start = None if row["t_min"] is None else BEGAN + timedelta(days=row["t_min"])
    if (after and not (start and start >= after)) or (before and not (start and start < before)):
        return False
    if arrived_since and ARRIVED.replace(tzinfo=UTC, day=row["fileset_id"]) < arrived_since:
        return False
    values = row | {"exposure": row["exp_name"], "product": "pq"[row["fileset_id"] - 1]}
    values["data_group"] = f"MD0{row['fileset_id']}"
    filters = texts.pop("filter", None)
    if filters and not any(filter_matches(row["filter"], pattern) for pattern in filters):
        return False
    return all(text_matches(values[name], patterns) for name, patterns in {"kind": kind, **texts}.items())


JULY_29 = datetime(2009, 7, 29, tzinfo=UTC)
AUGUST = datetime(2009, 8, 1, 12, tzinfo=UTC)
QUESTIONS = [
    {},
    *({"at": place} for place in PLACES),
    *({"at": place, "radius": radius} for place in PLACES for radius in (1 / 3600, 0.1, 1.0, 12.0)),
    {"at": (180, 0), "radius": 180},
    {"at": (75.0, 40.0), "radius": 0.5},
    {
        "at": (150.1, 2.2),
        "radius": 0.5,
        "filter": ("r",),
        "stage": ("warp", "chip"),
        "after": datetime(2009, 7, 29, tzinfo=UTC),
    },
    *(
        {"filter": patterns}
        for patterns in (("r",), ("z",), ("r.00000",), ("r", "g"), ("r", "o*"), ("?",), ("[gr]*",), ("x",))
    ),
    *(
        {"object": patterns}
        for patterns in (("MD01",), ("MD0*",), ("M%_[[]1]",), ("MD0[2-9]",), ("M%*",), ("m*", "MD02"))
    ),
    {"exposure": ("o000?",), "kind": ("mask",)},
    {"exposure": ("o0001", "o0002"), "kind": ("*",)},
    {"skycell": ("skycell.1566.00[5-9]",)},
    {"product": ("p",), "stage": ("st*",)},
    {"data_group": ("MD02",)},
    {"after": datetime(2009, 7, 30, tzinfo=UTC), "before": datetime(2009, 7, 31, tzinfo=UTC)},
    {"arrived_since": AUGUST},
    {"arrived_since": AUGUST, "product": ("q",), "at": (150.1, 2.2), "radius": 1.0},
    {"arrived_since": datetime(2009, 8, 3, tzinfo=UTC)},
    {"arrived_since": datetime(900, 1, 1, tzinfo=UTC)},
]


def finds_what_meets_all_criteria(reader, question):
    expected = [row["path"] for row in ROWS if is_hit(row, **question)]
    criteria = criteria_of(**question)
    assert list(find_paths(reader, criteria, "")) == expected, question
    assert count(reader, criteria) == len(expected), question


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_found_are_the_images_that_meet_all_criteria(sqlite, question):
    finds_what_meets_all_criteria(sqlite, question)


@pytest.mark.parametrize("server", [postgresql, mariadb], ids=["postgresql", "mariadb"])
def test_servers_find_the_same(server):
    with reader_of(server) as reader:
        for question in QUESTIONS:
            finds_what_meets_all_criteria(reader, question)
        has_the_values_of_all_columns(reader)


def test_the_questions_find_something():
    numbers = [sum(is_hit(row, **question) for row in ROWS) for question in QUESTIONS]
    assert [QUESTIONS[place] for place, number in enumerate(numbers) if number == 0] == [
        {"at": (75.0, 40.0), "radius": 0.5},
        {"filter": ("x",)},
        {"arrived_since": datetime(2009, 8, 3, tzinfo=UTC)},
    ]


def test_the_values_of_all_columns(sqlite):
    has_the_values_of_all_columns(sqlite)


def has_the_values_of_all_columns(reader):
    first = next(row for row in ROWS if row["kind"] == "image" and row["t_min"] and row["ra"])
    columns = list(COLUMNS.values())
    rows = find(reader, criteria_of(), columns, "/mirror")
    found = dict(zip(COLUMNS, next(row for row in rows if row[0] == f"/mirror/{first['path']}"), strict=True))
    own = {name for name in COLUMN_NAMES if name not in ("path", "base", "image_id")}
    assert {name: found[name] for name in own} == {name: first.get(name) for name in own}
    number = first["fileset_id"]
    assert found["base"] == f"/mirror/{first['base']}"
    assert (found["product"], found["fileset"], found["data_group"]) == (
        "pq"[number - 1],
        f"f{number}",
        f"MD0{number}",
    )
    assert found["arrived"] == datetime(2009, 8, number, tzinfo=UTC)
    assert abs(found["observed"] - (BEGAN + timedelta(days=first["t_min"]))) <= timedelta(milliseconds=1)
    assert found["mask_path"] is None


def test_the_columns_are_those_of_the_table_and_a_few_more():
    more = {"observed", "product", "fileset", "data_group", "registered", "arrived"}
    assert set(COLUMNS) == set(COLUMN_NAMES) | more | {"mask_path", "weight_path", "catalog_path"}
    assert all(column.description and column.ucd for column in COLUMNS.values())


def test_the_siblings_of_an_image(tmp_path):
    rows = [image_row("data/a.fits", 10, 10), image_row("data/b.fits", 10, 10)]
    # As they were downloaded, without bundles.
    rows += [
        image_row(f"store/c.{end}", 10, 10, kind=kind, base="store/c", file_id=number)
        for number, (kind, end) in enumerate((("image", "fits"), ("mask", "mk.fits"), ("weight", "wt.fits")))
    ]
    members = [
        {"fileset_id": 1, "path": f"data/a.{end}", "base": "data/a", "kind": kind}
        for kind, end in (("image", "fits"), ("mask", "mk.fits"), ("weight", "wt.fits"), ("catalog", "cmf"))
    ]
    reader = SqliteReader(image_file(tmp_path / "c.sqlite", rows, members))
    columns = columns_named(["path", "mask_path", "weight_path", "catalog_path"])
    assert list(find(reader, criteria_of(), columns, "/m")) == [
        ("/m/data/a.fits", "/m/data/a.mk.fits", "/m/data/a.wt.fits", "/m/data/a.cmf"),
        ("/m/data/b.fits", None, None, None),
        ("/m/store/c.fits", "/m/store/c.mk.fits", "/m/store/c.wt.fits", None),
    ]
    reader.close()


def test_the_path_of_a_file_with_several_images_comes_once(tmp_path):
    rows = [image_row("data/a.fits", 10, 10, extension=number) for number in range(3)]
    reader = SqliteReader(image_file(tmp_path / "c.sqlite", [*rows, image_row("data/b.fits", 10, 10)]))
    assert list(find_paths(reader, criteria_of(), "/m")) == ["/m/data/a.fits", "/m/data/b.fits"]
    assert count(reader, criteria_of()) == 4
    reader.close()


def test_a_start_is_compared_as_it_is_shown_to_the_millisecond(tmp_path):
    midnight = 55042.0
    starts = {"a": midnight - 1e-11, "b": midnight, "c": midnight + 1e-11, "d": midnight - 1e-3 / 86_400}
    rows = [image_row(f"{name}.fits", 10, 10, t_min=start) for name, start in starts.items()]
    reader = SqliteReader(image_file(tmp_path / "c.sqlite", rows))
    at = "2009-07-30T00:00:00"
    assert list(find_paths(reader, criteria_of(after=at), "")) == ["a.fits", "b.fits", "c.fits"]
    assert list(find_paths(reader, criteria_of(before=at), "")) == ["d.fits"]
    assert count(reader, criteria_of(night="2009-07-30")) == 3
    assert count(reader, criteria_of(night="2009-07-29")) == 1
    reader.close()


def test_an_empty_catalog(tmp_path):
    path = image_file(tmp_path / "c.sqlite", [image_row("data/a.fits", 10, 10)])
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM image")
    connection.close()
    reader = SqliteReader(path)
    assert list(find_paths(reader, criteria_of(at=(10, 10), radius=5), "")) == []
    assert count(reader, criteria_of()) == 0
    reader.close()


class Explaining:
    """Reader that keeps the plans of its queries."""

    has_statistics = False

    def __init__(self, reader):
        self.reader, self.plans = reader, []

    def rows(self, sql, parameters):
        self.plans.append([row[3] for row in self.reader.rows(f"EXPLAIN QUERY PLAN {sql}", parameters)])
        return self.reader.rows(sql, parameters)

    def stored(self, time):
        return self.reader.stored(time)


SKY, STAGE, TIME = (
    "USING INDEX image_sky (size_class=?",
    "USING INDEX image_stage (stage=?",
    "USING INDEX image_time",
)
PLANS = {
    SKY: [
        {"at": (150.1, 2.2)},
        {"at": (150.1, 2.2), "radius": 5.0, "filter": "r", "stage": "warp", "after": AUGUST},
        {"at": (150.1, 2.2), "exposure": "o0001", "arrived_since": AUGUST},
    ],
    STAGE: [{"stage": "warp"}, {"stage": "warp", "filter": "r", "night": "2009-07-29"}],
    TIME: [{"night": "2009-07-29"}, {"night": "2009-07-29", "object": "MD0*"}],
    "USING INDEX image_exp_name (exp_name=?": [{"exposure": "o0001"}],
    "USING INDEX image_exp_name (exp_name>? AND exp_name<?)": [{"exposure": "o000*"}],
    "USING INDEX image_skycell (skycell=?": [{"skycell": "skycell.1566.004"}],
    "fileset USING COVERING INDEX fileset_arrived (arrived>?)": [{"arrived_since": AUGUST}],
}


@pytest.mark.parametrize(
    ("index", "question"), [(index, question) for index in PLANS for question in PLANS[index]]
)
def test_queries_use_an_index(sqlite, index, question):
    explaining = Explaining(sqlite)
    list(find_paths(explaining, criteria_of(**question), ""))
    assert any(index in line for line in explaining.plans[-1]), explaining.plans[-1]
    assert all("SCAN image" not in line for plan in explaining.plans for line in plan), explaining.plans


def test_memory_stays_flat(sqlite):
    columns = columns_named(WRITTEN)
    list(find(sqlite, criteria_of(at=(150.1, 2.2), radius=180), columns, ""))
    tracemalloc.start()
    for _ in find(sqlite, criteria_of(at=(150.1, 2.2), radius=180), columns, ""):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All rows together are a megabyte.
    assert peak < 300_000
