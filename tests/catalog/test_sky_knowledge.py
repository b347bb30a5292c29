"""Knowledge of filesets that are not here, by the catalog."""

import math
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import column, insert, table
from support.catalog import PRODUCT, add_chips, dbinfo, image_bytes
from support.catalog_rows import RAW_EXP, add_fileset, add_image, add_product
from support.command import ended
from support.databases import mariadb, postgresql
from support.follower import Follower
from support.upstream import Upstream

from pipeline.catalog.database import Database, database_url
from pipeline.catalog.opening import create_file
from pipeline.catalog.reader import ServerReader, SqliteReader
from pipeline.catalog.schema import create_schema
from pipeline.catalog.sky_knowledge import CatalogedFilesets, sky_knowledge
from pipeline.config import Near, Product, Settings
from pipeline.datastore.listing import FilesetRow
from pipeline.mirror.state.layout import Layout
from tasks import MirroredProduct

STACK_RUN = table("stack_run", *map(column, ("fileset_id", "row_number", "stack_id", "skycell_id")))
WARP_SKYFILE = table("warp_skyfile", *map(column, ("fileset_id", "row_number", "warp_id", "skycell_id")))
INPUT = table(
    "diff_input_skyfile", *map(column, ("fileset_id", "row_number", "skycell_id", "stack1", "stack2"))
)
COLUMNS = ("filesetID", "time registered", "type", "stage", "stage_id", "exp_name")


def row(stage: str = "chip", stage_id: str = "1", exp_name: str = "null") -> FilesetRow:
    """A fileset that is not here."""
    values = ("name", "2009-08-01T00:00:00Z", "IPP-DIST", stage, stage_id, exp_name)
    return FilesetRow(*values[:3], COLUMNS, values)


def cone(ra: float, dec: float, radius: float) -> Near:
    """The condition of a selection."""
    return Near(ra=ra, dec=dec, radius=radius)


def fill(connection: Any) -> None:
    """Add what is here: see each test."""
    here, elsewhere = add_product(connection, "p"), add_product(connection, "q")

    def fileset(stage: str, stage_id: int, product: int = here, **values: Any) -> int:
        name = f"{stage}.{stage_id}.{len(values)}.{product}.{values.get('content')}"
        return add_fileset(connection, product, name, stage=stage, stage_id=str(stage_id), **values)

    def write(into: Any, **values: Any) -> None:
        connection.execute(insert(into).values(row_number=1, **values))

    raw = fileset("raw", 1, exp_name="pointed")
    write(RAW_EXP, fileset_id=raw, exp_name="pointed", ra=math.radians(100), decl=math.radians(10))
    chips = fileset("chip", 2, exp_name="across", content="full")
    for ra in (359.2, 0.8):
        add_image(connection, chips, f"across.{ra}", ra, 0.0)
    add_image(connection, fileset("chip", 3, exp_name="part"), "part", 50.0, 0.0)
    add_image(connection, fileset("stack", 4, exp_name="stack.4"), "stack", 200.0, 60.0, skycell="skycell.4")
    warp = fileset("warp", 5, exp_name="pointed")
    for name in ("skycell.4", "skycell.5"):
        write(WARP_SKYFILE, fileset_id=warp, warp_id=5, skycell_id=name)
    other = fileset("warp", 6, product=elsewhere, exp_name="across")
    write(WARP_SKYFILE, fileset_id=other, warp_id=6, skycell_id="skycell.of.another.tessellation")
    diff = fileset("diff", 7, exp_name="pointed")
    write(INPUT, fileset_id=diff, skycell_id="skycell.4", stack1=8, stack2=None)
    write(STACK_RUN, fileset_id=fileset("stack", 9), stack_id=9, skycell_id="skycell.9")
    fileset("chip", 10, content="clean")
    for content, day in (("full", 2), ("clean", 3)):
        fileset("chip", 11, content=content, registered=datetime(2009, 8, day))


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Iterator[CatalogedFilesets]:
    """Knowledge of a catalog for product p."""
    layout = Layout(tmp_path_factory.mktemp("mirror"))
    database = create_file(layout, layout.catalog / "000001.sqlite")
    database.transact(fill)
    database.close()
    with closing(SqliteReader(Path(str(database.url.database)))) as reader:
        yield CatalogedFilesets(reader, "p", is_whole=True)


NEAR = {
    # Within 1.65 degrees about the pointing, and the radius.
    ("chip", "99", "pointed", 102.1, 10.0, 0.5): True,
    ("chip", "99", "pointed", 103.0, 10.0, 0.5): False,
    # The images of the same run, on both sides of right ascension 0.
    ("chip", "2", "across", 358.95, 0.0, 0.1): True,
    ("chip", "2", "across", 1.3, 0.0, 0.1): False,
    ("chip", "2", "across", 180.0, 0.0, 10.0): False,
    # The same exposure: the field may reach to 1.65 degrees beyond what is known of it.
    ("warp", "99", "across", 2.2, 0.0, 0.1): True,
    ("warp", "99", "across", 3.0, 0.0, 0.1): False,
    ("warp", "99", "part", 53.0, 0.0, 0.1): True,
    ("warp", "99", "part", 53.5, 0.0, 0.1): False,
    ("stack", "4", "stack.4", 200.0, 60.4, 0.3): True,
    ("stack", "4", "stack.4", 202.0, 60.0, 0.3): False,
    # The sky cell of another stack.
    ("stack", "8", "stack.8", 200.0, 60.1, 0.1): True,
    ("stack", "8", "stack.8", 10.0, 60.1, 0.1): False,
    # A sky cell of which no image is here; nothing at all.
    ("stack", "9", "stack.9", 200.0, 60.0, 0.1): None,
    ("stack", "99", "stack.99", 200.0, 60.0, 0.1): None,
    ("null", "null", "null", 200.0, 60.0, 0.1): None,
}


@pytest.mark.parametrize("asked", NEAR)
def test_where_a_fileset_is(asked, known):
    assert known.is_near(row(*asked[:3]), cone(*asked[3:])) is NEAR[asked]


SKYCELLS = {
    ("warp", "5", "pointed"): {"skycell.4", "skycell.5"},
    ("chip", "99", "pointed"): {"skycell.4", "skycell.5"},
    ("stack", "8", "stack.8"): {"skycell.4"},
    ("stack", "9", "stack.9"): {"skycell.9"},
    ("stack", "99", "stack.99"): None,
    # Its warps are in another product.
    ("chip", "99", "across"): None,
}


@pytest.mark.parametrize("asked", SKYCELLS)
def test_which_sky_cells_a_fileset_has(asked, known):
    assert known.skycells(row(*asked)) == SKYCELLS[asked]


def test_whether_a_fileset_is_clean(known):
    asked = {"2": False, "10": True, "11": True, "3": None, "99": None, "null": None}
    assert {number: known.is_clean(row(stage_id=number)) for number in asked} == asked


@pytest.mark.parametrize("server", [postgresql, mariadb])
def test_servers_tell_the_same(server):
    with server() as url:
        database = Database(database_url(url))
        create_schema(database, {"id": "1", "generation": "1"})
        database.transact(fill)
        with closing(ServerReader(database)) as reader:
            known = CatalogedFilesets(reader, "p", is_whole=True)
            near = {each: known.is_near(row(*each[:3]), cone(*each[3:])) for each in NEAR}
            cells = {each: known.skycells(row(*each)) for each in SKYCELLS}
            clean = [known.is_clean(row(stage_id=number)) for number in ("2", "10", "99")]
    assert (near, cells, clean) == (NEAR, SKYCELLS, [False, True, None])


def test_without_need_no_catalog_is_opened(tmp_path: Path):
    for select, enabled in (({"stage": "chip"}, True), ({"clean": False}, False)):
        settings = Settings.model_validate(
            {
                "source": {"url": "http://h/ds"},
                "mirror": {"root": str(tmp_path)},
                "catalog": {"enabled": enabled},
            }
        )
        product = Product.model_validate({"name": "p", "select": select})
        with sky_knowledge(settings, Layout(tmp_path), product) as sky:
            assert (sky.is_whole, sky.state) == (True, None)


def test_an_update_fetches_what_is_near(upstream: Upstream, follower: Follower):
    """Two exposures are known by their chips: what comes later of the one in the field is fetched."""
    select = {"near": {"ra": "02:23:36", "dec": "-04:18:00", "radius": "30arcmin"}}
    follower.mirror["products"] = [{"name": PRODUCT, "select": select}]
    follower.catalog["enabled"] = True
    for number, ra in (("1", 35.9), ("2", 200.0)):
        files = {f"o{number}.ch.fits": image_bytes(ra=ra)}
        add_chips(upstream, f"chip.{number}", int(number), files, exp_name=f"o{number}", stage_id=number)
    assert follower.update().code == 0
    assert follower.marked("extracted", PRODUCT) == {"chip.1", "chip.2"}
    for number in ("1", "2", "3"):
        document = dbinfo(int(number) + 4)
        add_chips(
            upstream,
            f"again.{number}",
            int(number) + 4,
            {f"p{number}.ch.fits": image_bytes()},
            document=document,
            component=f"XY1{number}",
            exp_name=f"o{number}",
            stage_id=str(int(number) + 4),
        )
    command = Path(follower.command()[0]).with_name("ipp-mirror")
    plan = ended([str(command), "plan", "--config", str(follower.config)])
    assert plan.output.splitlines()[1].split()[1:7] == ["5", "3", "1", "0", "0", "2"], plan.output
    result = follower.update()
    assert (result.code, "2 selected: 2 extracted" in result.output) == (0, True), result.output
    assert follower.marked("extracted", PRODUCT) == {"chip.1", "chip.2", "again.1", "again.3"}
    assert MirroredProduct(product=PRODUCT, config=str(follower.config)).complete()
    # The catalog is lost: nothing of unknown position is fetched before it is made anew.
    for path in (follower.root / "state" / "catalog").iterdir():
        path.unlink()
    lost = follower.update()
    assert "others that it does not know wait for the update after these are cataloged" in lost.output
    assert follower.update().code == 0
    assert follower.marked("extracted", PRODUCT) == {"chip.1", "chip.2", "again.1", "again.3"}
