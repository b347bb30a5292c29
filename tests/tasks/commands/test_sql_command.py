"""``ipp-mirror sql``, in a process of its own."""

import json

import pytest
from support.command import ipp_mirror
from support.image_rows import image_row, mirror_with_images

ROWS = [
    image_row(f"data/{n}.fits", 160.7, 41.27, stage=stage) for n, stage in enumerate(("warp", "chip", "chip"))
]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return mirror_with_images(tmp_path_factory.mktemp("site"), ROWS)


def test_the_answer_as_a_table_csv_and_json(config):
    query = "SELECT stage, count(*) AS images, avg(ra) FROM image GROUP BY stage ORDER BY stage"
    shown = ipp_mirror("sql", "--config", config, query)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == "stage  images  avg(ra)\nchip        2    160.7\nwarp        1    160.7\n"
    shown = ipp_mirror("sql", "--config", config, query, "--format", "csv")
    assert shown.stdout == "stage,images,avg(ra)\nchip,2,160.7\nwarp,1,160.7\n"
    shown = ipp_mirror("sql", "--config", config, "SELECT 1 AS a, NULL AS a", "--format", "json")
    assert json.loads(shown.stdout) == [{"a": 1, "a_2": None}]


def test_an_answer_without_rows(config):
    shown = ipp_mirror("sql", "--config", config, "SELECT path FROM image WHERE ra < 0")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "", "the answer has no rows.\n")


@pytest.mark.parametrize(
    ("query", "reason"),
    {
        "DELETE FROM image": "got DELETE, and the catalog is read-only for queries. Nothing was changed",
        "SELECT 1; SELECT 2": "got several statements",
        "SELECT path form image": 'near "image": syntax error',
    }.items(),
)
def test_what_is_no_query_is_one_sentence_and_code_40(config, query, reason):
    refused = ipp_mirror("sql", "--config", config, query)
    assert (refused.returncode, refused.stdout) == (40, "")
    assert refused.stderr == (
        f"ipp-mirror: expected one SQL query that reads the catalog, such as SELECT: {reason}.\n"
    )


def test_a_damaged_catalog_is_one_sentence_and_code_30(tmp_path):
    config = mirror_with_images(tmp_path, ROWS)
    (file,) = (tmp_path / "mirror" / "state" / "catalog").glob("*.sqlite")
    file.write_bytes(b"no database" * 1000)
    refused = ipp_mirror("sql", "--config", config, "SELECT 1")
    assert (refused.returncode, refused.stdout) == (30, "")
    assert refused.stderr == (
        f"ipp-mirror: catalog {file}: file is not a database. Nothing was changed; an update that "
        "meets the damage makes the catalog anew; to do so now: ipp-mirror catalog rebuild\n"
    )
